"""The HTTP API and the live page: routes, answers, and the server's thread."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.websockets import WebSocket
from swagger_ui_bundle import swagger_ui_path

from service.colours import COLOUR_MAPS
from service.errors import ConfigError, PtycholiveError
from service.web.guard import Guard, Token
from service.web.hub import Hub
from service.web.live import MAX_CLIENT_MESSAGE_BYTES, serve_viewer
from service.web.pictures import View, known, pictures
from service.web.unwrapping import SharedUnwrapping
from service.web.view import LiveView

THREAD = "web"
"""What `top -H` and the benchmark know the threads by that serve viewers."""

_STATIC = Path(__file__).parent / "static"
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SEND_BUFFER_BYTES = 1 << 19  # the system's own 4 MB would show a slow viewer what was true a minute ago
_GRACE_S = 1

page = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api", tags=["ptycholive"])
health = APIRouter(tags=["health"])


class ModelRequest(BaseModel):
    """Which bundle to run from the next batch on."""

    model_config = ConfigDict(extra="forbid")
    bundle: str = Field(min_length=1, max_length=4096, description="name or folder of the bundle")


class RecordRequest(BaseModel):
    """Whether to record."""

    model_config = ConfigDict(extra="forbid")
    on: bool = Field(strict=True)


class AlignmentRequest(BaseModel):
    """Whether each tile is turned to fit those before it."""

    model_config = ConfigDict(extra="forbid")
    on: bool = Field(strict=True)


class OrientationRequest(BaseModel):
    """How frames and positions are turned from the next scan on."""

    model_config = ConfigDict(extra="forbid")
    frames: str = Field(max_length=64, description="as the setting `orientation`")
    positions: str = Field(max_length=64, description="as the setting `positions_axes`")


@page.get("/")
def index() -> FileResponse:
    """Return the live page."""
    return FileResponse(_STATIC / "index.html")


@page.get("/docs")
def documentation() -> FileResponse:
    """Return the page that shows the OpenAPI description."""
    return FileResponse(_STATIC / "docs.html")


@page.get("/static/colourmaps.json")
def colour_maps() -> dict[str, str]:
    """Return each channel's 256 colours as hexadecimal RRGGBB, one after the other."""
    return {name: table.tobytes().hex() for name, table in COLOUR_MAPS.items()}


@api.get("/status")
def status(view: View) -> dict[str, Any]:
    """Version, engine, model, sources, queue depths, current scan, warnings."""
    return view.status()


@api.get("/scans")
def scans(view: View) -> list[dict[str, Any]]:
    """Return all scans, newest first."""
    return view.scans()


@api.get("/scans/{scan}")
def scan_report(scan: str, view: View) -> dict[str, Any]:
    """Return one scan's geometry, ledger and rates."""
    return known(scan, view)


@api.get("/models")
def models(view: View) -> list[dict[str, Any]]:
    """Return the bundles that can be run: those that are shipped, and those beside the one that runs."""
    return view.bundles()


@api.post("/model")
def activate_model(request: ModelRequest, view: View) -> dict[str, Any]:
    """Swap the model at a batch border; no frame is lost."""
    return view.activate(request.bundle)


@api.post("/scans/{scan}/abort")
def abort(scan: str, view: View) -> dict[str, Any]:
    """End the running scan now: what can be placed is, the rest is counted; return its report."""
    known(scan, view)
    view.abort(scan)
    return known(scan, view)


@api.post("/orientation")
def orient(request: OrientationRequest, view: View) -> dict[str, Any]:
    """Turn frames and positions so from the next scan on; refused while one runs."""
    return view.orient(request.frames, request.positions)


@api.post("/alignment")
def align(request: AlignmentRequest, view: View) -> dict[str, Any]:
    """From the next scan on, turn each tile, as it comes, to fit those before it in phase, or not."""
    return view.align(request.on)


@api.post("/record")
def record(request: RecordRequest, view: View) -> dict[str, Any]:
    """Begin to record the stream to a scan file, with the scan that runs; or end it."""
    return view.record(request.on)


@api.websocket("/live")
async def live(websocket: WebSocket) -> None:
    """Send what changed to a viewer."""
    await serve_viewer(websocket, websocket.app.state.hub)


@health.get("/healthz", response_class=PlainTextResponse)
def alive() -> str:
    """Answer as long as the process does."""
    return "alive"


@health.get("/readyz", response_class=PlainTextResponse)
def ready(view: View) -> PlainTextResponse:
    """Return 200 if frames can be taken, 503 with the reason if not."""
    is_ready, reason = view.ready()
    return PlainTextResponse(reason, 200 if is_ready else 503)


@health.get("/metrics", response_class=Response)
def metrics(view: View) -> Response:
    """Return the metrics in Prometheus' format."""
    content, content_type = view.metrics()
    return Response(content, headers={"content-type": content_type})


def create_app(view: LiveView, token: str | None, *, hosts: frozenset[str] | None = None) -> FastAPI:
    """Return the ASGI application: the API, the WebSocket and the page.

    Args:
        view: the running service.
        token: what callers must show, except on the health paths; None for no token.
        hosts: host names to answer to, None for any.

    Raises:
        ConfigError: the token is empty, or cannot travel in a header.
    """
    app = FastAPI(title="ptycholive", version=version("ptycholive"), docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the bundled Swagger UI does not know 3.1
    app.state.view = view
    app.state.hub = Hub(view)
    app.state.unwrapping = SharedUnwrapping()
    for router in (page, api, pictures, health):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=_STATIC))
    app.mount("/swagger", StaticFiles(directory=swagger_ui_path))
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(PtycholiveError, _refused)
    app.add_middleware(Guard, token=None if token is None else Token(token), hosts=hosts)
    return app


async def _http_error(_: Request, error: Exception) -> Response:
    refusal = cast(StarletteHTTPException, error)
    return JSONResponse({"error": str(refusal.detail)}, refusal.status_code, refusal.headers)


async def _invalid_request(_: Request, error: Exception) -> Response:
    found = cast(RequestValidationError, error).errors()
    lines = (f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in found)
    return JSONResponse({"error": "; ".join(lines)}, 422)


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


class WebServer:
    """The web server in a thread of its own.

    Args:
        view: the running service.
        host, port: where to listen; port 0 takes a free one.
        token: what callers must show, None for no token.

    Raises:
        ConfigError: a bind off loopback without a token, or one that cannot be sent.
    """

    def __init__(
        self, view: LiveView, host: str = "127.0.0.1", port: int = 8080, token: str | None = None
    ) -> None:
        on_loopback = _is_loopback(host)
        if token is None and not on_loopback:
            raise ConfigError(f"{host} can be reached from outside: set a token, or listen on 127.0.0.1")
        self.host = host
        self.port = port
        hosts = _LOOPBACK_NAMES | {host} if token is None else None
        self._app = create_app(view, token, hosts=hosts)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address of the page; the port is the real one once started."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """Start to listen; when this returns, connections are accepted.

        Raises:
            ConfigError: the address cannot be had.
        """
        listener = _listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        server = _Server(_server_config(self._app))
        self._server = server
        self._thread = threading.Thread(target=_run, args=(server, listener), name=THREAD)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and end the thread; does nothing if it is not running."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join()
        self._server = self._thread = None


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    with suppress(OSError):  # of another system than Linux
        Path("/proc/thread-self/comm").write_text(THREAD)  # threads that it starts inherit the name
    server.run([listener])


class _Server(uvicorn.Server):
    """Leaves no connection behind when it ends: a viewer that does not read would keep its own open."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if (transport := connection.transport) is not None:
                transport.abort()
        await asyncio.sleep(0)  # in which they close


def _server_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=MAX_CLIENT_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # float16 pixels hardly shrink, and it costs milliseconds a block
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,  # would log the token of /?token=…
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # connections inherit it
        return listener
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}; is another service running there?"
        ) from error
