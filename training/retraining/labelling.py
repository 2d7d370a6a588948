"""Scans with a reconstruction beside them: their own, or one that is made now and kept."""

from __future__ import annotations

from pathlib import Path

import click

from model.bundle import file_sha256
from model.scans import ScanFileError, open_scan
from training.judging.iterative import IterativeSettings
from training.label import label
from training.registry import Entry


class Labeller:
    """Reconstructs scans that hold no reference.

    Args:
        work: folder that keeps what was reconstructed, so that a second run need not.
        parent: whose probe is started from; None: only scans with a reference are taken.
        settings: of the iterative engine.
    """

    def __init__(self, work: Path, parent: Entry | None, settings: IterativeSettings) -> None:
        self._work = work
        self._parent = parent
        self._settings = settings

    def labelled(self, scan: Path) -> Path:
        """Return the scan if it holds a reference, else a copy of it that does.

        Raises:
            ScanFileError, BundleError: scan or probe cannot be read, or there is no probe to start from.
            ValueError: they do not fit each other, or the engine diverged.
        """
        with open_scan(scan) as file:
            if file.reference() is not None:
                return scan
        if self._parent is None:
            raise ScanFileError(
                f"{scan}: no reference in it, and no --parent whose probe a reconstruction could start from"
            )
        out = self._work / self._kept_as(scan, self._parent)
        if not out.is_file():
            self._work.mkdir(parents=True, exist_ok=True)
            click.echo(label(scan, out, str(self._parent.path), None, self._settings), err=True)
        return out

    def _kept_as(self, scan: Path, parent: Entry) -> str:
        """Return a name that says by what the scan was reconstructed."""
        hashed = f"{file_sha256(scan)[:12]}-{parent.lineage().probe_sha256[:12]}"
        return f"{scan.stem}-{hashed}-{self._settings.engine}-{self._settings.iterations}.cxi"
