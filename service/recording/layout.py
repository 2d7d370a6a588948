"""What a recorded scan file holds before its first frame: made in memory, so that no disk can refuse it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import h5py
import numpy as np

from model.scans import DATA, RECORDING, TRANSLATION, write_instrument
from service.ledger import NEVER_ARRIVED
from service.messages import ScanStart
from service.recording.chunks import Storage

FRAMES: Final = f"{RECORDING}/frames"
LEDGER: Final = f"{RECORDING}/ledger"
ENDED: Final = f"{RECORDING}/ended"

COUNTED: Final = ("expected", "received", "recorded", "duplicates")
DISK_TOO_SLOW: Final = "disk_too_slow"
DISK_FULL: Final = "disk_full"
REASONS: Final = (NEVER_ARRIVED, "undecodable", "no_header", DISK_TOO_SLOW, DISK_FULL)

_UNKNOWN: Final = -1
_ENDED_TYPE: Final = "S32"
_FRAMES_A_CHUNK: Final = 4096
_ROWS_A_CHUNK: Final = 1024


def header(start: ScanStart, storage: Storage, origin: Mapping[str, str]) -> bytes:
    """Return an HDF5 file with everything but frames, ready to be written by one and read by others at once.

    Args:
        start: what was told of the scan.
        storage: how its frames are kept.
        origin: attributes of the recording: where the stream came from.
    """
    with h5py.File("scan", "w", driver="core", backing_store=False, libver="latest") as file:
        file.attrs["default"] = "entry_1"
        _add_frames(file, storage)
        file.create_dataset(
            TRANSLATION, (0, 3), "<f8", maxshape=(None, 3), chunks=(_ROWS_A_CHUNK, 3), fillvalue=math.nan
        ).attrs["units"] = "m"
        write_instrument(
            file, wavelength_m=start.wavelength_m, distance_m=start.distance_m,
            detector_pixel_m=start.detector_pixel_m, saturation=start.saturation,
            mask=start.mask, beam_px=start.beam_px,
        )  # fmt: skip
        _add_recording(file, start, origin)
        file["entry_1"].attrs["NX_class"] = "NXentry"
        file["entry_1/data_1"].attrs.update({"NX_class": "NXdata", "signal": "data"})
        file.flush()
        content: bytes = file.id.get_file_image()
    return content


def _add_frames(file: h5py.File, storage: Storage) -> None:
    """Add the dataset of the frames; by hand, as its filter need not be there to write what is packed."""
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((1, *storage.shape))
    if storage.filter is not None:
        registered = h5py.h5z.filter_avail(storage.filter)
        made.set_filter(storage.filter, h5py.h5z.FLAG_OPTIONAL, storage.cd_values(registered))
    space = h5py.h5s.create_simple((0, *storage.shape), (h5py.h5s.UNLIMITED, *storage.shape))
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    h5py.h5d.create(file.id, DATA.encode(), h5py.h5t.py_create(storage.dtype), space, made, links)


def _add_recording(file: h5py.File, start: ScanStart, origin: Mapping[str, str]) -> None:
    """Add the tables of what arrived; all are numbers of a fixed size, which a reader may watch."""
    group = file.create_group(RECORDING)
    group.attrs.update({"NX_class": "NXcollection", "scan": start.scan, "assumed": start.assumed, **origin})
    group.attrs["program"], group.attrs["program_version"] = "ptycholive", version("ptycholive")
    if start.object_pixel_m is not None:
        group["object_pixel_m"] = start.object_pixel_m
    file.create_dataset(FRAMES, (0,), "<i8", maxshape=(None,), chunks=(_FRAMES_A_CHUNK,))
    file.create_dataset(ENDED, (), _ENDED_TYPE)
    for name in (*COUNTED, *(f"dropped/{reason}" for reason in REASONS)):
        file.create_dataset(f"{LEDGER}/{name}", (), "<i8", data=0)
    file[LEDGER]["expected"][()] = _UNKNOWN if start.frames is None else start.frames


def ledger_numbers(counts: Mapping[str, Any]) -> dict[str, int]:
    """Return the ledger's numbers by their place in the file; a frame ends as recorded or dropped.

    Args:
        counts: of a `Ledger`, as plain values.
    """
    expected = counts["expected"]
    told = {**counts, "expected": _UNKNOWN if expected is None else expected, "recorded": counts["stitched"]}
    numbers = {name: int(told[name]) for name in COUNTED}
    dropped = counts["dropped"]
    return numbers | {f"dropped/{reason}": int(dropped.get(reason, 0)) for reason in REASONS}


def ended_value(how: str) -> np.bytes_:
    """Return how the recording ended as the file keeps it."""
    return np.bytes_(how.encode("ascii"))
