"""Scan files: frames, positions and geometry of one scan, HDF5 after CXI / NXcxi_ptycho.

The layout: `/entry_1/data_1/{data (N, H, W), translation (N, 3: x, y, z in metres)}`,
`/entry_1/instrument_1/source_1/{wavelength, energy in joules}`,
`/entry_1/instrument_1/detector_1/{distance, x_pixel_size, y_pixel_size, mask, saturation}` and, where an
iterative reconstruction of the same frames is known, `/entry_1/reference_1`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from model.geometry import object_pixel_m

DATA: Final = "/entry_1/data_1/data"
TRANSLATION: Final = "/entry_1/data_1/translation"
SOURCE: Final = "/entry_1/instrument_1/source_1"
DETECTOR: Final = "/entry_1/instrument_1/detector_1"
REFERENCE: Final = "/entry_1/reference_1"

_PLANCK_TIMES_LIGHT_J_M: Final = 6.62607015e-34 * 299_792_458
_FIRST_PLUGIN_FILTER: Final = 256  # HDF5 numbers the filters it does not bring itself from here on


class ScanFileError(Exception):
    """A scan file is missing, unreadable or does not hold what it must."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """An iterative reconstruction of a scan's frames, to judge a network's mosaic against.

    Attributes:
        object: (Y, X) complex64 transmission.
        probe: (modes, H, W) complex64, square-root photons a pixel, the dominant mode first.
        coverage: (Y, X) float32, how much light fell there.
        positions_px: (N, 2) float64 top-left corner y, x of each frame's tile in `object`.
        object_pixel_m: pixel of `object`.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    positions_px: NDArray[np.float64]
    object_pixel_m: float


@dataclass(frozen=True, slots=True, eq=False)
class ScanFile:
    """An open scan file; frames are read when asked for. Use as a context manager, or `close` it.

    Attributes:
        path: where it lies.
        positions_m: (N, 2) float64 probe centres y, x, metres, rows grow downward.
        frame_shape: (H, W) of each diffraction pattern.
        dtype: pixel type of the frames.
        wavelength_m, distance_m, detector_pixel_m: far-field geometry, None where not told.
        object_pixel_m: the reference's, else λz/(NΔ), None where neither is known.
        saturation: count at which the detector saturates, None where not told.
        mask: (H, W) bool, True where a pixel must not be used, or None.
    """

    path: Path
    positions_m: NDArray[np.float64]
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    wavelength_m: float | None
    distance_m: float | None
    detector_pixel_m: float | None
    object_pixel_m: float | None
    saturation: float | None
    mask: NDArray[np.bool_] | None
    _file: h5py.File = field(repr=False)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.positions_m)

    def frames(self, which: slice = slice(None)) -> NDArray[Any]:
        """Return the (n, H, W) diffraction patterns of a slice, read now.

        Raises:
            ScanFileError: their compression is not available, or the file is damaged.
        """
        with _readable(self.path):
            array: NDArray[Any] = self._file[DATA][which]
        return array

    def reference(self) -> Reference | None:
        """Return the file's reference reconstruction, read now; None where it has none.

        Raises:
            ScanFileError: it is there, but not complete.
        """
        if REFERENCE not in self._file:
            return None
        with _readable(self.path):
            return _read_reference(self._file)

    def close(self) -> None:
        """Close the file; frames cannot be read any more."""
        self._file.close()

    def __enter__(self) -> ScanFile:
        """Return the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def open_scan(path: str | os.PathLike[str]) -> ScanFile:
    """Open a scan file.

    Raises:
        ScanFileError: one line that says what is wrong: no such file, not HDF5, which dataset is missing or
            does not fit the others.
    """
    where = Path(path)
    if not where.is_file():
        raise ScanFileError(f"{where}: no such scan file")
    try:
        file = h5py.File(where, "r")
    except OSError as error:
        raise ScanFileError(f"{where}: not an HDF5 file, or damaged") from error
    try:
        with _readable(where):
            return _read_header(where, file)
    except ScanFileError:
        file.close()
        raise


def write_scan(
    path: str | os.PathLike[str],
    frames: NDArray[Any],
    positions_m: NDArray[np.float64],
    *,
    wavelength_m: float | None = None,
    distance_m: float | None = None,
    detector_pixel_m: float | None = None,
    saturation: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    reference: Reference | None = None,
    attributes: dict[str, str] | None = None,
) -> None:
    """Write a scan file under a temporary name, then rename it; a reader never sees half of it.

    Args:
        path: where to.
        frames: (N, H, W) diffraction patterns, uint8, uint16, uint32 or float32.
        positions_m: (N, 2) probe centres y, x in metres.
        wavelength_m: of the light; this and what follows is left out where None.
        distance_m: from sample to detector.
        detector_pixel_m: side of a detector pixel.
        saturation: count at which the detector saturates.
        mask: (H, W) bool, True where a pixel must not be used.
        reference: a reconstruction of the same frames.
        attributes: of the entry: source, licence, method.

    Raises:
        ScanFileError: the shapes do not fit each other, or the folder cannot be written.
    """
    where = Path(path)
    if frames.ndim != 3 or np.shape(positions_m) != (len(frames), 2):
        raise ScanFileError(
            f"{where}: frames {frames.shape} and positions {np.shape(positions_m)} do not fit: "
            "(N, H, W) and (N, 2) are needed"
        )
    half = where.with_name(f".{where.name}.{os.getpid()}.part")
    try:
        with h5py.File(half, "w") as file:
            _write_data(file, frames, positions_m, attributes or {})
            _write_numbers(file, SOURCE, wavelength=wavelength_m)
            _write_numbers(
                file,
                DETECTOR,
                distance=distance_m,
                x_pixel_size=detector_pixel_m,
                y_pixel_size=detector_pixel_m,
                saturation=saturation,
                mask=None if mask is None else mask.astype(np.uint8),
            )
            if reference is not None:
                _write_reference(file, reference)
        half.replace(where)
    except OSError as error:
        raise ScanFileError(f"{where}: cannot be written: {error}") from error
    finally:
        half.unlink(missing_ok=True)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what h5py raises for a damaged or odd file into one line."""
    try:
        yield
    except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise ScanFileError(f"{path}: cannot be read: {error}") from error


def _read_header(path: Path, file: h5py.File) -> ScanFile:
    data, translation = _dataset(path, file, DATA), _dataset(path, file, TRANSLATION)
    if data.ndim != 3 or translation.shape != (len(data), 3):
        raise ScanFileError(
            f"{path}: {DATA} {data.shape} and {TRANSLATION} {translation.shape} do not fit: "
            "(N, H, W) and (N, 3) are needed"
        )
    _load_filters(path, data)
    mask = file[f"{DETECTOR}/mask"][()] != 0 if f"{DETECTOR}/mask" in file else None
    if mask is not None and mask.shape != data.shape[1:]:
        raise ScanFileError(f"{path}: the mask is {mask.shape}, the frames are {data.shape[1:]}")
    wavelength_m = _wavelength_m(file)
    distance_m = _number(file, f"{DETECTOR}/distance")
    pixel_m = _number(file, f"{DETECTOR}/x_pixel_size")
    return ScanFile(
        path=path,
        positions_m=np.ascontiguousarray(translation[()][:, 1::-1], dtype=np.float64),
        frame_shape=(int(data.shape[1]), int(data.shape[2])),
        dtype=data.dtype,
        wavelength_m=wavelength_m,
        distance_m=distance_m,
        detector_pixel_m=pixel_m,
        object_pixel_m=_number(file, f"{REFERENCE}/object_pixel_m")
        or _far_field_pixel_m(wavelength_m, distance_m, pixel_m, data.shape[2]),
        saturation=_number(file, f"{DETECTOR}/saturation"),
        mask=mask,
        _file=file,
    )


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise ScanFileError(f"{path}: {name} is missing: is this a CXI scan file?")
    return found


def _load_filters(path: Path, data: h5py.Dataset) -> None:
    """Register hdf5plugin's filters if the frames were written with one."""
    filters = data.id.get_create_plist()
    numbers = [filters.get_filter(place)[0] for place in range(filters.get_nfilters())]
    if any(number >= _FIRST_PLUGIN_FILTER for number in numbers) and not _plugins():
        raise ScanFileError(f"{path}: the frames' compression needs hdf5plugin: pip install hdf5plugin")


def _plugins() -> Any | None:
    """Return the hdf5plugin package, None where it is not installed; importing it registers its filters."""
    try:
        import hdf5plugin
    except ImportError:
        return None
    return hdf5plugin


def _number(file: h5py.File, name: str) -> float | None:
    return float(np.asarray(file[name][()]).reshape(-1)[0]) if name in file else None


def _wavelength_m(file: h5py.File) -> float | None:
    """Return the wavelength told; else that of a photon of the energy told."""
    told = _number(file, f"{SOURCE}/wavelength")
    energy_j = _number(file, f"{SOURCE}/energy")
    return told or (_PLANCK_TIMES_LIGHT_J_M / energy_j if energy_j else None)


def _far_field_pixel_m(
    wavelength_m: float | None, distance_m: float | None, detector_pixel_m: float | None, pixels: int
) -> float | None:
    """Return the object's pixel in metres; None where a part of the geometry is not known."""
    if not (wavelength_m and distance_m and detector_pixel_m):
        return None
    return object_pixel_m(wavelength_m, distance_m, detector_pixel_m, pixels)


def _read_reference(file: h5py.File) -> Reference:
    group = file[REFERENCE]
    return Reference(
        object=group["object"][()].astype(np.complex64),
        probe=group["probe"][()].astype(np.complex64),
        coverage=group["coverage"][()].astype(np.float32),
        positions_px=group["positions_px"][()].astype(np.float64),
        object_pixel_m=float(group["object_pixel_m"][()]),
    )


def _write_data(
    file: h5py.File, frames: NDArray[Any], positions_m: NDArray[np.float64], attributes: dict[str, str]
) -> None:
    file.attrs["default"] = "entry_1"
    data = file.create_dataset(DATA, data=frames, chunks=(1, *frames.shape[1:]), **_compression())
    data.parent.attrs.update({"NX_class": "NXdata", "signal": "data"})
    xyz = np.column_stack([positions_m[:, 1], positions_m[:, 0], np.zeros(len(positions_m))])
    file.create_dataset(TRANSLATION, data=xyz).attrs["units"] = "m"
    file["entry_1"].attrs.update({"NX_class": "NXentry", **attributes})


def _compression() -> dict[str, Any]:
    """Return the arguments that compress frames as detectors do, or as plain HDF5 can."""
    plugins = _plugins()
    return dict(plugins.Bitshuffle()) if plugins else {"compression": "gzip", "shuffle": True}


def _write_numbers(file: h5py.File, group: str, **numbers: float | NDArray[Any] | None) -> None:
    for name, value in numbers.items():
        if value is not None:
            file[f"{group}/{name}"] = value


def _write_reference(file: h5py.File, reference: Reference) -> None:
    _write_numbers(
        file,
        REFERENCE,
        object=reference.object,
        probe=reference.probe,
        coverage=reference.coverage,
        positions_px=reference.positions_px,
        object_pixel_m=reference.object_pixel_m,
    )
