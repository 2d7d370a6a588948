"""CURVE keys in files, as `zmq.auth` and CZMQ keep them.

A pair has two files: `name.key` holds the public key and goes to the others, `name.key_secret` holds both and
stays. github.com/zeromq/rfc, 26 (CurveZMQ).
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq.auth
from zmq.utils import z85

from service.errors import ConfigError

_KEY_BYTES: Final = 32
_MOST_FILE_BYTES: Final = 1 << 14
# The group may read: so a Kubernetes secret comes to a service that does not run as root.
_FORBIDDEN: Final = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its secret key, each 40 characters of Z85."""

    public: bytes
    secret: bytes = field(repr=False)


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys; return the files of the public and of the secret key, the latter of mode 0600.

    Raises:
        ConfigError: a file of that name is there already, or cannot be written.
    """
    public, secret = folder / f"{name}.key", folder / f"{name}.key_secret"
    for path in (public, secret):
        if path.exists():
            raise ConfigError(f"{path} is there already: choose another name, or remove it")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret.touch(mode=0o600, exist_ok=False)  # before there is anything in it
        zmq.auth.create_certificates(folder, name)
    except OSError as error:
        raise ConfigError(f"cannot write keys into {folder}: {error.strerror}") from error
    return public, secret


def load_pair(path: Path) -> KeyPair:
    """Read a pair of keys from the file of the secret one.

    Raises:
        ConfigError: others may read or change the file, or it holds no pair of keys.
    """
    public, secret = _read(path)
    if secret is None:
        raise ConfigError(f"{path} holds no secret key: `ptycholive keys` makes a .key_secret file")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _FORBIDDEN:
        raise ConfigError(f"{path} can be read or changed by others (mode {mode:o}): chmod 600 {path}")
    if zmq.curve_public(secret) != public:
        raise ConfigError(f"{path}: its public key does not belong to its secret key")
    return KeyPair(public, secret)


def load_public(path: Path) -> bytes:
    """Read somebody's public key, 40 characters of Z85.

    Raises:
        ConfigError: the file cannot be read, or holds no key.
    """
    return _read(path)[0]


def load_clients(folder: Path) -> frozenset[bytes]:
    """Read the public keys of those who may connect: every `.key` file of a folder.

    Raises:
        ConfigError: there is none, or one of them holds no key.
    """
    keys = frozenset(load_public(path) for path in sorted(folder.glob("*.key")))
    if not keys:
        raise ConfigError(f"{folder} holds no .key file: nobody could connect")
    return keys


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise ConfigError(f"{path} is too long for a key")
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        raise ConfigError(f"cannot read the key {path}: {error.strerror or 'no such file'}") from error
    except ValueError as error:
        raise ConfigError(f"{path} holds no public key: was it made with `ptycholive keys`?") from error
    if not all(_is_key(key) for key in (public, secret) if key is not None):
        raise ConfigError(f"{path} holds a key that is none: was it copied whole?")
    return public, secret


def _is_key(text: bytes) -> bool:
    """Whether text is a key in Z85 (github.com/zeromq/rfc, 32)."""
    try:
        return len(z85.decode(text)) == _KEY_BYTES
    except (ValueError, KeyError, struct.error):
        return False
