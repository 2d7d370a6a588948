"""What Prometheus sees. Frame counts are read from the ledgers themselves, so that they cannot disagree."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.ledger import LedgerCounts

SECONDS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCHES = tuple(2**n for n in range(11))
STAGES = ("expected", "received", "decoded", "joined", "inferred", "stitched", "duplicates")


class LedgerTotals:
    """Ledgers added up over the life of the service."""

    def __init__(self) -> None:
        self.stages: Tally[str] = Tally(dict.fromkeys(STAGES, 0))
        self.dropped: Tally[str] = Tally()

    def add(self, counts: LedgerCounts) -> None:
        """Add one scan."""
        for stage in STAGES:
            self.stages[stage] += getattr(counts, stage) or 0
        self.dropped.update(counts.dropped)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is so at the moment; a figure that does not apply is None, and then not told.

    Attributes:
        scan_running: whether a scan runs.
        residual_limit: the bundle's calibration, the 99th percentile of its frames' forward residual.
        inbox_bytes: received data that waits for the engine.
        inbox_limit_bytes: its budget.
        recording: whether scans are recorded.
        recording_lost_frames: frames that the recording lost since the start.
        disk_free_bytes: room on the disk of each folder, "results" and "record".
    """

    scan_running: bool
    residual_limit: float | None
    inbox_bytes: int
    inbox_limit_bytes: int
    recording: bool
    recording_lost_frames: int
    disk_free_bytes: Mapping[str, int]

    def families(self) -> Iterator[Metric]:
        """Yield it for Prometheus."""
        yield _gauge("scan_running", "1 while a scan runs, else 0", self.scan_running)
        if self.residual_limit is not None:
            told = "99th percentile of the forward residual that the model was calibrated with"
            yield _gauge("forward_residual_limit", told, self.residual_limit)
        yield _gauge("inbox_bytes", "Received data that waits for the engine", self.inbox_bytes)
        yield _gauge("inbox_limit_bytes", "How much of it may wait", self.inbox_limit_bytes)
        yield _gauge("recording", "1 while scans are recorded, else 0", self.recording)
        yield CounterMetricFamily(
            "ptycholive_recording_lost_frames",
            "Frames that the recording lost",
            value=self.recording_lost_frames,
        )
        free = GaugeMetricFamily(
            "ptycholive_disk_free_bytes", "Room on the disk of a folder", labels=["folder"]
        )
        for folder, number in self.disk_free_bytes.items():
            free.add_metric([folder], number)
        yield free


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ptycholive_{name}", told, value=value)


class _StandingCollector(Collector):
    """Asks how things stand when Prometheus asks."""

    def __init__(self, standing: Callable[[], Standing]) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        """Yield the families of the moment."""
        return self._standing().families()


class _LiveCollector(Collector):
    """Asks for totals and queues when Prometheus asks for them."""

    def __init__(self, totals: Callable[[], LedgerTotals], queues: Callable[[], Mapping[str, int]]) -> None:
        self._totals = totals
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        """Yield the frame counters and the queue gauges."""
        totals = self._totals()
        frames = CounterMetricFamily("ptycholive_frames", "Frames that passed a stage", labels=["stage"])
        for stage, number in totals.stages.items():
            frames.add_metric([stage], number)
        dropped = CounterMetricFamily(
            "ptycholive_frames_dropped", "Frames lost, by reason", labels=["reason"]
        )
        for reason, number in totals.dropped.items():
            dropped.add_metric([reason], number)
        queues = GaugeMetricFamily("ptycholive_queue_frames", "Frames that wait", labels=["queue"])
        for queue, number in self._queues().items():
            queues.add_metric([queue], number)
        yield from (frames, dropped, queues)


class Metrics:
    """The service's metrics; any thread may write."""

    def __init__(self, totals: Callable[[], LedgerTotals], queues: Callable[[], Mapping[str, int]]) -> None:
        """Register everything in a registry of its own.

        Args:
            totals: ledgers added up now.
            queues: frames waiting now, by queue.
        """
        self._registry = CollectorRegistry()
        self._registry.register(_LiveCollector(totals, queues))
        new: dict[str, Any] = {"registry": self._registry}
        self._stage_seconds = Histogram(
            "ptycholive_stage_seconds",
            "Seconds a message or batch spends in a stage",
            ["stage"],
            buckets=SECONDS,
            **new,
        )
        self.frame_to_mosaic_seconds = Histogram(
            "ptycholive_frame_to_mosaic_seconds",
            "Seconds from the socket to the mosaic",
            buckets=SECONDS,
            **new,
        )
        self.batch_frames = Histogram("ptycholive_batch_frames", "Frames in a batch", buckets=BATCHES, **new)
        self.forward_residual = Gauge(
            "ptycholive_forward_residual", "√(Σ(√I − √Î)²/ΣI) of the last sampled frame", **new
        )
        self.agreement = Gauge("ptycholive_agreement", "Mean agreement of overlapping tiles, 0 to 1", **new)
        self.confidence = Gauge("ptycholive_confidence", "Mean confidence of the pixels, 0 to 1", **new)
        self.refused = Counter(
            "ptycholive_messages_refused", "Messages that could not be used", ["source"], **new
        )
        self.strays = Counter("ptycholive_stray_frames", "Frames of scans that were not running", **new)
        self.workers = Gauge("ptycholive_workers", "Engines that take batches", **new)
        self.workers_lost = Counter(
            "ptycholive_workers_lost", "Times that one went away, or did not come back", **new
        )
        self._engine = Gauge(
            "ptycholive_engine_info", "What runs the network", ["backend", "device", "model"], **new
        )

    def tell_standing(self, standing: Callable[[], Standing]) -> None:
        """From now on tell, with every scrape, how things stand."""
        self._registry.register(_StandingCollector(standing))

    def stage_seconds(self, stage: str, seconds: float) -> None:
        """Note how long a stage took."""
        self._stage_seconds.labels(stage).observe(seconds)

    def engine(self, backend: str, device: str, model: str) -> None:
        """Note the engine in use; the one before is forgotten."""
        self._engine.clear()
        self._engine.labels(backend, device, model).set(1)

    def exposition(self) -> tuple[bytes, str]:
        """Return the text that Prometheus scrapes, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
