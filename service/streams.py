"""Which source and decoder a stream has, by its settings."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Literal, Protocol

from service.config import Settings
from service.errors import ConfigError
from service.security.peers import Silence
from service.sources import Received, Source, decoder_for
from service.stream_keys import stream_curve
from service.tcp_source import SCHEME, TcpSource
from service.wire import detecting
from service.wire.detecting import Decoder, DetectingDecoder
from service.wire.encoder_samples import EncoderFields
from service.wire.fields import Parts
from service.wire.nsls2_positions import Nsls2PositionsDecoder, speaks_nsls2
from service.wire.panda import PandaDecoder

Role = Literal["images", "positions"]

_OF_ENCODERS: Final = ("panda", "nsls2-json")


class AnySource(Protocol):
    """What takes a stream, whatever it comes over.

    Attributes:
        endpoint: where.
    """

    endpoint: str

    def receive(self, timeout_s: float) -> Received | None:
        """Return what came, None when nothing came in time."""
        ...

    def lost_peers(self) -> int:
        """Return how often a peer has gone away so far."""
        ...

    def refusal(self) -> str | None:
        """Return who did not let whom in for want of a key, None where nobody was refused."""
        ...

    def silence(self) -> Silence:
        """Return why nothing has come so far."""
        ...

    def close(self) -> None:
        """Close it."""
        ...

    def __enter__(self) -> AnySource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def stream_format(settings: Settings, role: Role) -> str:
    """Return what is spoken, as set; a PandA's endpoint tells it."""
    if role == "images":
        return settings.images_format
    of_panda = settings.positions_format == "auto" and (settings.positions or "").startswith(SCHEME)
    return "panda" if of_panda else settings.positions_format


def open_source(settings: Settings, role: Role) -> AnySource:
    """Return the socket of a stream, open, with its decoder.

    Raises:
        ConfigError: the endpoint cannot be had, or it is not told what positions are.
    """
    told = stream_format(settings, role)
    endpoint = str(getattr(settings, role))
    if told in _OF_ENCODERS:
        _check_fields(settings, told)
    if told == "panda":
        if settings.positions_key is not None:
            raise ConfigError("positions_key: a PandA's data port knows no keys")
        return TcpSource(endpoint, PandaDecoder(encoder_fields(settings)))
    return Source(
        endpoint,
        decoder_for(told) if role == "images" else positions_decoder(told, encoder_fields(settings)),
        bind=getattr(settings, f"{role}_bind"),
        socket_type=getattr(settings, f"{role}_socket"),
        allow_remote=settings.allow_remote_streams,
        curve=stream_curve(settings, role),
    )


def positions_decoder(told: str, fields: EncoderFields) -> Decoder:
    """Return a new decoder of a format that positions have over ZMQ.

    Raises:
        ConfigError: there is no such format.
    """
    if told == "auto":
        return DetectingDecoder(lambda found: positions_decoder(found, fields), _positions_format)
    return Nsls2PositionsDecoder(fields) if told == "nsls2-json" else decoder_for(told)


def encoder_fields(settings: Settings) -> EncoderFields:
    """Return which captured fields the positions are."""
    return EncoderFields(
        y=settings.positions_y,
        x=settings.positions_x,
        y_unit_m=settings.positions_y_unit_m,
        x_unit_m=settings.positions_x_unit_m,
        frame=settings.positions_frame,
        first_frame=settings.positions_first_frame,
        samples=settings.positions_samples,
    )


def _positions_format(parts: Parts) -> str | None:
    """Return what a message of positions is in; one of a detector that strayed here must settle nothing."""
    if speaks_nsls2(parts):
        return "nsls2-json"
    return "native" if detecting.stream_format(parts) == "native" else None


def _check_fields(settings: Settings, told: str) -> None:
    if settings.positions_y is None or settings.positions_x is None:
        raise ConfigError(
            f"positions in {told}: set positions_y and positions_x, the captured fields, as INENC1.VAL"
        )
    if told == "nsls2-json" and None in (settings.positions_y_unit_m, settings.positions_x_unit_m):
        raise ConfigError(
            f"positions in {told} tell no unit: set positions_y_unit_m and positions_x_unit_m, metres a unit"
        )
