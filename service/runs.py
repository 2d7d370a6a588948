"""The scans that the service remembers: the one that is running, and the last few."""

from __future__ import annotations

import threading

from service.metrics import LedgerTotals
from service.scan_run import ScanRun


class Runs:
    """Keeps scans; one thread adds and finishes, any thread reads.

    Args:
        keep: finished scans to keep; older ones live on in their result files.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._runs: list[ScanRun] = []
        self._retired = LedgerTotals()
        self._lock = threading.Lock()

    def add(self, run: ScanRun) -> None:
        """Take in a scan that began; a scan that has its name gives way to it."""
        with self._lock:
            self._retire([old for old in self._runs if old.scan == run.scan])
            self._runs.append(run)

    def finish(self, run: ScanRun) -> None:
        """Forget the oldest finished scans beyond those to keep."""
        with self._lock:
            finished = [old for old in self._runs if old.finished_ns is not None]
            self._retire(finished[: max(0, len(finished) - self._keep)])

    def newest_first(self) -> list[ScanRun]:
        """Return all that are remembered."""
        with self._lock:
            return self._runs[::-1]

    def get(self, scan: str) -> ScanRun | None:
        """Return a scan by name."""
        return next((run for run in self.newest_first() if run.scan == scan), None)

    def current(self) -> ScanRun | None:
        """Return the scan that is running."""
        return next((run for run in self.newest_first() if run.finished_ns is None), None)

    def totals(self) -> LedgerTotals:
        """Return the ledgers of all scans since the service started, added up."""
        totals = LedgerTotals()
        with self._lock:
            totals.stages.update(self._retired.stages)
            totals.dropped.update(self._retired.dropped)
            for run in self._runs:
                totals.add(run.ledger.counts())
        return totals

    def _retire(self, runs: list[ScanRun]) -> None:
        for run in runs:
            self._retired.add(run.ledger.counts())
            self._runs.remove(run)
