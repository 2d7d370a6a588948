"""Messages that say nothing by themselves: headers whose scan begins with its first image, or pieces."""

from __future__ import annotations

from collections import deque
from typing import Final

from service.resume.snapshot import Message, Opening
from service.sources import Received

_MOST: Final = 16
_MOST_BYTES: Final = 1 << 26


class Preludes:
    """Holds the last of them; those that the next scan did not begin with do no harm in its opening."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque(maxlen=_MOST)

    def add(self, received: Received) -> None:
        """Take a message without events."""
        self._messages.append(_message(received))
        while sum(message.nbytes for message in self._messages) > _MOST_BYTES:
            self._messages.popleft()

    def opening(self, scan: str, received: Received) -> Opening:
        """Return what a scan began with, the last message of which has just come."""
        messages = [*self._messages, _message(received)]
        self._messages.clear()
        return Opening(scan, messages)


def _message(received: Received) -> Message:
    return Message(list(map(bytes, received.parts)), received.received_ns)
