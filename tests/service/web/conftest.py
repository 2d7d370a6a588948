"""A running web server over the measured star, for the tests of the API."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.web.http import WebServer

StarView = runpy.run_path(str(Path(__file__).parent / "star_view.py"))["StarView"]


@pytest.fixture
def view() -> Any:
    star = StarView()
    star.begin("star")
    star.stitch(60)
    return star


@pytest.fixture
def serve(view: Any) -> Iterator[Callable[..., WebServer]]:
    """Start servers of the view on free ports; all end with the test."""
    servers = []

    def start(**settings: Any) -> WebServer:
        server = WebServer(view, port=0, **settings)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def client(serve: Callable[..., WebServer]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve().url) as http:
        yield http
