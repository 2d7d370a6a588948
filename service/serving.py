"""The service with its page, from start to stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from service.app import App
from service.config import Settings
from service.live_view import AppView
from service.web.http import WebServer


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[App, WebServer]]:
    """Run the service and its web server; on the way out the running scan is finished and written.

    Raises:
        ConfigError, EngineError: it cannot run so.
    """
    app = App(settings)
    web = WebServer(AppView(app), settings.host, settings.port, settings.token)
    with ExitStack() as stack:
        stack.callback(app.stop)
        app.start()
        stack.callback(web.stop)
        web.start()
        yield app, web
