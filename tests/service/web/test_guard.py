"""Who may ask: token, origin, host."""

from __future__ import annotations

import httpx
import pytest

from service.errors import ConfigError
from service.web.http import WebServer

SECRET = "x-ray 42"


@pytest.fixture
def guarded(serve):
    return serve(token=SECRET).url


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "beamline.example"])
def test_a_bind_off_loopback_needs_a_token(view, host):
    with pytest.raises(ConfigError, match="set a token"):
        WebServer(view, host=host, port=0)


@pytest.mark.parametrize("token", ["", " secret", "röntgen", "a\nb"])
def test_a_token_that_no_header_can_carry_is_refused(view, token):
    with pytest.raises(ConfigError, match="printable ASCII"):
        WebServer(view, port=0, token=token)


@pytest.mark.parametrize("path", ["/", "/api/status", "/static/main.js", "/docs", "/openapi.json"])
def test_the_token_guards_the_page_and_the_api(guarded, path):
    assert httpx.get(guarded + path).status_code == 401
    assert httpx.get(guarded + path, headers=bearer("guess")).status_code == 401
    assert httpx.get(guarded + path, headers=bearer(SECRET)).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_health_and_metrics_need_no_token(guarded, path):
    assert httpx.get(guarded + path).status_code == 200


def test_the_page_is_entered_once_by_its_address(guarded):
    with httpx.Client(base_url=guarded) as browser:
        entry = browser.get("/", params={"token": SECRET})
        assert (entry.status_code, entry.headers["location"]) == (303, "/")
        cookie = entry.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert SECRET not in cookie
        assert browser.get("/api/status").status_code == 200


def test_a_wrong_token_in_the_address_opens_nothing(guarded):
    answer = httpx.get(guarded, params={"token": "guess"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_token_in_the_address_opens_the_page_only(guarded):
    assert httpx.get(f"{guarded}/api/status", params={"token": SECRET}).status_code == 401


def test_a_foreign_page_cannot_swap_the_model(client, view):
    swap = {"bundle": "star-unet-0.4"}
    answer = client.post("/api/model", json=swap, headers={"origin": "http://elsewhere.example"})
    assert answer.status_code == 403
    assert view.model == "star-unet-0.3"
    own_origin = str(client.base_url).rstrip("/")
    assert client.post("/api/model", json=swap, headers={"origin": own_origin}).status_code == 200


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.elsewhere.example", "[", ""])
def test_without_a_token_only_loopback_names_are_answered(client, host):
    assert client.get("/api/status", headers={"host": host}).status_code == 421
    assert client.get("/api/status", headers={"host": "localhost:1"}).status_code == 200
