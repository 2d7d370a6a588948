"""Which keys the sockets of the service have, by its settings."""

from __future__ import annotations

from pathlib import Path

from service.config import Settings
from service.errors import ConfigError
from service.security.curve import Curve, CurveClient, CurveServer
from service.security.keys import load_pair, load_public
from service.sources import is_remote


def check_keys(settings: Settings) -> None:
    """Refuse keys that nothing would use: whoever sets them takes the streams for encrypted.

    Raises:
        ConfigError: a key cannot be read, or no socket would have it.
    """
    if settings.keys is None:
        if settings.clients is not None:
            raise ConfigError("clients without keys: set keys, our own (`ptycholive keys` makes them)")
        return
    load_pair(Path(settings.keys))
    listens = settings.images_bind or settings.positions_bind or settings.tiles is not None
    if not (listens or settings.images_key or settings.positions_key):
        raise ConfigError(
            "keys are of no use here: nothing listens, and images_key, the public key of the detector's "
            "stream, is not set"
        )


def stream_curve(settings: Settings, role: str) -> Curve | None:
    """Return the keys of the socket that takes the "images" or the "positions"; None: it is plain.

    Raises:
        ConfigError: as the two below; or a sender's key is told though it connects to us.
    """
    theirs = getattr(settings, f"{role}_key")
    if not getattr(settings, f"{role}_bind"):
        return connecting_curve(settings, theirs)
    if theirs is not None:
        raise ConfigError(
            f"{role}_key is for a sender that we connect to: put its key into the folder of clients"
        )
    return listening_curve(settings, getattr(settings, role))


def listening_curve(settings: Settings, endpoint: str) -> CurveServer | None:
    """Return the keys of a socket that listens; with keys, all that listen have them.

    Raises:
        ConfigError: a key cannot be read, nobody could be let in, or anybody could from elsewhere.
    """
    if settings.keys is None:
        _refuse_plain(settings, endpoint)
        return None
    if settings.clients is None:
        raise ConfigError("keys without clients: set clients, the folder of the public keys of those let in")
    return CurveServer(load_pair(Path(settings.keys)), Path(settings.clients))


def connecting_curve(settings: Settings, theirs: str | None) -> CurveClient | None:
    """Return the keys of a socket that connects to whoever has the public key in the file `theirs`.

    Raises:
        ConfigError: a key cannot be read, or we have none of our own.
    """
    if theirs is None:
        return None
    if settings.keys is None:
        raise ConfigError(
            f"{theirs} is of no use without keys of our own: set keys (`ptycholive keys` makes them)"
        )
    return CurveClient(load_pair(Path(settings.keys)), load_public(Path(theirs)))


def _refuse_plain(settings: Settings, endpoint: str) -> None:
    let_in = settings.allow_remote_streams and not settings.allow_plain_streams
    if let_in and is_remote(endpoint):
        raise ConfigError(
            f"whoever reaches {endpoint} could send frames, or read them: set keys and clients "
            "(`ptycholive keys` makes keys), or allow_plain_streams where nobody else is on the network"
        )
