"""The unwrapped phase for all who look at a page."""

from __future__ import annotations

import threading
import time

from service.mosaic import Mosaic
from service.unwrap import Unwrapped, unwrapped

_REST_SHARE = 9  # the service rests so many times as long as it took
_LEAST_REST_S = 1.0


class SharedUnwrapping:
    """The unwrapped phase of the object that is looked at, found once for all who look, from any thread.

    While the object changes it is unwrapped again only after a rest: this takes a tenth of a core at most.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._name = ""
        self._mosaic: Mosaic | None = None
        self._found: Unwrapped | None = None
        self._rests_until_s = 0.0

    def of(self, name: str, mosaic: Mosaic) -> tuple[Unwrapped, bool]:
        """Return the newest there is, and whether it is that of the mosaic as it is now.

        Args:
            name: of the object; while this rests, one of the same name is as good.
            mosaic: the object.
        """
        with self._lock:
            found = self._found if self._name == name else None
            if found is not None:
                is_current = self._mosaic is mosaic and found.version == mosaic.version
                if is_current or time.monotonic() < self._rests_until_s:
                    return found, is_current
            began_s = time.monotonic()
            found = unwrapped(mosaic)
            self._name, self._mosaic, self._found = name, mosaic, found
            ended_s = time.monotonic()
            self._rests_until_s = ended_s + max(_LEAST_REST_S, _REST_SHARE * (ended_s - began_s))
            return found, True
