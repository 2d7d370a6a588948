"""A part of a scan: its frames, and what a reference reconstruction says of them alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.optics import illumination
from model.scans import Reference, ScanFile, ScanFileError

Indices = NDArray[np.int64]


def reference_of(scan: ScanFile) -> Reference | None:
    """Return a scan's reference reconstruction, None where it has none.

    Raises:
        ScanFileError: it is one of other frames.
    """
    reference = scan.reference()
    if reference is not None and len(reference.positions_px) != len(scan):
        raise ScanFileError(
            f"{scan.path}: {len(scan)} frames, but {len(reference.positions_px)} positions in the reference"
        )
    return reference


def counts_of(scan: ScanFile, frames: Indices) -> NDArray[Any]:
    """Return some frames (n, H, W) in the file's own type; masked pixels count 0.

    Raises:
        ScanFileError: the file is damaged.
    """
    if not len(frames):
        return np.empty((0, *scan.frame_shape), scan.dtype)
    first = int(frames.min())
    counts = scan.frames(slice(first, int(frames.max()) + 1))
    if len(counts) > len(frames) or (np.diff(frames) != 1).any():
        counts = counts[frames - first]
    if scan.mask is not None:
        counts[:, scan.mask] = 0
    return counts


def restricted(reference: Reference, frames: Indices) -> Reference:
    """Return what a reference says of some of its scan's frames: cropped to their patches.

    The coverage becomes that of their light alone: what other frames saw, these do not judge.
    """
    if np.array_equal(frames, np.arange(len(reference.positions_px))):
        return reference
    corners, patch = reference.positions_px[frames], np.array(reference.probe.shape[1:])
    first = np.floor(corners.min(axis=0)).astype(int)
    last = np.ceil(corners.max(axis=0)).astype(int) + patch
    box = tuple(slice(start, stop) for start, stop in zip(first.tolist(), last.tolist(), strict=True))
    cropped = reference.object[box]
    return replace(
        reference,
        object=cropped,
        others={name: other[box] for name, other in reference.others.items()},
        coverage=illumination(reference.probe, corners - first, cropped.shape),
        positions_px=corners - first,
    )
