"""The stack of deploy/compose.yaml brought up by podman-compose with the lines of docs/deploy.md.

Debian's Prometheus stands in for the image of a registry. Without a registry there is no Grafana.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import processes
import pytest
import yaml
from podman import COMPOSE as COMPOSE_PROGRAM
from podman import PROOF, TOP, Docker, documented, send_star, stitched_in, with_options
from watching import Prometheus

pytestmark = PROOF

IMAGES = TOP / "tests/deploy/images"
SITE = "Dockerfile .dockerignore LICENSE README.md pyproject.toml requirements.lock model service training"
COMPOSE = "docker compose --file deploy/compose.yaml"
SERVICE = "ptycholive_ptycholive_1"
TOKEN = "a-token-of-the-stack"
PROMETHEUS = "prom/prometheus:v2.55.1"
HAD = "ptycholive prometheus"  # the services whose images can be had here
NEXT = "0.2.0"


class Stack:
    """A site's copy of the tree, its ports free ones; the detector is a container beside the stack."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._docker = docker
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        docker("build", "--tag", PROMETHEUS, "--file", IMAGES / "prometheus.Dockerfile", IMAGES)
        self.must(f"cp -a {' '.join(str(TOP / name) for name in SITE.split())} . && mkdir deploy bundles")
        tracked = "compose.yaml compose.gpu.yaml ptycholive.example.toml prometheus grafana"
        self.must(f"cp -a {' '.join(f'{TOP}/deploy/{name}' for name in tracked.split())} deploy")
        self.http = httpx.Client(
            base_url=self._publish("8080"), headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )
        self.prometheus = Prometheus(self._publish("9090"))

    def _publish(self, port: str) -> str:
        """Put a free port in the place of a published one, and return its address."""
        address = processes.free_endpoint().removeprefix("tcp://")
        stack = self._folder / "deploy/compose.yaml"
        stack.write_text(stack.read_text().replace(f'"127.0.0.1:{port}:', f'"{address}:'))
        return f"http://{address}"

    def must(self, line: str) -> str:
        """Run a line in the site's folder."""
        done = self._docker.type(f"cd {self._folder} && {line}")
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    def prepare(self) -> None:
        """Set token and detector, as the document says."""
        self.must(documented("cp deploy/ptycholive.example.toml"))
        self.must(documented("python3 -c"))
        self.must(f"sed -i 's/^token = .*/token = \"{TOKEN}\"/' deploy/ptycholive.toml")
        self.must("chown 10001 deploy/ptycholive.toml && chmod 600 deploy/ptycholive.toml")

    def is_ready(self) -> bool:
        try:
            return self.http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def settle(self) -> None:
        processes.until(self.is_ready, "the service of the stack is ready", timeout_s=120)

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def take(self, scan: str) -> dict[str, Any]:
        """Let a detector of the settings' name send the star; return the ledger."""
        send_star(self._docker, "ptycholive_default", scan)
        processes.until(lambda: self.get(f"/api/scans/{scan}")["finished"], f"{scan} ends", timeout_s=300)
        return dict(self.get(f"/api/scans/{scan}")["ledger"])

    def process(self) -> int:
        """Return the service's process, as this machine numbers it."""
        return int(self._docker.inspect(SERVICE)["State"]["Pid"])

    def version(self) -> str:
        """Return the version on the label of the image that runs."""
        labels = self._docker.inspect(SERVICE)["Config"]["Labels"]
        return str(labels["org.opencontainers.image.version"])

    def kept(self, scan: str) -> int:
        """Return how many frames the result in the volume holds."""
        return stitched_in(self._docker, "ptycholive_results", scan)

    def names(self, what: str) -> set[str]:
        """Return the names of the stack's containers (`ps`), networks or volumes (`volume ls`)."""
        name = "{{.Names}}" if what == "ps" else "{{.Name}}"
        listed = self._docker(*what.split(), "--filter", "name=ptycholive_", "--format", name)
        return set(listed.split())

    def close(self) -> None:
        self.http.close()
        self.prometheus.close()
        self._docker.type(f"cd {self._folder} && {COMPOSE} down --volumes --timeout 5")
        shutil.rmtree(self._folder)


@pytest.fixture(scope="module")
def stack(image, docker, tmp_path_factory):
    """The stack as the document brings it up, but for what only a registry has."""
    if not COMPOSE_PROGRAM.exists():
        pytest.skip("podman-compose is not installed: make container")
    running = Stack(docker, docker.folder / "site")
    try:
        running.prepare()
        running.must(f"{documented('docker compose --file deploy/compose.yaml up')} {HAD}")
        running.settle()
        yield running
    finally:
        running.close()


def test_the_page_asks_for_the_token_and_answers_on_the_published_port(stack):
    assert httpx.get(stack.http.base_url.join("/api/status"), trust_env=False).status_code == 401
    assert stack.get("/api/status")["sources"][0]["endpoint"] == "tcp://detector:31001"


def test_prometheus_finds_the_service_by_its_name_and_has_the_rules(stack):
    told = stack.prometheus
    processes.until(lambda: told.is_ready() and told.value('up{job="ptycholive"}') == 1, "it is scraped")
    groups = told.get("/api/v1/rules").raise_for_status().json()["data"]["groups"]
    shipped = yaml.safe_load((TOP / "deploy/prometheus/rules.yaml").read_text())["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"]] == [
        rule["alert"] for group in shipped for rule in group["rules"]
    ]


def test_a_detector_that_has_the_name_of_the_settings_is_found_and_its_frames_counted(stack):
    ledger = stack.take("star")
    assert (ledger["expected"], ledger["stitched"], ledger["dropped"]) == (516, 516, {})
    count = 'ptycholive_frames_total{stage="stitched"}'
    processes.until(lambda: stack.prometheus.value(count) == 516, "Prometheus has seen them")


def test_a_service_that_is_killed_is_started_anew(stack):
    killed = stack.process()
    os.kill(killed, signal.SIGKILL)
    processes.until(lambda: stack.process() not in (0, killed), "the engine starts it anew")
    stack.settle()


def test_an_upgrade_and_its_roll_back_keep_the_results(stack):
    before = stack.version()
    stack.must(documented("docker tag"))
    build, up = re.split(r" && ", documented("docker build --target cpu --tag ptycholive:cpu . &&"))
    stack.must(with_options(build, "build", f"--label org.opencontainers.image.version={NEXT}"))
    # podman-compose looks at settings only; docker's compose sees by itself that the image is another.
    stack.must(up.replace(" up ", " up --force-recreate --no-deps "))
    stack.settle()
    assert stack.version() == NEXT != before
    assert stack.kept("star") == 516
    stack.must(documented("PTYCHOLIVE_IMAGE=ptycholive:before"))
    stack.settle()
    assert stack.version() == before
    assert stack.kept("star") == 516


def test_going_down_is_clean_and_leaves_the_volumes(stack):
    stack.must(f"{COMPOSE} down --timeout 30")
    assert stack.names("ps") == set()
    assert stack.names("network ls") == set()
    assert {"ptycholive_results", "ptycholive_prometheus"} <= stack.names("volume ls")


def test_the_file_for_the_gpu_lays_itself_over_the_stack(stack):
    line = documented("docker compose --file deploy/compose.yaml --file").replace("up --detach", "config")
    services = yaml.safe_load(stack.must(line))["services"]
    assert services["ptycholive"]["image"] == "ptycholive:gpu"
    assert services["ptycholive"]["build"]["target"] == "gpu"
    assert services["ptycholive"]["ports"]
    assert "gpu-exporter" in services
