"""The running service as the page and the HTTP API see it (`service.web.view.LiveView`)."""

from __future__ import annotations

import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.bundle import BUNDLES, Bundle, BundleError, load_bundle
from model.orientation import Orientation
from service.app import App
from service.config import Settings
from service.errors import ConfigError
from service.metrics import Standing
from service.mosaic import Mosaic
from service.web.recent import RecentFrames

_GAPS = 8  # ranges of missing frames that are told


class AppView:
    """Reads a service; safe to call from the web server's threads."""

    def __init__(self, app: App) -> None:
        self._app = app
        app.metrics.tell_standing(self._standing)

    def status(self) -> dict[str, Any]:
        """Return the state of the whole service."""
        app, now_s = self._app, time.monotonic()
        current = app.runs.current()
        newest = current or next(iter(app.runs.newest_first()), None)
        return {
            "version": version("ptycholive"),
            "engine": {"backend": app.engine.backend, "device": app.engine.device},
            "model": describe(app.engine.bundle),
            "sources": [
                {
                    "role": intake.role,
                    "endpoint": intake.source.endpoint,
                    "format": intake.stream_format,
                    "state": intake.state(now_s),
                    "messages": intake.messages,
                    "refused": intake.refused,
                    "lost_peers": intake.lost_peers,
                }
                for intake in app.intakes
            ],
            "queues": app.queues(),
            "recording": app.recording.report(),
            "orientation": self._orientation(),
            "gauge_alignment": app.aligns,
            "current_scan": None if current is None else current.scan,
            "warnings": [*app.warnings, *(newest.warnings.values() if newest else ())],
        }

    def scans(self) -> list[dict[str, Any]]:
        """Return the remembered scans, newest first."""
        return [run.summary() for run in self._app.runs.newest_first()]

    def scan(self, name: str) -> dict[str, Any] | None:
        """Return one scan's report."""
        run = self._app.runs.get(name)
        if run is None:
            return None
        told = run.report(time.time_ns())
        gaps = [list(gap) for gap in run.ledger.gaps(_GAPS)]
        return {**told, "missing": gaps, "refinement": self._app.refiner.report(run)}

    def mosaic(self, name: str) -> Mosaic | None:
        """Return the mosaic of a scan."""
        run = self._app.runs.get(name)
        return None if run is None else run.mosaic

    def refined(self, name: str) -> Mosaic | None:
        """Return what idle time has made of a scan's mosaic."""
        run = self._app.runs.get(name)
        return None if run is None else self._app.refiner.refined(run)

    def recent(self, name: str) -> RecentFrames | None:
        """Return the last frames of the scan that runs or ran last."""
        recent = self._app.recent
        return recent if recent is not None and recent.scan == name else None

    def result_file(self, name: str) -> Path | None:
        """Return the finished scan's result file."""
        return self._app.store.file(name)

    def activate(self, bundle: str) -> dict[str, Any]:
        """Swap the model."""
        return describe(self._app.activate(bundle))

    def bundles(self) -> list[dict[str, Any]]:
        """Return the bundles that are shipped, and those beside the one that runs."""
        runs = self._app.engine.bundle
        folders = dict.fromkeys((BUNDLES, runs.path.resolve().parent))
        found = [path.parent for folder in folders for path in sorted(folder.glob("*/model.json"))]
        return [_listed(path, runs) for path in found]

    def abort(self, name: str) -> None:
        """End the running scan now."""
        self._app.abort(name)

    def orient(self, frames: str, positions: str) -> dict[str, Any]:
        """Turn frames and positions so from the next scan on."""
        try:
            turns = Orientation.of_setting(frames), Orientation.of_axes(positions)
        except KeyError as error:
            raise ConfigError(
                f"there is no orientation {error}: `ptycholive serve --help` lists them"
            ) from error
        self._app.orient(*turns)
        return self._orientation()

    def _orientation(self) -> dict[str, str]:
        frames, positions = self._app.door.orientation
        return {"frames": frames.setting, "positions": positions.axes}

    def align(self, on: bool) -> dict[str, Any]:
        """Turn each tile of the next scans to fit those before it, or not."""
        self._app.align(on)
        return {"gauge_alignment": self._app.aligns}

    def record(self, on: bool) -> dict[str, Any]:
        """Begin or end to record; return what is recorded."""
        self._app.recording.switch(on)
        return self._app.recording.report()

    def ready(self) -> tuple[bool, str]:
        """Return whether frames can be taken now."""
        if self._app.failure is not None:
            return False, f"failed: {self._app.failure}"
        if not self._app.intakes:
            return False, "starting"
        return True, "ready"

    def metrics(self) -> tuple[bytes, str]:
        """Return the Prometheus exposition."""
        run = self._app.runs.current()
        if run is not None:
            self._app.metrics.agreement.set(run.mosaic.agreement_mean())
        return self._app.metrics.exposition()

    def _standing(self) -> Standing:
        app, trust = self._app, self._app.engine.bundle.description.trust
        recording = app.recording.report()
        return Standing(
            scan_running=app.runs.current() is not None,
            residual_limit=None if trust is None else trust.residual[1],
            inbox_bytes=app.inbox.held_bytes,
            inbox_limit_bytes=app.settings.inbox_mib << 20,
            recording=recording["on"],
            recording_lost_frames=recording["lost"],
            disk_free_bytes=_room(app.settings),
        )


def _room(settings: Settings) -> dict[str, int]:
    """Return the free bytes on the disks of the folders that are written to, as far as they exist."""
    folders = {"results": settings.results, "record": settings.record}
    return {
        name: shutil.disk_usage(path).free
        for name, path in folders.items()
        if path is not None and Path(path).is_dir()
    }


def _listed(path: Path, runs: Bundle) -> dict[str, Any]:
    """Return what the list of bundles says of one; one that cannot be used says why."""
    name = path.name if path.parent == BUNDLES else str(path)
    try:
        bundle = load_bundle(path)
    except BundleError as error:
        return {"bundle": name, "name": path.name, "refused": str(error), "active": False}
    active = bundle.description.onnx_sha256 == runs.description.onnx_sha256
    return {**describe(bundle), "bundle": name, "refused": None, "active": active}


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return what the API says of a model."""
    told = bundle.description
    return {
        "name": told.name,
        "kind": told.kind,
        "sha256": told.onnx_sha256,
        "path": str(bundle.path),
        "frame_shape": list(told.frame_shape),
        "tile_shape": list(told.tile_shape),
        "object_pixel_m": told.object_pixel_m,
    }
