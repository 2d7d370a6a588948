"""Labelled sets from scan files with a reference, and from PtychoNN's published files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from skimage.transform import resize

from model.scans import Reference, ScanFile, ScanFileError
from training.datasets.labelled import LabelledSet, cut_tiles

PTYCHONN_PIXEL_M: Final = 10e-9  # of the labels, as their file's name says
PTYCHONN_STEP_PX: Final = 3  # 30 nm between neighbours of the raster
PTYCHONN_TRAIN_LINES: Final = 100  # of 161
PTYCHONN_CROP: Final = 8  # an eighth is cropped at each side: 32 of 256 pixels
PTYCHONN_FLOOR: Final = 3  # smaller counts are taken as 0


def labelled_from_scan(scan: ScanFile, edge: int | None = None) -> LabelledSet:
    """Return the frames of a scan whose tile lies inside the reference's object, with that tile.

    A tile is the window of the object at the frame's position rounded to whole pixels, centred on the
    probe. Masked pixels count 0. Scan lines come from the positions: see `raster_places`.

    Args:
        scan: open, with a reference.
        edge: of the tiles, pixels; by default the frame's.

    Raises:
        ScanFileError: there is no reference, it does not fit the frames, or no tile lies inside it.
    """
    reference = scan.reference()
    if reference is None:
        raise ScanFileError(f"{scan.path}: no reference reconstruction in it, so no labels to learn")
    if len(reference.positions_px) != len(scan):
        raise ScanFileError(
            f"{scan.path}: {len(scan)} frames, but {len(reference.positions_px)} positions in the reference"
        )
    size = min(scan.frame_shape) if edge is None else edge
    corners = _tile_corners_px(reference, scan.frame_shape, size)
    inside = np.all((corners >= 0) & (corners + size <= reference.object.shape), axis=1)
    if not inside.any():
        raise ScanFileError(f"{scan.path}: no tile of {size} pixels lies inside the reference's object")
    amplitude, phase_rad = _polar(reference.object)
    return LabelledSet(
        name=scan.path.stem,
        counts=_counts(scan, inside),
        amplitude=cut_tiles(amplitude, corners[inside], size),
        phase_rad=cut_tiles(phase_rad, corners[inside], size),
        corners_px=corners[inside],
        raster=raster_places(scan.positions_m)[inside],
        probe=reference.probe,
        truth_amplitude=amplitude,
        truth_phase_rad=phase_rad,
        object_pixel_m=reference.object_pixel_m,
    )


def _tile_corners_px(reference: Reference, frame_shape: tuple[int, int], size: int) -> NDArray[np.int64]:
    """Return top-left corners of tiles centred on the probe; pixel H // 2 of a frame's goes to size // 2."""
    margin = np.array(frame_shape) // 2 - size // 2
    corners: NDArray[np.int64] = np.rint(reference.positions_px).astype(np.int64) + margin
    return corners


def _counts(scan: ScanFile, which: NDArray[np.bool_]) -> NDArray[np.float32]:
    counts: NDArray[np.float32] = scan.frames()[which].astype(np.float32)
    if scan.mask is not None:
        counts[:, scan.mask] = 0
    return counts


def _polar(transmission: NDArray[np.complex64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.abs(transmission), np.angle(transmission)


def raster_places(positions_m: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return scan line and place within it, (N, 2) from 0, recovered from positions (N, 2) y, x.

    The slow axis is the one along which consecutive frames move less. Sorted along it, positions of one
    line lie close together and lines apart: the gaps are told into the two kinds by Otsu's threshold
    (IEEE Trans. Syst. Man Cybern. 9, 62 (1979)). Lines are numbered along the slow axis and places along
    the fast one, whichever way the beam went. Positions on no raster still fall into bands by slow axis.
    """
    slow = int(np.argmin(np.abs(np.diff(positions_m, axis=0)).sum(axis=0))) if len(positions_m) > 1 else 0
    order = np.argsort(positions_m[:, slow], kind="stable")
    gaps = np.diff(positions_m[order, slow])
    lines = np.zeros(len(positions_m), np.int64)
    if gaps.size:
        lines[order[1:]] = np.cumsum(_between_lines(gaps))
    return np.stack([lines, _places(lines, positions_m[:, 1 - slow])], axis=1)


def _between_lines(gaps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which gaps lie between two lines; none where all gaps are alike.

    Otsu's threshold is the lowest of the equally good ones and may graze the smaller kind; halfway between
    the means of the two kinds is clear of both.
    """
    large = np.asarray(gaps > threshold_otsu(gaps))  # type: ignore[no-untyped-call]
    if not large.any():
        return large
    return np.asarray(gaps > (gaps[large].mean() + gaps[~large].mean()) / 2)


def _places(lines: NDArray[np.int64], along: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each position's rank along its line."""
    order = np.lexsort((along, lines))
    _, starts, counts = np.unique(lines[order], return_index=True, return_counts=True)
    places = np.empty(len(lines), np.int64)
    places[order] = np.arange(len(lines)) - np.repeat(starts, counts)
    return places


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
