"""What a snapshot of a running scan says, in msgpack; the blocks of its mosaic are files of their own."""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.bundle import BundleDescription
from service.ledger import LedgerState
from service.messages import Float32, Float64, ScanStart
from service.mosaic import Bounds, Key, MosaicState
from service.planes import SUMS
from service.resume.sealed import SnapshotError
from service.scan_run import Resumption, RunState, scan_pixel_m


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A message as it came: its ZMQ parts, and when, ns since the epoch."""

    parts: list[bytes]
    received_ns: int

    @property
    def nbytes(self) -> int:
        """Its size."""
        return sum(map(len, self.parts))


class Opening(msgspec.Struct, frozen=True):
    """The messages that began a scan: whoever decodes them again knows the scan again."""

    scan: str
    messages: list[Message]


class Identity(msgspec.Struct, frozen=True):
    """What a scan and its mosaic were made with; another service can go on only with the same."""

    scan: str
    model: str
    onnx_sha256: str
    object_pixel_m: float
    framing: str

    @classmethod
    def of(cls, start: ScanStart, model: BundleDescription) -> Identity:
        """Return that of a scan, as it came through the door, with a model."""
        framing = None if start.framing is None else start.framing.report()
        pixel_m, _ = scan_pixel_m(start, model)
        return cls(start.scan, model.name, model.onnx_sha256, pixel_m, json.dumps(framing))

    def misfit(self, now: Identity) -> str | None:
        """Return what is no longer as it was; None where all is."""
        if self.onnx_sha256 != now.onnx_sha256:
            return f"it was stitched with the model {self.model}, now {now.model} runs"
        if self.object_pixel_m != now.object_pixel_m:
            return f"its object pixel was {self.object_pixel_m} m, now it would be {now.object_pixel_m} m"
        if self.framing != now.framing:
            return "orientation, crop, bin or positions_axes are no longer as they were"
        return None


class BlockFile(msgspec.Struct, frozen=True, array_like=True):
    """Where a block of the mosaic is kept: (by, bx), number of its file, checksum."""

    by: int
    bx: int
    number: int
    checksum: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"block.{self.by}.{self.bx}.{self.number}"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A `RunState` without the sums; arrays as their bytes, little-endian."""

    identity: Identity
    started_ns: int
    end_told: bool
    warnings: dict[str, str]
    resumptions: tuple[Resumption, ...]
    fates: bytes
    dropped: dict[str, int]
    expected: int | None
    announced: int | None
    duplicates: int
    positions_m: bytes
    bounds: Bounds | None
    first_corner: tuple[int, int] | None
    block_px: int
    blocks: list[BlockFile]

    @classmethod
    def of(cls, state: RunState, identity: Identity, block_px: int, blocks: list[BlockFile]) -> Snapshot:
        """Return what is written of a state whose blocks are in those files."""
        ledger, corner = state.ledger, state.mosaic.first_corner
        first_corner = None if corner is None else (int(corner[0]), int(corner[1]))
        return cls(
            identity=identity, started_ns=state.started_ns, end_told=state.end_told,
            warnings=state.warnings, resumptions=state.resumptions, fates=ledger.fates.tobytes(),
            dropped=ledger.dropped, expected=ledger.expected, announced=ledger.announced,
            duplicates=ledger.duplicates, positions_m=state.positions_m.astype("<f8").tobytes(),
            bounds=state.mosaic.bounds, first_corner=first_corner, block_px=block_px, blocks=blocks,
        )  # fmt: skip

    def state(self, sums: dict[Key, Float32]) -> RunState:
        """Return the state that was written.

        Raises:
            SnapshotError: arrays do not have whole rows.
        """
        corner = None if self.first_corner is None else np.array(self.first_corner, np.int64)
        fates = np.frombuffer(self.fates, np.uint8)
        return RunState(
            self.started_ns, self.end_told, self.warnings, self.resumptions,
            LedgerState(fates, self.dropped, self.expected, self.announced, self.duplicates),
            MosaicState(0, self.bounds, corner, sums), _rows(self.positions_m),
        )  # fmt: skip

    def sums(self, content: bytes) -> Float32:
        """Return the sums (5, B, B) that a block's file holds.

        Raises:
            SnapshotError: it is too long or too short.
        """
        if len(content) != SUMS * self.block_px**2 * 4:
            raise SnapshotError("a block of the mosaic has another size")
        sums: NDArray[np.float32] = np.frombuffer(content, "<f4").astype(np.float32)
        return sums.reshape(SUMS, self.block_px, self.block_px)


Kept = TypeVar("Kept", Snapshot, Opening)


def encode(kept: Snapshot | Opening) -> bytes:
    """Return it as bytes."""
    return msgspec.msgpack.encode(kept)


def decode_snapshot(content: bytes) -> Snapshot:
    """Read a snapshot.

    Raises:
        SnapshotError: it says something else.
    """
    return _decoded(content, Snapshot, "the snapshot")


def decode_opening(content: bytes) -> Opening:
    """Read the messages that began a scan.

    Raises:
        SnapshotError: it says something else.
    """
    return _decoded(content, Opening, "the start of the scan")


def _decoded(content: bytes, kind: type[Kept], what: str) -> Kept:
    try:
        return msgspec.msgpack.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SnapshotError(f"{what} is not understood: {error}") from error


def _rows(content: bytes) -> Float64:
    if len(content) % 16:
        raise SnapshotError("positions of the snapshot are no pairs")
    return np.frombuffer(content, "<f8").astype(np.float64).reshape(-1, 2)
