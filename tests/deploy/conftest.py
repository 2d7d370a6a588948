"""A real service, and a real Prometheus that scrapes it by the configuration that is shipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from podman import TOP, Docker, documented
from watching import Prometheus

DEPLOY = TOP / "deploy"
WORK = TOP / "build/container"


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return where a program of Debian's is; skip where it is not installed."""

    def found(name: str) -> str:
        path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return path or pytest.skip(f"{name} is not installed: .ci/packages")

    return found


@pytest.fixture(scope="session")
def docker(tool: Callable[[str], str]) -> Docker:
    """An engine with the base image; what it makes stays in build/container."""
    if os.geteuid() != 0:
        pytest.skip("containers with networks of their own are made by root only")
    engine = Docker(tool("podman"), WORK)
    engine.make_base(tool("debootstrap"), WORK)
    return engine


@pytest.fixture(scope="session")
def image(docker: Docker) -> dict[str, Any]:
    """The target cpu, built as the document says."""
    built = docker.type(documented("docker build --target cpu"))
    assert built.returncode == 0, built.stderr[-4000:]
    return docker.inspect("ptycholive:cpu")


@pytest.fixture(scope="module")
def service(processes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service that records, so that all of its metrics are told."""
    folder = tmp_path_factory.mktemp("watched")
    with processes.services(lambda: folder) as serve:
        yield serve(record=folder / "recordings", refine=False)


@pytest.fixture(scope="module")
def watch(
    processes: ModuleType, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Prometheus]]:
    """Start what looks at addresses every second, with the shipped rules; it ends with the file."""
    with ExitStack() as running:

        def start(*targets: str) -> Prometheus:
            folder = tmp_path_factory.mktemp("prometheus")
            _configure(folder, targets)
            address = processes.free_endpoint().removeprefix("tcp://")
            running.enter_context(_running(tool("prometheus"), folder, address))
            prometheus = Prometheus(f"http://{address}")
            running.callback(prometheus.close)
            processes.until(prometheus.is_ready, "Prometheus is ready")
            return prometheus

        yield start


@pytest.fixture(scope="module")
def prometheus(service: Any, watch: Callable[..., Prometheus]) -> Prometheus:
    """A Prometheus that looks at the service."""
    return watch(service.url.removeprefix("http://").rstrip("/"))


def _configure(folder: Path, targets: tuple[str, ...]) -> None:
    """Write the shipped configuration with other targets, and its rules beside it."""
    told = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    told["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    job = next(job for job in told["scrape_configs"] if job["job_name"] == "ptycholive")
    job["static_configs"] = [{"targets": list(targets)}]
    told["scrape_configs"] = [job]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(told))
    shutil.copy(DEPLOY / "prometheus/rules.yaml", folder)


@contextmanager
def _running(program: str, folder: Path, address: str) -> Iterator[None]:
    options = {
        "config.file": folder / "prometheus.yaml", "storage.tsdb.path": folder / "data",
        "web.listen-address": address,
    }  # fmt: skip
    command = [program, *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()
