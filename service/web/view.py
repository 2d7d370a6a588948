"""What the page and the HTTP API need of the running service."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from service.mosaic import Mosaic
from service.web.recent import RecentFrames


class LiveView(Protocol):
    """The running service, seen from the web.

    Methods are called from the web server's threads while frames are being stitched: each must be
    safe to call at any time and return quickly, except `activate`. The dicts hold only text, numbers,
    booleans, None, lists and dicts; times are ISO 8601 text with a zone, or None.
    """

    def status(self) -> dict[str, Any]:
        """Return the state of the whole service.

        Keys: `version`, `engine` {`backend`, `device`}, `model` {`name`, `sha256`, …},
        `sources` [{`role`, `endpoint`, `format`, `state`}], `queues` {name: frames waiting},
        `current_scan` (its name or None), `warnings` [one line each], `orientation` {`frames`, `positions`}
        as in the settings, `gauge_alignment` of the next scans,
        `recording` {`on`, `folder`, `scan`, `frames`, `lost`, `files`, `last_file`}.
        """

    def scans(self) -> list[dict[str, Any]]:
        """Return one dict a scan, newest first: `scan`, `started`, `finished`, `ledger`."""

    def scan(self, name: str) -> dict[str, Any] | None:
        """Return what is known of one scan, or None if there is no such scan.

        Keys: `scan`, `geometry` {`object_pixel_m`, …}, `ledger` {`expected`, `received`, `decoded`,
        `joined`, `inferred`, `stitched`, `duplicates`, `dropped` {reason: frames}}, `ledger_words`,
        `missing` [[first, last], …] the first few ranges of frames that have not come though later ones
        have, `rates` {`frames_per_s`, `latency_p50_s`, `latency_p99_s`}, `started`, `finished`, `model`,
        `refinement` None or {`state` (words), `ended`, `frames`, `left_out`, `turned`, `unturned`, `sweeps`,
        `residual_before`, `residual_after`, `seconds`}.
        """

    def mosaic(self, name: str) -> Mosaic | None:
        """Return the mosaic of a scan, the same object for as long as it is the same run of it."""

    def refined(self, name: str) -> Mosaic | None:
        """Return the refined object of a scan as a mosaic of the same bounds, or None while there is none.

        Amplitude and phase are refined; coverage is relative to its greatest.
        """

    def recent(self, name: str) -> RecentFrames | None:
        """Return the last frames of the scan that runs or ran last, None of any other."""

    def result_file(self, name: str) -> Path | None:
        """Return the finished scan's result file, or None while there is none."""

    def activate(self, bundle: str) -> dict[str, Any]:
        """Swap the model at a batch border and return the new model's description.

        Raises:
            PtycholiveError: the bundle is refused, with the reason in one line.
        """

    def bundles(self) -> list[dict[str, Any]]:
        """Return the bundles that are shipped, and those beside the one that runs.

        Keys: `name`, `bundle` (what `activate` takes), `kind`, `frame_shape`, `object_pixel_m`, `active`.
        """

    def abort(self, name: str) -> None:
        """End the running scan now; what can be placed is, the rest is counted, and the result is written.

        Raises:
            PtycholiveError: that scan is not running, with the reason in one line.
        """

    def orient(self, frames: str, positions: str) -> dict[str, Any]:
        """Turn frames and positions so from the next scan on, and return the status' `orientation`.

        Args:
            frames: as the setting `orientation`.
            positions: as the setting `positions_axes`.

        Raises:
            PtycholiveError: there is no such orientation, or a scan is running.
        """

    def align(self, on: bool) -> dict[str, Any]:
        """Turn each tile of the next scans to fit those before it, or not; return `gauge_alignment`."""

    def record(self, on: bool) -> dict[str, Any]:
        """Begin or end to record the stream, and return the status' `recording`.

        Raises:
            PtycholiveError: nothing can be recorded, with the reason in one line.
        """

    def ready(self) -> tuple[bool, str]:
        """Return whether frames can be taken now, and why (not)."""

    def metrics(self) -> tuple[bytes, str]:
        """Return the Prometheus exposition and its content type."""
