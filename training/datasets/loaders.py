"""Labelled sets from scan files with a reference, and from PtychoNN's published files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from model.scans import Reference, ScanFile, ScanFileError
from training.datasets.labelled import LabelledSet, cut_tiles
from training.datasets.part import counts_of, reference_of, restricted
from training.datasets.raster import find_raster

PTYCHONN_PIXEL_M: Final = 10e-9  # of the labels, as their file's name says
PTYCHONN_STEP_PX: Final = 3  # 30 nm between neighbours of the raster
PTYCHONN_TRAIN_LINES: Final = 100  # of 161
PTYCHONN_CROP: Final = 8  # an eighth is cropped at each side: 32 of 256 pixels
PTYCHONN_FLOOR: Final = 3  # smaller counts are taken as 0


def labelled_from_scan(
    scan: ScanFile, edge: int | None = None, frames: NDArray[np.int64] | None = None
) -> LabelledSet:
    """Return the frames of a scan whose tile lies inside the reference's object, with that tile.

    A tile is the window of the object at the frame's position rounded to whole pixels, centred on the
    probe. Masked pixels count 0. Scan lines come from the positions: see `find_raster`.

    Args:
        scan: open, with a reference.
        edge: of the tiles, pixels; by default the frame's.
        frames: (n,) indices of those to take; the object is then cropped to what they see. All where None.

    Raises:
        ScanFileError: there is no reference, it does not fit the frames, or no tile lies inside it.
    """
    found = reference_of(scan)
    if found is None:
        raise ScanFileError(f"{scan.path}: no reference reconstruction in it, so no labels to learn")
    which = np.arange(len(scan)) if frames is None else frames
    reference = found if frames is None else restricted(found, which)
    size = min(scan.frame_shape) if edge is None else edge
    corners = _tile_corners_px(reference, scan.frame_shape, size)
    inside = np.all((corners >= 0) & (corners + size <= reference.object.shape), axis=1)
    if not inside.any():
        raise ScanFileError(f"{scan.path}: no tile of {size} pixels lies inside the reference's object")
    amplitude, phase_rad = _polar(reference.object)
    raster = find_raster(scan.positions_m)
    return LabelledSet(
        name=scan.path.stem,
        counts=counts_of(scan, which[inside]).astype(np.float32, copy=False),
        amplitude=cut_tiles(amplitude, corners[inside], size),
        phase_rad=cut_tiles(phase_rad, corners[inside], size),
        corners_px=corners[inside],
        raster=raster.places[which[inside]],
        probe=reference.probe,
        truth_amplitude=amplitude,
        truth_phase_rad=phase_rad,
        object_pixel_m=reference.object_pixel_m,
        directions=raster.directions,
    )


def _tile_corners_px(reference: Reference, frame_shape: tuple[int, int], size: int) -> NDArray[np.int64]:
    """Return top-left corners of tiles centred on the probe; pixel H // 2 of a frame's goes to size // 2."""
    margin = np.array(frame_shape) // 2 - size // 2
    corners: NDArray[np.int64] = np.rint(reference.positions_px).astype(np.int64) + margin
    return corners


def _polar(transmission: NDArray[np.complex64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.abs(transmission), np.angle(transmission)


def load_ptychonn(diff: Path, labels: Path, edge: int = 64, lines: int = 161) -> LabelledSet:
    """Return PtychoNN's published scan, prepared as it was for the paper.

    Cherukara et al., Appl. Phys. Lett. 117, 044103 (2020); mcherukara/PtychoNN, `20191008_39_diff.npz` and
    `20191008_39_amp_pha_10nm_full.npy`: 161 lines of 161 frames of 256² counts, and the complex label of
    each frame, 64². Frames are cropped by an eighth at each side, resized with anti-aliasing, which keeps
    the mean and not the sum, and set to 0 below 3. Frames that are `edge` pixels wide already, as in
    `20191008_39_diff_reduced.npz`, are taken as they are. Tiles, with their arbitrary phase, are as stored.

    Args:
        diff: npz with the frames (lines, places, H, W) as `arr_0`.
        labels: npy with the tiles (lines, places, h, w), complex.
        edge: of the prepared frames, pixels.
        lines: how many to load, from the first.

    Raises:
        ScanFileError: a file is missing, damaged, pickled, or they do not fit each other.
    """
    tiles = _load_labels(labels)[:lines]
    stack = _load_frames(diff)[:lines]
    if stack.shape[:2] != tiles.shape[:2]:
        raise ScanFileError(
            f"{diff}: frames {stack.shape} and labels {tiles.shape} do not fit: is {labels.name} of it?"
        )
    raster = np.indices(tiles.shape[:2]).reshape(2, -1).T.astype(np.int64)
    amplitude, phase_rad = _polar(tiles.reshape(-1, *tiles.shape[2:]).astype(np.complex64))
    return LabelledSet(
        name=diff.stem,
        counts=np.concatenate([_prepared(line, edge) for line in stack]),
        amplitude=amplitude,
        phase_rad=phase_rad,
        corners_px=PTYCHONN_STEP_PX * raster,
        raster=raster,
        photons=_pixels_in_one(stack.shape[-1], edge),
        object_pixel_m=PTYCHONN_PIXEL_M,
        first_test_line=PTYCHONN_TRAIN_LINES if len(stack) > PTYCHONN_TRAIN_LINES else None,
    )


def _load_frames(path: Path) -> NDArray[Any]:
    """Return (lines, places, H, W) counts."""
    frames = _load(path)
    if frames.ndim != 4 or frames.shape[2] != frames.shape[3] or frames.dtype.kind not in "iuf":
        raise ScanFileError(
            f"{path}: frames {frames.shape} of {frames.dtype}, but counts (lines, places, H, H) are needed"
        )
    return frames


def _load_labels(path: Path) -> NDArray[Any]:
    """Return (lines, places, h, w) complex tiles."""
    tiles = _load(path)
    if tiles.ndim != 4 or tiles.dtype.kind != "c":
        raise ScanFileError(
            f"{path}: labels {tiles.shape} of {tiles.dtype}, but complex (lines, places, h, w) are needed"
        )
    return tiles


def _load(path: Path) -> NDArray[Any]:
    """Return the array of a npy file, or the first of an npz archive; nothing is unpickled."""
    if not path.is_file():
        raise ScanFileError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            array: NDArray[Any] = loaded if isinstance(loaded, np.ndarray) else loaded["arr_0"]
    except (OSError, LookupError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ScanFileError(
            f"{path}: not a NumPy file of plain numbers (an npz holds them as arr_0), or damaged"
        ) from error
    return array


def _prepared(line: NDArray[Any], edge: int) -> NDArray[np.float32]:
    """Return one line's frames (places, edge, edge), cropped, resized and without single counts."""
    frames = line.astype(np.float32)
    if frames.shape[-1] != edge:
        margin = frames.shape[-1] // PTYCHONN_CROP
        cropped = frames[:, margin : frames.shape[1] - margin, margin : frames.shape[2] - margin]
        frames = resize(  # type: ignore[no-untyped-call]
            cropped, (len(frames), edge, edge), preserve_range=True, anti_aliasing=True
        )
    return np.where(frames < PTYCHONN_FLOOR, np.float32(0), frames)


def _pixels_in_one(stored: int, edge: int) -> float:
    """Return how many of a stored frame's pixels became one of the prepared frame's."""
    if stored == edge:
        return 1.0
    return float(((stored - 2 * (stored // PTYCHONN_CROP)) / edge) ** 2)
