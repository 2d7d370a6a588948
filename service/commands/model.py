"""`ptycholive model`: bundles."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click

from model.bundle import BUNDLES, Bundle, BundleError, find_bundle, load_bundle
from service.commands.flags import example
from service.errors import ConfigError

_SWAP_TIMEOUT_S = 90


@click.group(epilog=example("ptycholive model show siemens-star"))
def model() -> None:
    """List, show, verify and activate bundles."""


@model.command(name="list", epilog=example("ptycholive model list"))
@click.argument("folder", type=click.Path(path_type=Path), default=BUNDLES)
def list_models(folder: Path) -> None:
    """List the bundles in a folder; those that are shipped by default."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    for description in sorted(folder.glob("*/model.json")):
        try:
            told = load_bundle(description.parent).description
        except BundleError as error:
            click.echo(f"{description.parent.name}: REFUSED: {error}")
        else:
            pixels = f"{told.frame_shape[0]}² → {told.tile_shape[0]}²"
            click.echo(
                f"{description.parent.name}: {told.kind}, {pixels}, {told.object_pixel_m * 1e9:.2f} nm"
            )


@model.command(epilog=example("ptycholive model show siemens-star"))
@click.argument("bundle")
def show(bundle: str) -> None:
    """Print a bundle's description."""
    click.echo((_load(bundle).path / "model.json").read_text().rstrip())


@model.command(epilog=example("ptycholive model verify /data/bundles/today"))
@click.argument("bundle")
def verify(bundle: str) -> None:
    """Check a bundle's hashes, shapes and that its network runs."""
    from service.check import check_engine

    told = _load(bundle)
    finding = check_engine(told, threads=0)
    if finding.verdict != "OK":
        raise ConfigError(finding.detail)
    click.echo(f"OK: {told.description.name}, sha256 {told.description.onnx_sha256}, {finding.detail}")


def _load(bundle: str) -> Bundle:
    return load_bundle(find_bundle(bundle))


@model.command(epilog=example("ptycholive model activate /data/bundles/today --url http://127.0.0.1:8080"))
@click.argument("bundle")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Of the running service.")
@click.option("--token", envvar="PTYCHOLIVE_TOKEN", help="Of the running service.")
def activate(bundle: str, url: str, token: str | None) -> None:
    """Make a running service go on with another model, at a batch border; no frame is lost."""
    folder = str(find_bundle(bundle).resolve())
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r} is not the http:// address of a service")
    try:
        click.echo(f"active: {_post_model(url, folder, token)['name']}")
    except urllib.error.HTTPError as error:
        raise ConfigError(f"{url} refused: {_refusal(error)}") from error
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"no service of ours answers at {url}: {error}") from error


def _post_model(url: str, bundle: str, token: str | None) -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(  # noqa: S310 - its scheme is http or https
        f"{url.rstrip('/')}/api/model", json.dumps({"bundle": bundle}).encode(), headers
    )
    # a proxy that the environment names for the world outside does not know the beamline's machines
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_SWAP_TIMEOUT_S) as answer:
        return json.load(answer)


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, LookupError, TypeError):  # not ours, or something in between
        return str(error)
