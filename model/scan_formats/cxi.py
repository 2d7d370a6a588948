"""Scan files in HDF5 after CXI / NXcxi_ptycho, read and written.

The layout: `/entry_1/data_1/{data (N, H, W), translation (N, 3: x, y, z in metres)}`,
`/entry_1/instrument_1/source_1/{wavelength, energy in joules}`,
`/entry_1/instrument_1/detector_1/{distance, x_pixel_size, y_pixel_size, mask, saturation}` and, where an
iterative reconstruction of the same frames is known, `/entry_1/reference_1`: `object` with its `probe`, and
beside it further ones of the same shape, each called `object_…`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from model.scan_formats.hdf5 import (
    dataset,
    far_field_pixel_m,
    load_filters,
    number,
    photon_energy_j,
    photon_wavelength_m,
    plugins,
)
from model.scan_formats.scan_file import Reference, ScanFile, ScanFileError
from model.whole_files import written_whole

DATA: Final = "/entry_1/data_1/data"
TRANSLATION: Final = "/entry_1/data_1/translation"
SOURCE: Final = "/entry_1/instrument_1/source_1"
DETECTOR: Final = "/entry_1/instrument_1/detector_1"
REFERENCE: Final = "/entry_1/reference_1"

_KIND: Final = "CXI scan"


def read(path: Path, file: h5py.File, opened: ExitStack) -> ScanFile:
    """Read what describes the scan of an open file; frames and reference are read when asked for.

    Raises:
        ScanFileError: a dataset is missing or does not fit the others.
    """
    data, translation = dataset(path, file, DATA, _KIND), dataset(path, file, TRANSLATION, _KIND)
    if data.ndim != 3 or translation.shape != (len(data), 3):
        raise ScanFileError(
            f"{path}: {DATA} {data.shape} and {TRANSLATION} {translation.shape} do not fit: "
            "(N, H, W) and (N, 3) are needed"
        )
    positions_m = np.ascontiguousarray(translation[()][:, 1::-1], dtype=np.float64)
    return described(path, file, opened, data, positions_m)


def described(
    path: Path, file: h5py.File, opened: ExitStack, data: h5py.Dataset, positions_m: NDArray[np.float64]
) -> ScanFile:
    """Return frames and their (N, 2) positions with what the file tells of the instrument.

    Raises:
        ScanFileError: the frames' compression is not available, or the mask is not of their shape.
    """
    load_filters(path, data)
    wavelength_m = _wavelength_m(file)
    distance_m = number(file, f"{DETECTOR}/distance")
    pixel_m = number(file, f"{DETECTOR}/x_pixel_size")
    return ScanFile(
        path=path,
        positions_m=positions_m,
        frame_shape=(int(data.shape[1]), int(data.shape[2])),
        dtype=data.dtype,
        wavelength_m=wavelength_m,
        distance_m=distance_m,
        detector_pixel_m=pixel_m,
        object_pixel_m=number(file, f"{REFERENCE}/object_pixel_m")
        or far_field_pixel_m(wavelength_m, distance_m, pixel_m, data.shape[2]),
        saturation=number(file, f"{DETECTOR}/saturation"),
        mask=_mask(path, file, data.shape[1:]),
        _read_frames=data.__getitem__,
        _read_reference=lambda: _read_reference(file),
        _opened=opened,
        beam_px=_beam_px(file),
    )


def _beam_px(file: h5py.File) -> tuple[float, float] | None:
    y, x = number(file, f"{DETECTOR}/beam_center_y"), number(file, f"{DETECTOR}/beam_center_x")
    return None if y is None or x is None else (y, x)


def _mask(path: Path, file: h5py.File, frame_shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    name = f"{DETECTOR}/mask"
    if name not in file:
        return None
    mask: NDArray[np.bool_] = np.asarray(file[name][()] != 0)
    if mask.shape != frame_shape:
        raise ScanFileError(f"{path}: the mask is {mask.shape}, the frames are {frame_shape}")
    return mask


def _wavelength_m(file: h5py.File) -> float | None:
    """Return the wavelength told; else that of a photon of the energy told."""
    told = number(file, f"{SOURCE}/wavelength")
    return told or photon_wavelength_m(number(file, f"{SOURCE}/energy"))


def _read_reference(file: h5py.File) -> Reference | None:
    if REFERENCE not in file:
        return None
    group = file[REFERENCE]
    return Reference(
        object=group["object"][()].astype(np.complex64),
        probe=group["probe"][()].astype(np.complex64),
        coverage=group["coverage"][()].astype(np.float32),
        positions_px=group["positions_px"][()].astype(np.float64),
        object_pixel_m=float(group["object_pixel_m"][()]),
        others={
            name: group[name][()].astype(np.complex64) for name in group if _is_other_object(group, name)
        },
    )


def _is_other_object(group: h5py.Group, name: str) -> bool:
    """Return whether a dataset is a further reconstruction, as in `object_modelprobe` beside `object`."""
    found = group[name]
    return name.startswith("object_") and found.dtype.kind == "c" and found.shape == group["object"].shape


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
    try:
        with written_whole(where) as half, h5py.File(half, "w") as file:
            _write_data(file, frames, positions_m, attributes or {})
            write_instrument(
                file,
                wavelength_m=wavelength_m,
                distance_m=distance_m,
                detector_pixel_m=detector_pixel_m,
                saturation=saturation,
                mask=mask,
            )
            if reference is not None:
                _write_reference(file, reference)
    except OSError as error:
        raise ScanFileError(f"{where}: cannot be written: {error}") from error


def write_instrument(
    file: h5py.File,
    *,
    wavelength_m: float | None = None,
    distance_m: float | None = None,
    detector_pixel_m: float | None = None,
    saturation: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    beam_px: tuple[float, float] | None = None,
) -> None:
    """Write what is known of source and detector; what is None is left out."""
    beam_y, beam_x = beam_px or (None, None)
    _write_numbers(file, SOURCE, wavelength=wavelength_m, energy=photon_energy_j(wavelength_m))
    _write_numbers(
        file,
        DETECTOR,
        distance=distance_m,
        x_pixel_size=detector_pixel_m,
        y_pixel_size=detector_pixel_m,
        saturation=saturation,
        mask=None if mask is None else mask.astype(np.uint8),
        beam_center_y=beam_y,
        beam_center_x=beam_x,
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
    package = plugins()
    return dict(package.Bitshuffle()) if package else {"compression": "gzip", "shuffle": True}


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
        **reference.others,
    )
