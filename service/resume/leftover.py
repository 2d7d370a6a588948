"""What a service that went down has left of its scans."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.resume.arrivals import read_arrivals
from service.resume.run_folder import ARRIVALS, read_opening, read_snapshot, read_state
from service.resume.sealed import SnapshotError
from service.resume.snapshot import Opening, Snapshot
from service.scan_run import RunState

PUT_ASIDE: Final = "put-aside"


@dataclass(frozen=True, slots=True, eq=False)
class Leftover:
    """One scan that was running.

    Attributes:
        path: of its folder.
        opening: the messages that began it.
        snapshot: the last one.
        arrivals: (n,) how often frame 0, 1, … had come when the service went down.
    """

    path: Path
    opening: Opening
    snapshot: Snapshot
    arrivals: NDArray[np.uint8]

    @property
    def scan(self) -> str:
        """Its name."""
        return self.opening.scan

    def state(self) -> RunState:
        """Return what was kept of it, with its mosaic.

        Raises:
            SnapshotError: a part is missing or damaged.
        """
        return read_state(self.path, self.snapshot)


def find_leftovers(running: Path) -> tuple[list[Leftover], list[tuple[Path, SnapshotError]]]:
    """Return the scans that are kept in a folder, the oldest first; and what cannot be used, and why."""
    found: list[Leftover] = []
    refused: list[tuple[Path, SnapshotError]] = []
    for path in filter(Path.is_dir, running.iterdir()):
        try:
            snapshot = read_snapshot(path)
            if snapshot is None:
                shutil.rmtree(path, ignore_errors=True)  # announced, and never begun
            else:
                found.append(Leftover(path, read_opening(path), snapshot, _arrivals(path / ARRIVALS)))
        except SnapshotError as error:
            refused.append((path, error))
    newest = {left.scan: left for left in sorted(found, key=lambda left: left.snapshot.started_ns)}
    begun_anew = SnapshotError("the scan was begun anew under the same name")
    refused += [(left.path, begun_anew) for left in found if newest[left.scan] is not left]
    return sorted(newest.values(), key=lambda left: left.snapshot.started_ns), refused


def _arrivals(path: Path) -> NDArray[np.uint8]:
    try:
        return read_arrivals(path)
    except OSError as error:
        raise SnapshotError(f"{path.name} cannot be read: {error.strerror}") from error
