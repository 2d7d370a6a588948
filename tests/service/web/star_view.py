"""A small service for the web tests: the measured Siemens star, stitched tile by tile on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from service.errors import PtycholiveError
from service.messages import Tiles
from service.mosaic import Mosaic
from service.refine.picture import as_mosaic
from service.web.recent import RecentFrames

STAR = Path(__file__).parents[3] / "service/data/siemens_star_aps.cxi"
TILE = 80
MASKED = 65535  # a count that is no measurement
SATURATION = 30_000
FRAME_BYTES = 2 * TILE**2


class RefusedError(PtycholiveError):
    """What this view does not do."""


class StarView:
    """A `LiveView` whose scans are the star's reference object, cut into tiles around the scan positions."""

    def __init__(self) -> None:
        with h5py.File(STAR) as file:
            reference = file["entry_1/reference_1"]
            self.object = reference["object"][()]
            self.pixel_m = float(reference["object_pixel_m"][()])
            corners = np.round(reference["positions_px"][()]).astype(int)
        self.corners = corners + (128 - TILE) // 2
        self.warnings: list[str] = []
        self.result: Path | None = None
        self.model = "star-unet-0.3"
        self.recording = {"on": False}
        self.orientation = {"frames": "as-is", "positions": "y,x"}
        self.aligns = False
        self.missing: list[list[int]] = []
        self.trust = {"state": "good"}
        self.sweeps = 0
        self.recent_frames = RecentFrames("", 0, MASKED)
        self._mosaics: dict[str, Mosaic] = {}
        self._finished: dict[str, str] = {}

    @property
    def frames(self) -> int:
        return len(self.corners)

    def begin(self, scan: str) -> None:
        r = np.hypot(*np.mgrid[-1 : 1 : TILE * 1j, -1 : 1 : TILE * 1j])
        self._mosaics.pop(scan, None)
        self._mosaics[scan] = Mosaic(self.pixel_m, np.clip(1.05 - r, 0, 1).astype(np.float32) ** 2)
        self.recent_frames = RecentFrames(scan, 100 * FRAME_BYTES, MASKED, SATURATION)
        self.stitched = 0

    def stitch(self, count: int, phase_turn_rad: float = 0.0) -> None:
        """Add the next tiles to the scan that was begun last."""
        corners = self.corners[self.stitched : self.stitched + count]
        tiles = np.stack([self.object[y : y + TILE, x : x + TILE] for y, x in corners])
        noise_rad = np.random.default_rng(self.stitched).normal(0, 0.1, tiles.shape)
        tiles = tiles * np.exp(1j * (phase_turn_rad + noise_rad))
        unit = tiles / np.abs(tiles)
        indices = np.arange(self.stitched, self.stitched + len(corners))
        current = list(self._mosaics.values())[-1]
        positions_m = (corners + TILE // 2) * self.pixel_m
        amplitude, cos, sin = (part.astype(np.float32) for part in (np.abs(tiles), unit.real, unit.imag))
        current.add(Tiles("", indices, positions_m, amplitude, cos, sin, np.zeros(len(corners), np.int64)))
        self.recent_frames.add(indices, positions_m, patterns(tiles))
        self.stitched += len(corners)

    def show(self, scan: str, mosaic: Mosaic) -> None:
        """Begin a scan whose mosaic is there already."""
        self.begin(scan)
        self._mosaics[scan] = mosaic

    def finish(self) -> None:
        self._finished[list(self._mosaics)[-1]] = "2026-03-01T12:00:09+00:00"

    def status(self) -> dict[str, Any]:
        running = [name for name in self._mosaics if name not in self._finished]
        return {
            "version": "0.1.0",
            "engine": {"backend": "onnxruntime", "device": "CPU"},
            "model": {"name": self.model, "sha256": "0" * 64},
            "sources": [
                {
                    "role": "images",
                    "endpoint": "tcp://127.0.0.1:9999",
                    "format": "dectris-v2",
                    "state": "receiving",
                }
            ],
            "queues": {"frames": 12, "batches": 2},
            "recording": self.recording,
            "orientation": self.orientation,
            "gauge_alignment": self.aligns,
            "current_scan": running[-1] if running else None,
            "warnings": self.warnings,
        }

    def scans(self) -> list[dict[str, Any]]:
        return [
            {key: self._report(name)[key] for key in ("scan", "started", "finished", "ledger")}
            for name in reversed(self._mosaics)
        ]

    def scan(self, name: str) -> dict[str, Any] | None:
        return self._report(name) if name in self._mosaics else None

    def _report(self, name: str) -> dict[str, Any]:
        stitched = self.frames if name in self._finished else self.stitched
        stages = dict.fromkeys(("received", "decoded", "joined", "inferred", "stitched"), stitched)
        dropped = {"never_arrived": self.frames - stitched} if name in self._finished else {}
        return {
            "scan": name,
            "geometry": {"object_pixel_m": self.pixel_m},
            "ledger": {"expected": self.frames, **stages, "duplicates": 0, "dropped": dropped},
            "ledger_words": f"{stitched} of {self.frames} frames are in the mosaic, none was lost.",
            "missing": self.missing,
            "trust": self.trust,
            "rates": {"frames_per_s": 214.0, "latency_p50_s": 0.0121, "latency_p99_s": 0.0378},
            "started": "2026-03-01T12:00:00+00:00",
            "finished": self._finished.get(name),
            "model": {"name": self.model},
            "refinement": self._refinement(),
        }

    def _refinement(self) -> dict[str, Any] | None:
        if not self.sweeps:
            return None
        figures = {
            "residual_before": 0.31,
            "residual_after": 0.12,
            "frames": 60,
            "left_out": 0,
            "seconds": 4.0,
        }
        return {"state": "refining", "ended": False, "sweeps": self.sweeps, **figures}

    def mosaic(self, name: str) -> Mosaic | None:
        return self._mosaics.get(name)

    def refined(self, name: str) -> Mosaic | None:
        """The star itself within the mosaic's bounds, as soon as there was a sweep; brighter by each."""
        if not self.sweeps:
            return None
        y0, x0, y1, x1 = bounds = self._mosaics[name].bounds()
        coverage = self._mosaics[name].image("coverage", bounds)
        star = np.float32(1 + 0.1 * self.sweeps) * self.object[y0:y1, x0:x1].astype(np.complex64)
        return as_mosaic(star, coverage, bounds, self.pixel_m)

    def recent(self, name: str) -> RecentFrames | None:
        return self.recent_frames if name == self.recent_frames.scan else None

    def result_file(self, name: str) -> Path | None:
        return self.result

    def activate(self, bundle: str) -> dict[str, Any]:
        if bundle != "star-unet-0.4":
            raise RefusedError(f"bundle {bundle} is refused: model.onnx does not match its sha256")
        self.model = bundle
        return {"name": bundle}

    def bundles(self) -> list[dict[str, Any]]:
        names = ("star-unet-0.3", "star-unet-0.4")
        return [
            {"bundle": name, "name": name, "refused": None, "active": name == self.model} for name in names
        ]

    def abort(self, name: str) -> None:
        if name in self._finished:
            raise RefusedError(f"scan {name} is not running: there is nothing to abort")
        self.finish()

    def orient(self, frames: str, positions: str) -> dict[str, Any]:
        if (current := self.status()["current_scan"]) is not None:
            raise RefusedError(f"scan {current} is running: orientation is changed between scans")
        self.orientation = {"frames": frames, "positions": positions}
        return self.orientation

    def align(self, on: bool) -> dict[str, Any]:
        self.aligns = on
        return {"gauge_alignment": on}

    def record(self, on: bool) -> dict[str, Any]:
        self.recording = {"on": on}
        return self.recording

    def ready(self) -> tuple[bool, str]:
        return (True, "ready") if not self.warnings else (False, self.warnings[0])

    def metrics(self) -> tuple[bytes, str]:
        return b"ptycholive_batch_frames 64\n", "text/plain; version=0.0.4; charset=utf-8"


def patterns(tiles: np.ndarray) -> np.ndarray:
    """Diffraction patterns (n, TILE, TILE) of the tiles, by a 16-bit detector with a masked corner."""
    spectrum = np.fft.fftshift(np.fft.fft2(tiles, norm="ortho"), axes=(1, 2))
    counts = np.minimum(10 * np.abs(spectrum) ** 2, SATURATION).astype(np.uint16)
    counts[:, :6, :6] = MASKED
    return counts
