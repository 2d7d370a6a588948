"""Every deliberate failure. Each message names what to check.

`StreamError` is *their* fault (a peer sent something wrong): it costs the message, or at most the scan.
`ConfigError` and `BundleError` (in `model.bundle`) are the operator's: one line and exit 2. Anything else
that is raised is a bug.
"""

from __future__ import annotations


class PtycholiveError(Exception):
    """Base of every deliberate failure."""


class ConfigError(PtycholiveError):
    """A setting is wrong or missing."""


class StreamError(PtycholiveError):
    """A peer sent something that cannot be used."""


class MessageError(StreamError):
    """A message does not follow its format; nothing in it can be attributed to a frame."""


class PixelError(StreamError):
    """The pixels of a frame cannot be decoded: wrong size, dtype, encoding or damaged bytes."""


class EngineError(PtycholiveError):
    """The inference engine cannot be started or failed."""


class NotCompiledError(EngineError):
    """The engine could run here, once it is compiled for this GPU."""


class WorkerLostError(PtycholiveError):
    """A worker of several is gone, with the batches it had."""


class StalledError(PtycholiveError):
    """The replay sends, but nobody at the other end takes the messages."""


class RecordingError(PtycholiveError):
    """A scan cannot be recorded: the disk is full, failed, or may not be written."""
