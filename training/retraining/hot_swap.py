"""A running service goes on with another bundle."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path

_TIMEOUT_S = 90


class ServiceRefusedError(Exception):
    """The service did not take the bundle, or does not answer."""


def swap(url: str, token: str | None, bundle: Path) -> str:
    """Make a running service take a bundle at a batch border, and return the name that it tells.

    Args:
        url: of the service, http or https.
        token: that the service asks for, None without.
        bundle: folder that the service can read too.

    Raises:
        ServiceRefusedError: it did not take it.
        ValueError: that is not the address of a service.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is not the http:// address of a service")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    order = json.dumps({"bundle": str(bundle.resolve())}).encode()
    request = urllib.request.Request(f"{url.rstrip('/')}/api/model", order, headers)  # noqa: S310 - as checked
    # a proxy that the environment names for the world outside does not know the beamline's machines
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return str(json.load(answer)["name"])
    except urllib.error.HTTPError as error:
        raise ServiceRefusedError(f"{url} refused: {_reason(error)}") from error
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise ServiceRefusedError(f"no service of ours answers at {url}: {error}") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, LookupError, TypeError):  # not ours, or something in between
        return str(error)
