"""Iterative reconstruction of a whole scan: labels for networks, and the refinement of a mosaic.

The engines are those of the library pty-chi (Advanced Photon Source; `ptychi` on PyPI, tested with 2.2.0).
This module speaks the project's conventions to them and keeps torch's global defaults as they were.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model.judge import forward_residual
from model.optics import intensity

Complex = NDArray[np.complex64]
Engine = Literal["epie", "difference-map", "least-squares"]
Device = Literal["auto", "cpu", "cuda"]

_CHECKS = 5  # how often the residual is taken, beside that of the start
_RIM_PX = 1  # around the object: pty-chi warns, and pads at every step, where patches touch its edge
_OPTIONS: dict[Engine, str] = {
    "epie": "EPIEOptions",
    "difference-map": "DMOptions",
    "least-squares": "LSQMLOptions",
}


@dataclass(frozen=True, slots=True)
class IterativeSettings:
    """How a scan is reconstructed.

    Attributes:
        engine: "epie", Maiden & Rodenburg, Ultramicroscopy 109, 1256 (2009), the object's updates of a batch
            summed; "difference-map", Thibault et al., Ultramicroscopy 109, 338 (2009), where pty-chi damps
            the object towards 0 in faint light, so that a residual of some percent remains;
            "least-squares", Odstrčil et al., Opt. Express 26, 3108 (2018).
        iterations: passes over all frames.
        batch: frames taken at once; it matters to the speed of every engine and, but for the difference map,
            to how much each iteration gains: ePIE's steps are the shorter the more a batch overlaps.
        update_probe: whether the probe is reconstructed too, at the power it came with, its modes orthogonal.
        seed: of the order of the frames.
        device: "auto" takes the GPU where there is one.
    """

    engine: Engine = "least-squares"
    iterations: int = 50
    batch: int = 64
    update_probe: bool = True
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        """Raise ValueError where a setting is out of its range or the device is not there."""
        if self.engine not in _OPTIONS:
            raise ValueError(f"no engine {self.engine!r}: take one of {', '.join(_OPTIONS)}")
        if self.iterations < 1 or self.batch < 1:
            raise ValueError(
                f"{self.iterations} iterations, batches of {self.batch}: both must be at least 1"
            )
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError('torch sees no GPU: is its CUDA build installed? Device "cpu" needs none')


@dataclass(frozen=True, slots=True, eq=False)
class IterativeResult:
    """A reconstructed scan.

    Attributes:
        object: (Y, X) complex64; frame n saw `object[y : y + H, x : x + W]` with y, x = `top_left_px[n]`.
        probe: (M, H, W) complex64 modes, square-root photons a pixel.
        top_left_px: (N, 2) float64 top-left (row, column) of each frame's patch in `object`.
        seconds: that the iterations took, without set-up and residuals.
        seconds_per_frame: the same for each of the N frames, all iterations.
        residuals: iteration → `model.judge.forward_residual` after it, of about five iterations; 0 is
            before the first.
        iterations: passes over all frames.
    """

    object: Complex
    probe: Complex
    top_left_px: NDArray[np.float64]
    seconds: float
    seconds_per_frame: float
    residuals: dict[int, float]
    iterations: int


@dataclass(frozen=True, slots=True, eq=False)
class _Scan:
    """What is reconstructed from, checked; shapes as `reconstruct` takes them."""

    counts: NDArray[np.float32]
    probe: Complex
    top_left_px: NDArray[np.float64]
    start: Complex

    @property
    def unitary(self) -> float:
        """√(H·W): pty-chi transforms without a norm, so its probe is weaker by this than a unitary one."""
        return float(np.sqrt(self.probe[0].size))

    def residual(self, transmission: Complex, probe: Complex) -> float:
        return forward_residual(probe, transmission, self.counts, self.top_left_px)


def reconstruct(
    counts: NDArray[Any],
    top_left_px: NDArray[np.floating[Any]],
    probe: Complex,
    settings: IterativeSettings,
    start: Complex | None = None,
    object_shape: tuple[int, int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> IterativeResult:
    """Reconstruct a scan.

    The model is I = Σ_m |F(P_m·O)|² with `model.optics.spectrum`; a fraction of a pixel in the positions
    shifts the probe. pty-chi shifts only the dominant mode: round the positions where weaker modes matter
    more than half a pixel.

    Args:
        counts: (N, H, W) photons a pixel, zero frequency at [H // 2, W // 2]. Every pixel counts: fill
            masked ones.
        top_left_px: (N, 2) top-left (row, column) of each frame's patch in the object, with fractions.
        probe: (M, H, W) complex64 modes, square-root photons a pixel, the dominant mode first.
        settings: of the engine.
        start: (Y, X) object to start from, else an empty one.
        object_shape: (Y, X) of the object, else that of `start`, else the smallest that holds all patches.
        progress: called with the number of iterations done, after each.

    Raises:
        ValueError: the arrays do not fit each other, a patch reaches beyond the object, or the engine
            diverged.
    """
    scan = _checked(counts, top_left_px, probe, start, object_shape)
    with _globals_kept():
        return _iterate(scan, settings, progress)


def _iterate(
    scan: _Scan, settings: IterativeSettings, progress: Callable[[int], None] | None
) -> IterativeResult:
    task = _task(scan, settings)
    transmission, probe = scan.start, scan.probe
    residuals = {0: scan.residual(transmission, probe)}
    checks = _check_at(settings.iterations)
    seconds = 0.0
    for iteration in range(1, settings.iterations + 1):
        seconds += _timed_pass(task)
        if progress is not None:
            progress(iteration)
        if iteration in checks:
            transmission, probe = _reconstructed(task, scan)
            residuals[iteration] = scan.residual(transmission, probe)
            _refuse_divergence(residuals[iteration], iteration)
    return IterativeResult(
        object=transmission,
        probe=probe,
        top_left_px=scan.top_left_px,
        seconds=seconds,
        seconds_per_frame=seconds / len(scan.counts),
        residuals=residuals,
        iterations=settings.iterations,
    )


def _checked(
    counts: NDArray[Any],
    top_left_px: NDArray[np.floating[Any]],
    probe: Complex,
    start: Complex | None,
    object_shape: tuple[int, int] | None,
) -> _Scan:
    """Return the scan in the types that pty-chi takes.

    Raises:
        ValueError: the arrays do not fit each other, or hold what no count can be.
    """
    if counts.ndim != 3 or np.shape(top_left_px) != (len(counts), 2) or not len(counts):
        raise ValueError(
            f"counts {counts.shape} and positions {np.shape(top_left_px)} do not fit: "
            "(N, H, W) and (N, 2) are needed"
        )
    if probe.ndim != 3 or probe.shape[1:] != counts.shape[1:]:
        raise ValueError(f"the probe {probe.shape} must be (modes, H, W) of the frames {counts.shape}")
    if not (np.isfinite(counts).all() and np.isfinite(probe).all() and np.isfinite(top_left_px).all()):
        raise ValueError("counts, probe or positions hold NaN or infinity: were masked pixels filled?")
    if counts.min() < 0 or not counts.any() or not probe.any():
        raise ValueError("counts must be photons, 0 or more, and neither they nor the probe all dark")
    corners = np.array(top_left_px, dtype=np.float64)
    empty = _empty_object(corners, counts.shape[1:], start, object_shape)
    return _Scan(np.asarray(counts, np.float32), np.array(probe, np.complex64), corners, empty)


def _empty_object(
    corners: NDArray[np.float64],
    patch: tuple[int, ...],
    start: Complex | None,
    object_shape: tuple[int, int] | None,
) -> Complex:
    """Return the object to start from: the given one or ones.

    Raises:
        ValueError: it does not fit, or a patch reaches beyond it.
    """
    needed = np.ceil(corners.max(axis=0)).astype(int) + np.array(patch)
    shape = object_shape or (start.shape if start is not None else tuple(needed.tolist()))
    if start is not None and start.shape != tuple(shape):
        raise ValueError(f"the start {start.shape} is not of the object's shape {tuple(shape)}")
    if len(shape) != 2 or corners.min() < 0 or (needed > np.array(shape)).any():
        raise ValueError(
            f"patches of {patch} from {corners.min(axis=0)} to {corners.max(axis=0)} reach beyond the object "
            f"{tuple(shape)}: are the positions top-left corners in pixels?"
        )
    return np.ones(shape, np.complex64) if start is None else np.array(start, np.complex64)


def _check_at(iterations: int) -> set[int]:
    return {int(i) for i in np.ceil(np.linspace(0, iterations, _CHECKS + 1))[1:]}


def _task(scan: _Scan, settings: IterativeSettings) -> Any:
    """Return pty-chi's task on the scan, ready to run."""
    ptychi_task = _imported("ptychi.api.task")
    task = ptychi_task.PtychographyTask(
        _options(scan, settings),
        diffraction_data=np.fft.ifftshift(scan.counts, axes=(-2, -1)),
        object_data=np.pad(scan.start, _RIM_PX, constant_values=1)[None],
        probe_data=(scan.probe / scan.unitary)[None],
        probe_position_y_px=scan.top_left_px[:, 0],
        probe_position_x_px=scan.top_left_px[:, 1],
        # its own default, but that is announced on the root logger, which installs a handler there
        opr_mode_weights_data=np.ones((len(scan.counts), 1), np.float32),
    )
    task.reconstructor.dataloader.generator.manual_seed(settings.seed)
    return task


def _options(scan: _Scan, settings: IterativeSettings) -> Any:
    """Return the engine's options, in pty-chi's words."""
    api = _imported("ptychi.api")
    options = getattr(api, _OPTIONS[settings.engine])()
    options.data_options.fft_shift = False  # it would misplace the centre of odd frames
    options.reconstructor_options.num_epochs = settings.iterations
    options.reconstructor_options.default_device = api.Devices.GPU if _on_gpu(settings) else api.Devices.CPU
    _set_object_options(options.object_options, scan)
    _set_probe_options(options.probe_options, scan, settings.update_probe)
    _ENGINE_OPTIONS[settings.engine](options, scan, settings.batch)
    return options


def _on_gpu(settings: IterativeSettings) -> bool:
    return settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())


def _set_object_options(options: Any, scan: _Scan) -> None:
    """Take positions as top-left corners and leave the power to the probe's constraint.

    pty-chi's patch starts at position + origin − (side − 1) / 2.
    """
    height, width = scan.probe.shape[1:]
    options.determine_position_origin_coords_by = "specified"
    options.position_origin_coords = [(height - 1) / 2 + _RIM_PX, (width - 1) / 2 + _RIM_PX]
    options.remove_object_probe_ambiguity.enabled = False


def _set_probe_options(options: Any, scan: _Scan, update: bool) -> None:
    """Keep the probe as it is, or let it change at the power it has."""
    options.optimizable = update
    options.orthogonalize_incoherent_modes.enabled = update and len(scan.probe) > 1
    options.power_constraint.enabled = update
    options.power_constraint.probe_power = float(intensity(scan.probe / scan.unitary).sum())


def _set_epie_options(options: Any, scan: _Scan, batch: int) -> None:
    options.reconstructor_options.batch_size = batch
    options.object_options.alpha = 1 / max(1.0, _overlap_in_batch(scan, batch))
    options.probe_options.alpha = 1.0


def _overlap_in_batch(scan: _Scan, batch: int) -> float:
    """Return how often a batch lights the brightest pixel of the object, in full probes.

    pty-chi sums the updates of a batch, so ePIE's step has to be shorter by this.
    """
    light = intensity(scan.probe)
    coverage = np.zeros(scan.start.shape, light.dtype)
    height, width = light.shape
    for y, x in np.round(scan.top_left_px).astype(int).tolist():
        coverage[y : y + height, x : x + width] += light
    return float(coverage.max() / light.max()) * min(1.0, batch / len(scan.counts))


def _set_difference_map_options(options: Any, _: _Scan, batch: int) -> None:
    options.reconstructor_options.chunk_length = batch
    options.reconstructor_options.displayed_loss_function = None  # it has but one, and warns of another


def _set_least_squares_options(options: Any, _: _Scan, batch: int) -> None:
    options.reconstructor_options.batch_size = batch
    options.reconstructor_options.rescale_probe_intensity_in_first_epoch = False


_ENGINE_OPTIONS: dict[Engine, Callable[[Any, _Scan, int], None]] = {
    "epie": _set_epie_options,
    "difference-map": _set_difference_map_options,
    "least-squares": _set_least_squares_options,
}


def _timed_pass(task: Any) -> float:
    """Run one iteration and return its seconds."""
    start = time.perf_counter()
    task.run(1)
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _reconstructed(task: Any, scan: _Scan) -> tuple[Complex, Complex]:
    """Return object (Y, X) and probe (M, H, W) as they stand, in the project's conventions."""
    framed = task.get_data_to_cpu("object", as_numpy=True)[0]
    transmission = framed[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX].copy()
    return transmission, task.get_data_to_cpu("probe", as_numpy=True)[0] * scan.unitary


def _refuse_divergence(residual: float, iteration: int) -> None:
    if not np.isfinite(residual):
        raise ValueError(
            f"the engine diverged by iteration {iteration}: take a smaller batch, and check that the "
            "probe's power fits the counts"
        )


@contextmanager
def _globals_kept() -> Iterator[None]:
    """Keep torch's default device and type, and pty-chi's loggers quiet, while its task runs."""
    device, dtype, log = torch.get_default_device(), torch.get_default_dtype(), logging.getLogger("ptychi")
    level = log.level
    log.setLevel(logging.ERROR)  # above INFO: no progress bar either
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True", UserWarning)
            yield
    finally:
        # None is the CPU too, but without the mode that costs a little at every call
        torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_default_dtype(dtype)
        log.setLevel(level)


def _imported(name: str) -> ModuleType:
    """Import a part of pty-chi when it is needed: it takes seconds and brings matplotlib and pandas along.

    pty-chi names one class of torchvision, a blur that is not used here. So that it can be imported beside
    any build of torch, an empty torchvision stands in for the real one where that cannot be imported.

    Raises:
        ValueError: pty-chi is not installed.
    """
    if name not in sys.modules and find_spec("ptychi") is None:
        raise ValueError("iterative engines need pty-chi: pip install 'ptycholive[iterative]'")
    stand_in = {} if name in sys.modules or torchvision_works() else _empty_torchvision()
    sys.modules.update(stand_in)
    try:
        return import_module(name)
    finally:
        for module in stand_in:
            del sys.modules[module]


def torchvision_works() -> bool:
    """Return whether torchvision can be imported.

    Its wheel on PyPI is built for CUDA: beside a CPU build of torch the import ends at the first of its
    compiled operators.
    """
    try:
        import_module("torchvision.transforms")
    except ModuleNotFoundError:
        return False
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        return False
    return True


def _empty_torchvision() -> dict[str, ModuleType]:
    transforms = ModuleType("torchvision.transforms")
    vars(transforms)["GaussianBlur"] = None
    return {"torchvision": ModuleType("torchvision"), transforms.__name__: transforms}
