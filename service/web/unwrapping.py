"""The unwrapped phase for all who look at a page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from service.mosaic import Mosaic
from service.unwrap import Unwrapped, unwrapped

_REST_SHARE = 9  # the service rests so many times as long as it took
_LEAST_REST_S = 1.0


class _Kept(NamedTuple):
    """What was found of an object when it had a version, good enough until the rest is over."""

    found: Unwrapped
    version: int
    rests_until_s: float


class SharedUnwrapping:
    """The unwrapped phases of what is looked at, found once for all who look, from any thread.

    While an object changes it is unwrapped again only after a rest: this takes a tenth of a core at most.
    A scan that has the name of an earlier one has another mosaic, and so nothing of the earlier one's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # What nobody else keeps any more is not kept alive from here.
        self._kept: WeakKeyDictionary[Mosaic, dict[bool, _Kept]] = WeakKeyDictionary()

    def of(
        self, mosaic: Mosaic, refined: bool, version: int, take: Callable[[], Mosaic]
    ) -> tuple[Unwrapped, bool]:
        """Return the newest there is, and whether it is of the version that is asked for.

        Args:
            mosaic: of the run of the scan.
            refined: what the refinement made of it is wanted.
            version: of the object, as it is now.
            take: returns the object; called only where it is unwrapped.
        """
        with self._lock:
            of_run = self._kept.setdefault(mosaic, {})
            kept = of_run.get(refined)
            if kept is None or (kept.version != version and time.monotonic() >= kept.rests_until_s):
                began_s = time.monotonic()
                found = unwrapped(take())
                rest_s = max(_LEAST_REST_S, _REST_SHARE * (time.monotonic() - began_s))
                kept = of_run[refined] = _Kept(found, version, time.monotonic() + rest_s)
            return kept.found, kept.version == version
