"""The engines of the library pty-chi (Advanced Photon Source; `ptychi` on PyPI, tested with 2.2.0).

This module speaks the project's conventions to them and keeps torch's global defaults as they were.
"""

from __future__ import annotations

import logging
import sys
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

from model.optics import illumination, intensity
from training.judging.iterative_frames import Frames
from training.judging.stopwatch import Spent, timed

Complex = NDArray[np.complex64]
Engine = Literal["epie", "rpie", "difference-map", "least-squares"]
Device = Literal["auto", "cpu", "cuda"]

_RIM_PX = 1  # around the object: pty-chi warns, and pads at every step, where patches touch its edge
_RPIE_ALPHA = 0.6  # as of `model.refinement`
_OPTIONS: dict[Engine, str] = {
    "epie": "EPIEOptions",
    "rpie": "RPIEOptions",
    "difference-map": "DMOptions",
    "least-squares": "LSQMLOptions",
}


@dataclass(frozen=True, slots=True)
class IterativeSettings:
    """How a scan is reconstructed.

    Attributes:
        engine: "epie", Maiden & Rodenburg, Ultramicroscopy 109, 1256 (2009), and "rpie", Maiden, Johnson &
            Li, Optica 4, 736 (2017), the object's updates of a batch summed; "difference-map", Thibault et
            al., Ultramicroscopy 109, 338 (2009), where pty-chi damps the object towards 0 in faint light, so
            that a residual of some percent remains; "least-squares", Odstrčil et al., Opt. Express 26, 3108
            (2018).
        iterations: passes over all frames.
        batch: frames taken at once; it matters to the speed of every engine and, but for the difference map,
            to how much each iteration gains: ePIE's steps are the shorter the more a batch overlaps.
        update_probe: whether the probe is reconstructed too, at the power it came with, its modes orthogonal.
        correct_positions: whether frames are moved to where they fit best, by fractions of a pixel; the
            difference map cannot.
        seed: of the order of the frames.
        device: "auto" takes the GPU where there is one.
    """

    engine: Engine = "least-squares"
    iterations: int = 50
    batch: int = 64
    update_probe: bool = True
    correct_positions: bool = False
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
        if self.correct_positions and self.engine == "difference-map":
            raise ValueError("the difference map corrects no positions: take another engine")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError('torch sees no GPU: is its CUDA build installed? Device "cpu" needs none')


class PtyChiRun:
    """A scan under one of pty-chi's engines; torch's global defaults are its own only while it works.

    Args:
        scan: frames, probe, positions and start.
        settings: of the engine; `iterations` is what it announces to it, and no limit.

    Raises:
        ValueError: pty-chi is not installed.
    """

    def __init__(self, scan: Frames, settings: IterativeSettings) -> None:
        self._scan = scan
        with _globals_kept():
            self._task = _task(scan, settings)
            self._device, self._dtype = torch.get_default_device(), torch.get_default_dtype()

    def iterate(self) -> Spent:
        """Take all frames once; return what it took."""
        with _globals_kept():
            torch.set_default_device(self._device)
            torch.set_default_dtype(self._dtype)
            return timed(self._pass)[1]

    def _pass(self) -> None:
        self._task.run(1)
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def found(self) -> tuple[Complex, Complex]:
        """Return object (Y, X) and probe (M, H, W) as they stand, in the project's conventions."""
        framed = self._task.get_data_to_cpu("object", as_numpy=True)[0]
        transmission = framed[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX].copy()
        return transmission, self._task.get_data_to_cpu("probe", as_numpy=True)[0] * _unitary(self._scan)

    def top_left_px(self) -> NDArray[np.float64]:
        """Return (N, 2) where the frames lie now, in the object that `found` returns."""
        rows, columns = (
            np.asarray(read(as_numpy=True), np.float64)
            for read in (self._task.get_probe_positions_y, self._task.get_probe_positions_x)
        )
        return np.stack([rows, columns], axis=1)


def _task(scan: Frames, settings: IterativeSettings) -> Any:
    """Return pty-chi's task on the scan, ready to run."""
    api = imported("ptychi.api.task")
    task = api.PtychographyTask(
        _options(scan, settings),
        diffraction_data=np.fft.ifftshift(scan.counts, axes=(-2, -1)),
        object_data=np.pad(scan.start, _RIM_PX, constant_values=1)[None],
        probe_data=(scan.probe / _unitary(scan))[None],
        probe_position_y_px=scan.top_left_px[:, 0],
        probe_position_x_px=scan.top_left_px[:, 1],
        valid_pixel_mask=None if scan.valid is None else np.fft.ifftshift(scan.valid),
        # its own default, but that is announced on the root logger, which installs a handler there
        opr_mode_weights_data=np.ones((len(scan.counts), 1), np.float32),
    )
    task.reconstructor.dataloader.generator.manual_seed(settings.seed)
    return task


def _unitary(scan: Frames) -> float:
    """Return √(H·W): pty-chi transforms without a norm, so its probe is weaker by this than a unitary one."""
    return float(np.sqrt(scan.probe[0].size))


def _options(scan: Frames, settings: IterativeSettings) -> Any:
    """Return the engine's options, in pty-chi's words."""
    api = imported("ptychi.api")
    options = getattr(api, _OPTIONS[settings.engine])()
    options.data_options.fft_shift = False  # it would misplace the centre of odd frames
    options.reconstructor_options.num_epochs = settings.iterations
    options.reconstructor_options.default_device = api.Devices.GPU if _on_gpu(settings) else api.Devices.CPU
    _set_object_options(options.object_options, scan)
    _set_probe_options(options.probe_options, scan, settings.update_probe)
    options.probe_position_options.optimizable = settings.correct_positions
    _ENGINE_OPTIONS[settings.engine](options, scan, settings.batch)
    return options


def _on_gpu(settings: IterativeSettings) -> bool:
    return settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())


def _set_object_options(options: Any, scan: Frames) -> None:
    """Take positions as top-left corners and leave the power to the probe's constraint.

    pty-chi's patch starts at position + origin − (side − 1) / 2.
    """
    height, width = scan.probe.shape[1:]
    options.determine_position_origin_coords_by = "specified"
    options.position_origin_coords = [(height - 1) / 2 + _RIM_PX, (width - 1) / 2 + _RIM_PX]
    options.remove_object_probe_ambiguity.enabled = False


def _set_probe_options(options: Any, scan: Frames, update: bool) -> None:
    """Keep the probe as it is, or let it change at the power it has."""
    options.optimizable = update
    options.orthogonalize_incoherent_modes.enabled = update and len(scan.probe) > 1
    options.power_constraint.enabled = update
    options.power_constraint.probe_power = float(intensity(scan.probe / _unitary(scan)).sum())


def _set_epie_options(options: Any, scan: Frames, batch: int) -> None:
    options.reconstructor_options.batch_size = batch
    options.object_options.alpha = 1 / max(1.0, _overlap_in_batch(scan, batch))
    options.probe_options.alpha = 1.0


def _set_rpie_options(options: Any, scan: Frames, batch: int) -> None:
    options.reconstructor_options.batch_size = batch
    options.object_options.alpha = options.probe_options.alpha = _RPIE_ALPHA
    options.object_options.step_size = 1 / max(1.0, _overlap_in_batch(scan, batch))


def _overlap_in_batch(scan: Frames, batch: int) -> float:
    """Return how often a batch lights the brightest pixel of the object, in full probes.

    pty-chi sums the updates of a batch, so the steps of ePIE and rPIE have to be shorter by this.
    """
    light = illumination(scan.probe, scan.top_left_px, scan.start.shape)
    return float(light.max() / intensity(scan.probe).max()) * min(1.0, batch / len(scan.counts))


def _set_difference_map_options(options: Any, _: Frames, batch: int) -> None:
    options.reconstructor_options.chunk_length = batch
    options.reconstructor_options.displayed_loss_function = None  # it has but one, and warns of another


def _set_least_squares_options(options: Any, _: Frames, batch: int) -> None:
    options.reconstructor_options.batch_size = batch
    options.reconstructor_options.rescale_probe_intensity_in_first_epoch = False


_ENGINE_OPTIONS: dict[Engine, Callable[[Any, Frames, int], None]] = {
    "epie": _set_epie_options,
    "rpie": _set_rpie_options,
    "difference-map": _set_difference_map_options,
    "least-squares": _set_least_squares_options,
}


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


def imported(name: str) -> ModuleType:
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
