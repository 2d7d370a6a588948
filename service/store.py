"""Result files: HDF5 after NeXus, written to a temporary name, then renamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np

from model.bundle import Bundle
from model.whole_files import written_whole
from service.errors import ConfigError
from service.images import Channel, FileFormat, encode
from service.messages import Float32
from service.mosaic import Bounds, Mosaic
from service.scan_run import ScanRun

LATEST = "latest.png"

_GROWTH_BYTES = 1 << 22
_COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 2, "shuffle": True}
_PLANES = {"phase": "rad", "amplitude": "", "agreement": "", "coverage": "", "confidence": ""}


class ResultStore:
    """Writes the result of each finished scan in a thread of its own, so that the next scan need not wait.

    Args:
        folder: made if need be.
        failed: is told a line when a file cannot be written.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, folder: Path, failed: Callable[[str], None]) -> None:
        self._folder = folder
        self._failed = failed
        self._files: dict[str, Path] = {}
        self._written: Callable[[Path], None] = lambda _: None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"results cannot go to {folder}: {error.strerror}") from error

    def save(self, run: ScanRun, bundle: Bundle) -> Future[bool]:
        """Write the scan's result and `latest.png`; a scan of the same name keeps its file.

        Returns:
            Whether it could be written.
        """
        return self._thread.submit(self._save, run, bundle)

    def save_refined(self, scan: str, refined: Mosaic, report: dict[str, Any]) -> Future[None]:
        """Add the refined object to the newest result of a scan."""
        return self._thread.submit(self._save_refined, scan, refined, report)

    def tell(self, written: Callable[[Path], None]) -> None:
        """Tell of each file that has been written, or that something was added to, from now on."""
        self._written = written

    def file(self, scan: str) -> Path | None:
        """Return the newest result of a scan, None while there is none, or where somebody took it away."""
        path = self._files.get(scan)
        return path if path is not None and path.is_file() else None

    def close(self) -> None:
        """Wait for what is being written."""
        self._thread.shutdown()

    def _save(self, run: ScanRun, bundle: Bundle) -> bool:
        path = self._free_name(run.scan)
        try:
            write_result(path, run, bundle)
            self._files[run.scan] = path
            if run.mosaic.version:
                _replace(self._folder / LATEST, encode(run.mosaic, Channel.PHASE, FileFormat.PNG))
        except OSError as error:
            self._failed(f"the result of {run.scan} could not be written to {self._folder}: {error}")
            return False
        self._written(path)
        return True

    def _save_refined(self, scan: str, refined: Mosaic, report: dict[str, Any]) -> None:
        path = self.file(scan)
        if path is None:
            return  # somebody took the result away, or it could not be written
        try:
            add_refined(path, refined, report)
        except OSError as error:
            self._failed(f"the refined object of {scan} could not be written to {self._folder}: {error}")
            return
        self._written(path)

    def _free_name(self, scan: str) -> Path:
        path = self._folder / f"{scan}.h5"
        if not path.exists():
            return path
        return self._folder / f"{scan}_{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.h5"


def write_result(path: Path, run: ScanRun, bundle: Bundle) -> None:
    """Write one scan's result file.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    _replace(path, _content(run, bundle))


def add_refined(path: Path, refined: Mosaic, report: dict[str, Any]) -> None:
    """Add the refined object to a result file: phase and amplitude, on the mosaic's grid.

    Raises:
        OSError: it cannot be read or written; the file stays as it was.
    """
    with h5py.File(path, "r+", driver="core", backing_store=False) as file:
        entry, bounds = file["entry"], refined.bounds()
        for channel in ("phase", "amplitude"):
            plane = refined.image(channel, bounds)
            _write_plane(entry, f"refined_{channel}", _PLANES[channel], plane, bounds, refined.object_pixel_m)
        entry["refinement"] = json.dumps(report)
        file.flush()
        content: bytes = file.id.get_file_image()
    _replace(path, content)


def _content(run: ScanRun, bundle: Bundle) -> bytes:
    """Return the file's bytes, made in memory: HDF5 crashes the process where a disk fills up under it."""
    with h5py.File("result", "w", driver="core", backing_store=False, block_size=_GROWTH_BYTES) as file:
        _write(file, run, bundle)
        file.flush()
        image: bytes = file.id.get_file_image()
        return image


def _replace(path: Path, content: bytes) -> None:
    with written_whole(path, synced=True) as half:
        half.write_bytes(content)


def _write(file: h5py.File, run: ScanRun, bundle: Bundle) -> None:
    file.attrs["default"] = "entry"
    entry = _group(file, "entry", "NXentry", default="phase", title=run.scan)
    entry["program_name"] = "ptycholive"
    entry["program_name"].attrs["version"] = version("ptycholive")
    report = run.report(run.finished_ns or 0)
    entry["start_time"], entry["end_time"] = report["started"], report["finished"] or ""
    bounds = run.mosaic.bounds()
    for channel, units in _PLANES.items():
        _write_plane(entry, channel, units, run.mosaic.image(channel, bounds), bounds, run.object_pixel_m)
    entry.create_dataset("object", data=run.mosaic.object(bounds), **_COMPRESSION)
    indices, positions_m = run.placed()
    entry["positions"] = positions_m
    entry["positions"].attrs.update(units="m", columns="y, x of the probe's centre, sample frame")
    entry["frames"] = indices
    _write_ledger(entry, report)
    _write_model(entry, bundle)
    entry["report"] = json.dumps(report)


def _group(parent: h5py.Group, name: str, kind: str, **attributes: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update(NX_class=kind, **attributes)
    return group


def _write_plane(
    entry: h5py.Group, channel: str, units: str, plane: Float32, bounds: Bounds, object_pixel_m: float
) -> None:
    data = _group(entry, channel, "NXdata", signal="data", title=channel)
    data.attrs["axes"] = ["y", "x"]
    data.create_dataset("data", data=plane, **_COMPRESSION).attrs["units"] = units
    for axis, first, count in zip("yx", bounds[:2], plane.shape, strict=True):
        data[axis] = (first + np.arange(count)) * object_pixel_m
        data[axis].attrs["units"] = "m"


def _write_ledger(entry: h5py.Group, report: dict[str, Any]) -> None:
    ledger = _group(entry, "ledger", "NXcollection")
    for name, number in report["ledger"].items():
        if name != "dropped":
            ledger[name] = number
    dropped = _group(ledger, "dropped", "NXcollection")
    for reason, number in report["ledger"]["dropped"].items():
        dropped[reason] = number
    ledger["in_words"] = report["ledger_words"]


def _write_model(entry: h5py.Group, bundle: Bundle) -> None:
    model = _group(entry, "model", "NXcollection")
    model["name"] = bundle.description.name
    model["onnx_sha256"] = bundle.description.onnx_sha256
    model["description"] = msgspec.json.encode(bundle.description).decode()
    model["probe"] = bundle.probe
