"""The running service as the page and the HTTP API see it (`service.web.view.LiveView`)."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.bundle import Bundle
from service.app import App
from service.mosaic import Mosaic
from service.web.recent import RecentFrames


class AppView:
    """Reads a service; safe to call from the web server's threads."""

    def __init__(self, app: App) -> None:
        self._app = app

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
        return {**run.report(time.time_ns()), "refinement": self._app.refiner.report(run)}

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
