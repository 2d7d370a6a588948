"""The folder in which one running scan is kept.

    opening      the messages that began it
    arrivals     which frames came out of the socket
    snapshot     all else but the mosaic, and which blocks belong to it
    block.Y.X.N  the sums of a block, as the snapshot number N found it

A block that changed is written anew beside the old one; the snapshot is then replaced by renaming, and only
after that the old block goes. So whenever the process is killed, one whole snapshot is there.
"""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Final

from service.messages import Float32
from service.mosaic import Key
from service.resume.arrivals import Arrivals
from service.resume.sealed import SnapshotError, read_sealed, write_sealed
from service.resume.snapshot import (
    BlockFile,
    Identity,
    Opening,
    Snapshot,
    decode_opening,
    decode_snapshot,
    encode,
)
from service.scan_run import RunState

ARRIVALS: Final = "arrivals"
_OPENING: Final = "opening"
_SNAPSHOT: Final = "snapshot"


class RunFolder:
    """Writes snapshots of one scan; but for `arrivals`, used by one thread at a time.

    Args:
        path: of the folder, which is made if need be.
        kept: the snapshot that it holds already.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, kept: Snapshot | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.arrivals = Arrivals(path / ARRIVALS)
        self._blocks: dict[Key, BlockFile] = {}
        self._number = 0
        if kept is not None:
            self._blocks = {(block.by, block.bx): block for block in kept.blocks}
            self._number = max((block.number for block in kept.blocks), default=0)

    def open(self, opening: Opening) -> None:
        """Write the messages that began the scan; raises OSError."""
        write_sealed(self.path / _OPENING, encode(opening))

    def write(self, state: RunState, identity: Identity, block_px: int) -> None:
        """Write a snapshot; only the blocks in the state are written.

        Raises:
            OSError: it cannot be written; the one before stays.
        """
        self._number += 1
        changed = {key: self._write_block(key, sums) for key, sums in state.mosaic.sums.items()}
        blocks = {**self._blocks, **changed}
        snapshot = Snapshot.of(state, identity, block_px, list(blocks.values()))
        write_sealed(self.path / _SNAPSHOT, encode(snapshot))
        old = [self._blocks[key] for key in changed if key in self._blocks]
        self._blocks = blocks
        for block in old:
            (self.path / block.name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all: the scan is over; the snapshot goes first, and what is left without it is of no use."""
        self.arrivals.close()
        (self.path / _SNAPSHOT).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Leave everything as it is."""
        self.arrivals.close()

    def _write_block(self, key: Key, sums: Float32) -> BlockFile:
        content = sums.astype("<f4", copy=False).tobytes()
        block = BlockFile(*key, self._number, zlib.crc32(content))
        (self.path / block.name).write_bytes(content)
        return block


def read_snapshot(folder: Path) -> Snapshot | None:
    """Return the snapshot in a folder; None where the scan had not begun.

    Raises:
        SnapshotError: it cannot be used.
    """
    path = folder / _SNAPSHOT
    return decode_snapshot(read_sealed(path)) if path.exists() else None


def read_opening(folder: Path) -> Opening:
    """Return the messages that began the scan in a folder.

    Raises:
        SnapshotError: it cannot be used.
    """
    return decode_opening(read_sealed(folder / _OPENING))


def read_state(folder: Path, snapshot: Snapshot) -> RunState:
    """Return the state of the scan in a folder, with its mosaic.

    Raises:
        SnapshotError: a block cannot be read, or is damaged.
    """
    sums: dict[Key, Float32] = {}
    for block in snapshot.blocks:
        try:
            content = (folder / block.name).read_bytes()
        except OSError as error:
            raise SnapshotError(f"{block.name} cannot be read: {error.strerror}") from error
        if zlib.crc32(content) != block.checksum:
            raise SnapshotError(f"{block.name} is damaged: its checksum does not hold")
        sums[block.by, block.bx] = snapshot.sums(content)
    return snapshot.state(sums)
