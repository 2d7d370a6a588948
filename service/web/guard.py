"""Who may ask: the token, the origin and the host of every request, and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ConfigError

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

_READING_METHODS = frozenset({"GET", "HEAD"})
_POLICY = (
    "default-src 'self'; img-src 'self' data:; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)
_DOCS_POLICY = f"{_POLICY}; style-src 'self' 'unsafe-inline'"
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


class Token:
    """The shared secret, and the cookie that stands for it in a browser.

    Raises:
        ConfigError: the secret is empty, or cannot travel in a header.
    """

    def __init__(self, secret: str) -> None:
        if not (secret.isascii() and secret.isprintable() and secret.strip() == secret != ""):
            raise ConfigError("the token must be printable ASCII without spaces around it, and not empty")
        self._secret = secret.encode()
        self._cookie = hmac.new(self._secret, b"ptycholive page", hashlib.sha256).hexdigest()
        # Cookies are shared by all ports of a host: two services must not overwrite each other's.
        self._cookie_name = f"ptycholive_{hashlib.sha256(self._cookie.encode()).hexdigest()[:8]}"

    def matches(self, given: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(given.encode(), self._secret)

    def admits(self, connection: HTTPConnection) -> bool:
        """Return whether the request carries the token as header or as the page's cookie."""
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.matches(given.strip()):
            return True
        cookie = connection.cookies.get(self._cookie_name, "")
        return hmac.compare_digest(cookie.encode(), self._cookie.encode())

    def remember(self, response: Response, secure: bool) -> None:
        """Give the browser its cookie."""
        response.set_cookie(self._cookie_name, self._cookie, httponly=True, samesite="strict", secure=secure)


class Guard:
    """ASGI middleware: refuses what may not pass, adds the security headers to what does.

    Args:
        app: the application behind it.
        token: what callers must show, or None.
        hosts: the names under which the service may be called, or None for any. Without a token this is what
            keeps a foreign page from reaching a loopback service through a name that resolves to it.
    """

    def __init__(self, app: ASGIApp, token: Token | None, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let pass."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._answer(HTTPConnection(scope)) or self._app
        await answer(scope, receive, _with_headers(scope, send))

    def _answer(self, connection: HTTPConnection) -> Response | None:
        """Return the guard's own answer, or None if the request may pass."""
        if self._hosts is not None and _host_name(connection) not in self._hosts:
            return _refusal(421, "this service answers on loopback only: call it as localhost or 127.0.0.1")
        if _comes_from_a_foreign_page(connection):
            return _refusal(403, "the request comes from a page of another host: open the service's own page")
        if self._token is None or connection.url.path in OPEN_PATHS:
            return None
        return self._way_in(connection, self._token)

    def _way_in(self, connection: HTTPConnection, token: Token) -> Response | None:
        given = connection.query_params.get("token", "")
        if connection.url.path == "/" and connection.scope["type"] == "http" and token.matches(given):
            redirect = RedirectResponse("/", status_code=303)
            token.remember(redirect, secure=connection.url.scheme == "https")
            return redirect
        if token.admits(connection):
            return None
        line = "the token is missing or wrong: open /?token=… in the browser or send Authorization: Bearer …"
        return _refusal(401, line, {"www-authenticate": "Bearer"})


def _refusal(status: int, line: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": line}, status, headers)


def _host_name(connection: HTTPConnection) -> str | None:
    try:
        return urlsplit(f"//{connection.headers.get('host', '')}").hostname
    except ValueError:
        return None


def _comes_from_a_foreign_page(connection: HTTPConnection) -> bool:
    """Return whether another host's page opens the WebSocket or tries to change something."""
    origin = connection.headers.get("origin")
    if origin is None or connection.scope.get("method") in _READING_METHODS:
        return False
    return origin.partition("://")[2] != connection.headers.get("host", "")


def _with_headers(scope: Scope, send: Send) -> Send:
    # The API's documentation page is a vendored application that sets styles inline.
    policy = {"content-security-policy": _DOCS_POLICY} if scope["path"] == "/docs" else {}

    async def send_with_headers(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            for name, value in (_HEADERS | policy).items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
