"""What a service does first: it goes on with the scan that the one before it was killed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from model.bundle import BundleDescription
from service.intake import Intake
from service.messages import Event, ScanStart
from service.resume.going_on import Resumer
from service.resume.keeper import RunKeeper
from service.resume.leftover import Leftover
from service.resume.sealed import SnapshotError
from service.resume.snapshot import Identity

_UNREADABLE = "the message that began it cannot be read any more: was images_format changed?"

Admit = Callable[[Iterable[Event]], tuple[Event, ...]]
Recognised = tuple[Leftover | None, ScanStart]


def recognise(keeper: RunKeeper, images: Intake, admit: Admit, model: BundleDescription) -> list[Recognised]:
    """Return what was running when a service went down, the oldest first; before anything is received.

    The decoder and the door know those scans from now on, so that their frames need no new start. What cannot
    be gone on with is put aside, and its scan begins anew: None stands in its place.
    """
    found: list[Recognised] = []
    for left in keeper.leftovers():
        start = _start_of(left, images, admit)
        if start is None:
            keeper.put_aside(left.path, _UNREADABLE)
            continue
        misfit = left.snapshot.identity.misfit(Identity.of(start, model))
        if misfit is None:
            keeper.adopt(left)
        else:
            keeper.put_aside(left.path, misfit)
            keeper.open(left.opening)
        found.append((left if misfit is None else None, start))
    return found


def go_on(
    found: Sequence[Recognised], resumer: Resumer, keeper: RunKeeper, tell: Callable[[str], None]
) -> None:
    """Go on with the newest of those scans; those before it were over, and their results are written.

    Args:
        found: what `recognise` has found.
        resumer: of the journey, in its thread.
        keeper: of the running scan.
        tell: is told a line of a scan that goes on.
    """
    for left, start in found:
        resumer.journey.close()
        if left is None:
            resumer.begin_anew(start)
            continue
        try:
            tell(f"scan {start.scan}: {resumer.go_on(left, start).in_words()}")
        except SnapshotError as damaged:
            keeper.put_aside(left.path, damaged)
            keeper.open(left.opening)
            resumer.begin_anew(start)


def _start_of(left: Leftover, images: Intake, admit: Admit) -> ScanStart | None:
    """Decode the messages again that a scan began with; return its start as it comes out of the door."""
    events = [
        event
        for message in left.opening.messages
        for event in images.again(message.parts, message.received_ns)
    ]
    starts = [event for event in events if isinstance(event, ScanStart) and event.scan == left.scan]
    admitted = [event for event in admit(starts[-1:]) if isinstance(event, ScanStart)]
    return admitted[0] if admitted else None
