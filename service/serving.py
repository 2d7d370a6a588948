"""The service with its page, from start to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from service.app import App
from service.config import Settings
from service.errors import ConfigError
from service.live_view import AppView
from service.web.http import WebServer
from service.web.view import LiveView


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[App, WebServer]]:
    """Run the service and its web server; on the way out the running scan is finished and written.

    Raises:
        ConfigError, EngineError: it cannot run so.
    """
    with ExitStack() as stack:
        app = App(settings)
        if settings.tiled is not None:
            stack.callback(_send_to_tiled(app, settings.tiled, settings.tiled_key))
        stack.callback(app.stop)  # it holds its results folder from the first
        view = AppView(app)
        web = WebServer(view, settings.host, settings.port, settings.token)
        app.start()
        stack.callback(web.stop)
        web.start()
        if settings.epics is not None:
            stack.callback(_publish_to_epics(view, settings, settings.epics))
        yield app, web


def _send_to_tiled(app: App, url: str, key: str | None) -> Callable[[], None]:
    """Send each result to a Tiled server; return what waits for the last one."""
    from service.handover.tiled_results import TiledResults  # tiled is an extra

    tiled = TiledResults(url, key, app.warn)
    app.store.tell(tiled.send)
    return tiled.close


def _publish_to_epics(view: LiveView, settings: Settings, prefix: str) -> Callable[[], None]:
    """Open the EPICS channels; return what closes them."""
    from service.epics import EpicsChannels, is_open_to_others  # p4p is an extra

    interface = settings.epics_interface
    if is_open_to_others(interface) and not settings.allow_plain_streams:
        raise ConfigError(
            f"everybody could read EPICS at {interface}: set allow_plain_streams, or listen on 127.0.0.1"
        )
    return EpicsChannels(view, prefix, settings.epics_hz, interface).stop
