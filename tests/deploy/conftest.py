"""A real service, and a real Prometheus that scrapes it by the configuration that is shipped."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return where a program of Debian's is; skip where it is not installed."""

    def found(name: str) -> str:
        path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return path or pytest.skip(f"{name} is not installed: .ci/packages")

    return found


@pytest.fixture(scope="module")
def service(processes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service that records, so that all of its metrics are told."""
    folder = tmp_path_factory.mktemp("watched")
    with processes.services(lambda: folder) as serve:
        yield serve(record=folder / "recordings", refine=False)


class Prometheus:
    """A running Prometheus, asked over its API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **asked: str) -> httpx.Response:
        return self._http.get(path, params=asked)

    def value(self, expression: str) -> float | None:
        """Return the sum over the series of an expression; None where there is none."""
        answer = self.get("/api/v1/query", query=expression).raise_for_status().json()
        series = answer["data"]["result"]
        return sum(float(one["value"][1]) for one in series) if series else None

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        alerts = self.get("/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


@pytest.fixture(scope="module")
def prometheus(
    service: Any,
    processes: ModuleType,
    tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """A Prometheus with the shipped rules, which looks at the service every second."""
    folder = tmp_path_factory.mktemp("prometheus")
    told = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    told["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    job = next(job for job in told["scrape_configs"] if job["job_name"] == "ptycholive")
    job["static_configs"] = [{"targets": [service.url.removeprefix("http://").rstrip("/")]}]
    told["scrape_configs"] = [job]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(told))
    shutil.copy(DEPLOY / "prometheus/rules.yaml", folder)
    address = processes.free_endpoint().removeprefix("tcp://")
    options = {
        "config.file": folder / "prometheus.yaml", "storage.tsdb.path": folder / "data",
        "web.listen-address": address,
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [tool("prometheus"), *(f"--{name}={value}" for name, value in options.items())],
            stdout=log, stderr=log,
        )  # fmt: skip
    running = Prometheus(f"http://{address}")
    try:
        processes.until(lambda: _is_ready(running), "Prometheus is ready")
        yield running
    finally:
        running.close()
        process.terminate()
        process.wait(30)


def _is_ready(prometheus: Prometheus) -> bool:
    try:
        return prometheus.get("/-/ready").is_success
    except httpx.TransportError:
        return False
