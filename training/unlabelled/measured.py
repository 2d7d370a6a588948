"""A measured scan as training data: which frames teach, which choose the checkpoint, who are neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from model.geometry import to_pixels
from model.scans import Reference, ScanFileError, open_scan
from training.datasets.splits import Indices, Layout, SplitName, layout_of_scan, split_layout

HELD_OUT_SHARE = 0.15  # of the scan's extent along its longer side
NEIGHBOURS = 8  # nearest ones that a frame may be paired with


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredScan:
    """The frames of a scan with their positions; of a reconstruction only the probe teaches.

    Attributes:
        name: of the file.
        counts: (N, H, W) photons a pixel, in the file's own type, zero frequency at the centre.
        centres_px: (N, 2) probe centres y, x in object pixels, with fractions.
        mask: (H, W) bool, True where a pixel must not be used; None: all may.
        reference: whose probe lights the object; its object is for information only.
        layout: where the frames lie, for a split.
    """

    name: str
    counts: NDArray[Any]
    centres_px: NDArray[np.float64]
    mask: NDArray[np.bool_] | None
    reference: Reference
    layout: Layout

    def frames(self, which: Indices, invalid_counts: float | None) -> Tensor:
        """Return some frames, (n, 1, H, W) float32; masked pixels hold the count that says "invalid"."""
        counts = torch.as_tensor(self.counts[which].astype(np.float32))
        if self.mask is not None:
            counts[:, torch.as_tensor(self.mask)] = 0.0 if invalid_counts is None else invalid_counts
        return counts[:, None]

    def reference_tiles(self, which: Indices, tile_shape: tuple[int, int]) -> Tensor:
        """Return what the reference says of some frames' tiles, (n, 1, h, w) complex, 0 beyond its object."""
        frame, tile = np.array(self.counts.shape[1:]), np.array(tile_shape)
        corners = np.rint(self.reference.positions_px[which]).astype(int) + frame // 2 - tile // 2
        padded = np.pad(self.reference.object, [(n, n) for n in tile_shape])
        windows = np.lib.stride_tricks.sliding_window_view(padded, tile_shape)
        rows, columns = np.clip(corners + tile, 0, np.array(windows.shape[:2]) - 1).T
        return torch.as_tensor(windows[rows, columns])[:, None]


def read_measured(path: Path) -> MeasuredScan:
    """Read a scan whose probe is known.

    Raises:
        ScanFileError: there is no probe in it, or it cannot be read.
    """
    with open_scan(path) as scan:
        reference = scan.reference()
        if reference is None or scan.object_pixel_m is None:
            raise ScanFileError(f"{path}: no reference reconstruction in it, so no probe to work with")
        if len(reference.positions_px) != len(scan):
            raise ScanFileError(
                f"{path}: {len(scan)} frames, but {len(reference.positions_px)} positions in the reference"
            )
        centres_px = to_pixels(scan.positions_m, scan.object_pixel_m)
        return MeasuredScan(path.name, scan.frames(), centres_px, scan.mask, reference, layout_of_scan(scan))


class Parts(NamedTuple):
    """Indices of frames whose tiles share no pixel of the object with the other part's.

    Attributes:
        train: those that teach.
        held_out: those that choose the checkpoint.
    """

    train: Indices
    held_out: Indices


def parts_of(scan: MeasuredScan, split: SplitName | None, tile_shape: tuple[int, int]) -> Parts:
    """Return which frames teach and which choose the checkpoint.

    Args:
        scan: measured.
        split: whose test part then takes no part in the training; None: there is none, see `hold_out`.
        tile_shape: (h, w).

    Raises:
        ValueError: the scan is too small.
    """
    if split is None:
        return hold_out(scan.centres_px, tile_shape)
    parts = split_layout(scan.layout, split)
    return Parts(parts.train, parts.validation)


def hold_out(centres_px: NDArray[np.float64], tile_shape: tuple[int, int]) -> Parts:
    """Hold out the frames at one end of the scan; those between, whose tiles reach into both, are left out.

    Args:
        centres_px: (N, 2) probe centres y, x.
        tile_shape: (h, w).

    Raises:
        ValueError: the scan is too small for two parts that do not overlap.
    """
    axis = int(np.argmax(np.ptp(centres_px, axis=0)))
    along = centres_px[:, axis]
    border = along.max() - HELD_OUT_SHARE * np.ptp(along)
    held_out = along >= border
    train = along <= along[held_out].min() - tile_shape[axis]
    if np.count_nonzero(train) < 2:
        raise ValueError(
            f"a scan that reaches over {np.ptp(along):.0f} pixels is too small to hold out frames that share "
            f"none with the others at tiles of {tile_shape[axis]}: give a smaller --tile"
        )
    return Parts(np.flatnonzero(train), np.flatnonzero(held_out))


class ScanBatch(NamedTuple):
    """Frames of a scan, in pairs of neighbours while training.

    Attributes:
        counts: (N, 1, H, W) float32 photons a pixel.
        offsets_px: (N / 2, 2) from the centre of frame k to that of its neighbour, frame N / 2 + k.
        reference: (N, 1, h, w) complex tiles, for information; None while training.
    """

    counts: Tensor
    offsets_px: Tensor
    reference: Tensor | None


class NeighbourBatches(IterableDataset[ScanBatch]):
    """Seeded batches of pairs of overlapping frames; batch k depends on the seeds and k alone.

    Args:
        scan: measured.
        frames: indices of those that teach.
        pairs: in a batch.
        seeds: of the choice: of the run, and the device's rank.
        batches: range of batch numbers to give.
        invalid_counts: what a masked pixel holds.
    """

    def __init__(
        self,
        scan: MeasuredScan,
        frames: Indices,
        pairs: int,
        seeds: tuple[int, int],
        batches: range,
        invalid_counts: float | None,
    ) -> None:
        self.scan, self.frames, self.pairs, self.seeds = scan, frames, pairs, seeds
        self.batches, self.invalid_counts = batches, invalid_counts
        centres = scan.centres_px[frames]
        nearest = min(NEIGHBOURS, len(frames) - 1)
        self.neighbours: Indices = cKDTree(centres).query(centres, k=np.arange(1, nearest + 2))[1]

    def __iter__(self) -> Iterator[ScanBatch]:
        """Give the batches in order; of several workers each makes its share, and the loader interleaves."""
        worker = get_worker_info()
        share = slice(None) if worker is None else slice(worker.id, None, worker.num_workers)
        return map(self.make, self.batches[share])

    def make(self, k: int) -> ScanBatch:
        """Return batch k."""
        rng = np.random.default_rng((*self.seeds, k))
        first = rng.integers(len(self.frames), size=self.pairs)
        partner = self.neighbours[first, rng.integers(1, self.neighbours.shape[1], size=self.pairs)]
        here, there = self.frames[first], self.frames[partner]
        offsets = torch.as_tensor(self.scan.centres_px[there] - self.scan.centres_px[here])
        counts = self.scan.frames(np.concatenate([here, there]), self.invalid_counts)
        return ScanBatch(counts, offsets.float(), None)


class ScanFrames(lightning.LightningDataModule):
    """Pairs of the frames that teach, from the trainer's own step on, and the held-out ones in order."""

    def __init__(
        self,
        scan: MeasuredScan,
        parts: Parts,
        tile_shape: tuple[int, int],
        invalid_counts: float | None,
        batch: int,
        seed: int,
        steps: int,
        workers: int = 0,
    ) -> None:
        """Prepare.

        Args:
            scan: measured.
            parts: of its frames.
            tile_shape: (h, w) of the tiles.
            invalid_counts: what a masked pixel holds.
            batch: frames a step.
            seed: of the choice of frames.
            steps: of the whole run.
            workers: processes that gather batches beside the training; 0: it does so itself.

        Raises:
            ValueError: a batch has no room for two frames.
        """
        super().__init__()
        if batch < 2:
            raise ValueError(f"a batch of {batch} frames holds no two neighbours: give a larger --batch")
        self.scan, self.parts, self.tile_shape, self.invalid_counts = scan, parts, tile_shape, invalid_counts
        self.batch, self.seed, self.steps, self.workers = batch, seed, steps, workers

    def train_dataloader(self) -> DataLoader[ScanBatch]:
        """Give the batches of this device that the run has not seen."""
        if self.trainer is None:
            raise RuntimeError("the frames belong to no trainer yet: hand them to its fit()")
        frames = NeighbourBatches(
            self.scan,
            self.parts.train,
            self.batch // 2,
            (self.seed, self.trainer.global_rank),
            range(self.trainer.global_step, self.steps),
            self.invalid_counts,
        )
        return DataLoader(frames, batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[ScanBatch]:
        """Give the held-out frames."""
        chunks = np.array_split(self.parts.held_out, -(-len(self.parts.held_out) // self.batch))
        return DataLoader([self._held_out(chunk) for chunk in chunks], batch_size=None)  # type: ignore[arg-type]  # a list is all that a data set must be

    def _held_out(self, which: Indices) -> ScanBatch:
        counts = self.scan.frames(which, self.invalid_counts)
        return ScanBatch(counts, torch.empty(0, 2), self.scan.reference_tiles(which, self.tile_shape))
