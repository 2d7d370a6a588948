"""One source and what has come from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from service.config import Settings
from service.errors import StreamError
from service.messages import Event, Notice, Positions, PositionsArmed, ScanEnd, ScanStart
from service.sources import Received, Source
from service.stream_keys import check_keys
from service.streams import AnySource, open_source, stream_format
from service.wire.fields import Parts
from service.wire.pixels import DEFAULT_LIMITS

Keep = Callable[[Iterable[Event]], tuple[Event, ...]]


@dataclass(slots=True, eq=False)
class Intake:
    """One source and what has come from it; written by its own thread.

    Attributes:
        role: "images" or "positions".
        source: the socket.
        stream_format: what is spoken there.
        keep: what of a message's events goes on.
        messages, refused: how many came, and how many of them could not be used.
        last_s: when the last one came, monotonic; None before.
        in_scan: a scan has begun and its end has not been told.
        lost_peers: how often a sender has gone away so far.
        in_vain: how often that was without a message since the time before.
    """

    role: str
    source: AnySource
    stream_format: str
    keep: Keep = tuple
    messages: int = 0
    refused: int = 0
    last_s: float | None = None
    in_scan: bool = False
    lost_peers: int = 0
    in_vain: int = 0
    _heard: int = 0

    def again(self, parts: Parts, received_ns: int) -> tuple[Event, ...]:
        """Return what a message says that another process received, and let the decoder know it."""
        if not isinstance(self.source, Source):
            return ()
        events = self.source.decode(parts, received_ns).events
        self.note(events)
        return events

    def note(self, events: Iterable[Event]) -> None:
        """Follow where scans begin and end."""
        for event in events:
            if isinstance(event, ScanStart | ScanEnd):
                self.in_scan = isinstance(event, ScanStart)

    def count(self, received: Received, now_s: float) -> None:
        """Count a message; what a source says of itself is none, and has no bytes."""
        if received.nbytes or received.error is not None:
            self.messages += 1
            self.last_s = now_s

    def refuse(self, error: StreamError) -> str | None:
        """Count a message that could not be used; return the line for the operator, None for most of a flood.

        The 1st, 2nd, 4th, 8th … are told: a flood must not fill the log.
        """
        self.refused += 1
        if self.refused.bit_count() != 1:
            return None
        return f"{self.refused} refused from {self.source.endpoint}, the last: {error}"

    def notice_losses(self) -> bool:
        """Look whether a sender has gone away; return whether the operator should know.

        In the middle of a scan it matters, and where senders come and go without a message: ZMQ may be
        cutting them off for what they send.
        """
        so_far = self.source.lost_peers()
        lost, self.lost_peers = so_far - self.lost_peers, so_far
        if not lost:
            return False
        self.in_vain = self.in_vain + lost if self.messages == self._heard else lost - 1
        self._heard = self.messages
        return self.in_scan or self.in_vain > 1

    def news_of_peers(self) -> Iterator[str]:
        """Yield a line for the operator on senders that have gone, and on who was refused for a key."""
        if self.notice_losses():
            when = "in the middle of a scan" if self.in_scan else "again and again without a message"
            yield (
                f"the sender at {self.source.endpoint} went away {when}: did it end, or "
                f"send a message above {DEFAULT_LIMITS.max_message_bytes} bytes?"
            )
        if (refusal := self.source.refusal()) is not None:
            yield refusal

    def state(self, now_s: float) -> str:
        """One word or two for the operator."""
        if self.last_s is None:
            return "nothing came yet"
        quiet_s = now_s - self.last_s
        return "receiving" if quiet_s < 2 else f"quiet for {quiet_s:.0f} s"


def open_intakes(settings: Settings, keep: Keep = tuple) -> Iterator[Intake]:
    """Open the streams that the settings name, one by one.

    Args:
        settings: of the streams.
        keep: what of the events goes on; of a position stream it is given the positions only.

    Raises:
        ConfigError: an endpoint cannot be had, or keys are of no use; those before stay open.
    """

    def keep_positions(events: Iterable[Event]) -> tuple[Event, ...]:
        return keep(positions_only(events))

    check_keys(settings)
    yield Intake("images", open_source(settings, "images"), settings.images_format, keep)
    if settings.positions is not None:
        source = open_source(settings, "positions")
        yield Intake("positions", source, stream_format(settings, "positions"), keep_positions)


def positions_only(events: Iterable[Event]) -> tuple[Event, ...]:
    """Keep the positions of a position stream, and what is said of them: its scans are the detector's."""
    kept: list[Event] = []
    for event in events:
        if isinstance(event, Positions | PositionsArmed | Notice):
            kept.append(event)
        elif isinstance(event, ScanStart) and event.positions_m is not None:
            kept.append(Positions(event.scan, 0, event.positions_m))
    return tuple(kept)
