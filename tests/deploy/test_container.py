"""The image, built and run by a container engine with the lines of docs/deploy.md: Debian's podman as docker.

The first run takes minutes; what it makes stays in build/container. What this cannot prove: the GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import httpx
import processes
import pytest
from podman import PROOF, Docker, documented, place_of, with_options

pytestmark = PROOF

TOKEN = "a-token-of-the-proof"
UID = 10001
MEMORY = 4 << 30
MOST_MIB = 600


class Container:
    """The service as the document's line runs it; this machine's detector joins the container's network."""

    def __init__(self, docker: Docker, target: str = "cpu") -> None:
        self._docker = docker
        self._name, self._volume = f"proof-{target}", f"results-{target}"
        port = processes.free_endpoint().rpartition(":")[2]
        line = documented("docker run --read-only").replace("127.0.0.1:8080:", f"127.0.0.1:{port}:")
        line = line.replace(":cpu", f":{target}").replace("results:", f"{self._volume}:")
        docker("volume", "create", self._volume)
        started = docker.type(
            with_options(line, "run", f"--detach --name {self._name} --add-host detector:127.0.0.1"),
            PTYCHOLIVE_TOKEN=TOKEN,
        )
        assert started.returncode == 0, started.stderr
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )

    @property
    def init(self) -> int:
        """The service's process, as this machine numbers it."""
        return int(self._docker.inspect(self._name)["State"]["Pid"])

    @property
    def results(self) -> list[str]:
        """Files in the volume."""
        return sorted(path.name for path in place_of(self._docker, self._volume).glob("*.h5"))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self._docker.type(f"docker exec {self._name} {' '.join(command)}")

    def is_healthy(self) -> bool:
        return self._docker.type(f"docker healthcheck run {self._name}").returncode == 0

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
        self._docker("stop", "--time", 60, self._name)
        return int(self._docker.inspect(self._name)["State"]["ExitCode"])

    def close(self) -> None:
        self._http.close()
        self._docker("rm", "--force", "--time", 0, "--volumes", self._name)
        self._docker("volume", "rm", "--force", self._volume)


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


@pytest.mark.skipif(
    os.environ.get("PROVE_CONTAINER") != "gpu", reason="fetches 3 GB: make container WITH=gpu"
)
def test_the_image_for_the_gpu_falls_back_to_the_processor_where_there_is_no_gpu(docker):
    packages = "--build-arg PACKAGES='.[fast] cuda-bindings'"  # TensorRT's libraries are NVIDIA's to give
    built = docker.type(f"docker build {packages} --target gpu --tag ptycholive:gpu .")
    assert built.returncode == 0, built.stderr[-4000:]
    print(f"image for the GPU, without TensorRT: {docker.inspect('ptycholive:gpu')['Size'] >> 20} MiB")
    running = Container(docker, "gpu")
    try:
        processes.until(running.is_healthy, "the container is healthy")
        told = running.run(
            "python3", "-c", "'import onnxruntime as o; print(o.get_available_providers())'"
        ).stdout
        assert "CUDAExecutionProvider" in told
        assert running.ask("/api/status")["engine"]["device"] == "cpu"
    finally:
        running.close()
