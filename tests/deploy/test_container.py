"""The image, built and run by a container engine with the lines of docs/deploy.md: Debian's podman as docker.

The first run takes minutes; what it makes stays in build/container. What this cannot prove: the GPU.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import httpx
import processes
import pytest
from podman import PROOF, Docker, documented, with_options

pytestmark = PROOF

TOKEN = "a-token-of-the-proof"
UID = 10001
MEMORY = 4 << 30
MOST_MIB = 600


class Container:
    """The service as the document's line runs it; this machine's detector joins the container's network."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        port = processes.free_endpoint().rpartition(":")[2]
        line = documented("docker run --read-only").replace("127.0.0.1:8080:", f"127.0.0.1:{port}:")
        docker("volume", "create", "results")
        started = docker.type(
            with_options(line, "run", "--detach --name proof --add-host detector:127.0.0.1"),
            PTYCHOLIVE_TOKEN=TOKEN,
        )
        assert started.returncode == 0, started.stderr
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )

    @property
    def init(self) -> int:
        """The service's process, as this machine numbers it."""
        return int(self._docker.inspect("proof")["State"]["Pid"])

    @property
    def results(self) -> list[str]:
        """Files in the volume."""
        place = Path(self._docker("volume", "inspect", "results", "--format", "{{.Mountpoint}}"))
        return sorted(path.name for path in place.glob("*.h5"))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._docker.type(f"docker exec proof {' '.join(command)}")

    def is_healthy(self) -> bool:
        return self._docker.type("docker healthcheck run proof").returncode == 0

    def ask(self, path: str):
        """Return what the API answers on the published port."""
        return self._http.get(path).raise_for_status().json()

    def stream(self, scan: str) -> None:
        detector = [
            processes.COMMAND, "replay", processes.SCAN, "--to", "tcp://127.0.0.1:31001", "--bind",
            "--format", "dectris-v2", "--scan", scan,
        ]  # fmt: skip
        subprocess.run(
            ["nsenter", f"--target={self.init}", "--net", *detector], check=True, capture_output=True
        )

    def stop(self) -> int:
        """End it as the engine does, and return its exit status."""
        self._docker("stop", "--time", 60, "proof")
        return int(self._docker.inspect("proof")["State"]["ExitCode"])

    def close(self) -> None:
        self._http.close()
        self._docker("rm", "--force", "--time", 0, "--volumes", "proof")
        self._docker("volume", "rm", "--force", "results")


@pytest.fixture(scope="module")
def container(image, docker):
    """The running container, healthy."""
    running = Container(docker)
    try:
        began_s = time.monotonic()
        processes.until(running.is_healthy, "the container is healthy")
        print(f"healthy: {time.monotonic() - began_s:.1f} s after it was started")
        yield running
    finally:
        running.close()


def test_the_image_is_small_and_has_no_compiler_no_pip_and_no_torch(image, docker):
    mib = image["Size"] >> 20
    print(f"image: {mib} MiB")
    assert mib < MOST_MIB
    files = docker("run", "--rm", "--entrypoint", "find", "ptycholive:cpu", "/usr/bin", "/opt/ptycholive")
    assert not re.findall(r"/usr/bin/gcc.*|/bin/pip.*|/site-packages/torch/.*", files)


def test_the_image_says_what_it_is_and_holds_no_secret(image):
    told = image["Config"]
    assert told["Labels"]["org.opencontainers.image.title"] == "ptycholive"
    assert told["Labels"]["org.opencontainers.image.licenses"] == "BSD-3-Clause"
    assert not re.findall(r"TOKEN|INDEX|MIRROR", " ".join(told["Env"]))


def test_the_service_is_nobody_may_nothing_and_takes_so_much_memory(container):
    status = Path(f"/proc/{container.init}/status").read_text()
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert told["Uid"].split() == [str(UID)] * 4
    assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0
    assert told["NoNewPrivs"] == "1"
    assert told["Seccomp"] == "2"  # the engine's profile filters its calls
    first, second = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert int(container.run("sh", "-c", f"'cat {first} 2>/dev/null || cat {second}'").stdout) == MEMORY


@pytest.mark.parametrize("path", ["/x", "/opt/ptycholive/x", "/data/x", "/etc/x", "/data/bundles/x"])
def test_the_root_cannot_be_written(container, path):
    assert container.run("touch", path).returncode != 0


def test_a_star_is_stitched_whole_and_its_result_outlives_the_container(container):
    container.stream("star")
    processes.until(
        lambda: container.ask("/api/scans/star").get("finished"), "the star is stitched", timeout_s=300
    )
    ledger = container.ask("/api/scans/star")["ledger"]
    assert processes.balanced(ledger)
    assert (ledger["expected"], ledger["stitched"], ledger["dropped"]) == (516, 516, {})
    assert container.stop() == 0
    assert container.results == ["star.h5"]
