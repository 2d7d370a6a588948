"""The image without an engine: its steps in a Debian root, its service as the container would run it.

The first run makes the root and takes minutes; it stays in build/container. What this cannot prove: that an
engine builds the same, its overlay file system, its cgroups, its seccomp profile, and the GPU.
"""

from __future__ import annotations

import json
import os
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(3000),
    pytest.mark.skipif("PROVE_CONTAINER" not in os.environ, reason="takes many minutes: make container"),
]

TOP = Path(__file__).parents[2]
WORK = TOP / "build/container"
SCAN = TOP / "service/data/siemens_star_aps.cxi"
COMMAND = Path(sys.executable).with_name("ptycholive")
TOKEN = "a-token-of-the-proof"
UID = 10001
LIMITS = ("--nproc=256", "--nofile=1024", "--core=0", f"--data={4 << 30}")
MOST_MIB = 600


@pytest.fixture(scope="module")
def image(tool):
    """The target cpu, built by the Dockerfile's own steps."""
    if os.geteuid() != 0:
        pytest.skip("roots and namespaces are made by root only")
    base = WORK / "base"
    if not (base / "etc/os-release").exists():
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        made = subprocess.run(
            [tool("debootstrap"), "--variant=minbase", "bookworm", base],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout[-2000:]
    stages = WORK / "stages"
    shutil.rmtree(stages, ignore_errors=True)
    stages.mkdir()
    steps = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("dockerfile_steps.py"))))
    arguments = {name: os.environ[name] for name in ("APT_MIRROR", "PIP_INDEX_URL") if name in os.environ}
    yield steps.Builder(TOP, base, stages, arguments).build("cpu")
    shutil.rmtree(stages)


class Container:
    """The service in namespaces of its own: read-only root, a user of no rights, limits, loopback only."""

    def __init__(self, image, data: Path) -> None:
        self.results = data / "results"
        self._image = image
        self.log = data / "log"
        volumes = []
        for path in image.volumes:
            shutil.copytree(image.inside(path), data / Path(path).name)
            os.chown(data / Path(path).name, UID, UID)
            volumes.append(f"mount --bind {data / Path(path).name} {image.root}{path}")
        script = " && ".join(
            [
                "ip link set lo up",
                f"mount --bind {image.root} {image.root}",
                f"mount -o remount,bind,ro {image.root}",
                *volumes,
                f"mount -t tmpfs -o size=64m,mode=1777 tmpfs {image.root}/tmp",
                f"mount -t proc proc {image.root}/proc",
                f"exec prlimit {' '.join(LIMITS)} {self._inside([*image.entrypoint, *image.command])}",
            ]
        )
        namespaces = ["--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--kill-child"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", *namespaces, "sh", "-c", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def init(self) -> int:
        """The service's process, as this machine numbers it."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    def _inside(self, command: list[str]) -> str:
        told = self._image.environment | {"PTYCHOLIVE_TOKEN": TOKEN}
        user, group = self._image.user.split(":")
        return shlex.join(
            [
                "chroot", str(self._image.root),
                "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs",
                "--bounding-set=-all", "--inh-caps=-all",
                "env", "-i", f"--chdir={self._image.workdir}",
                *(f"{name}={value}" for name, value in told.items()),
                *command,
            ]
        )  # fmt: skip

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as `docker exec` does."""
        entered = ["nsenter", f"--target={self.init}", "--mount", "--net", "--ipc", "--uts", "sh", "-c"]
        inside = self._inside(list(command))
        return subprocess.run([*entered, inside], capture_output=True, text=True, check=False)

    def is_healthy(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        return self.run(*self._image.health).returncode == 0

    def ask(self, path: str):
        """Return what the API answers, asked from beside the service."""
        script = (
            "import sys, urllib.request as web; "
            "asked = web.Request('http://127.0.0.1:8080' + sys.argv[1], "
            "headers={'Authorization': 'Bearer ' + sys.argv[2]}); "
            "print(web.urlopen(asked).read().decode())"
        )
        answer = self.run("python3", "-c", script, path, TOKEN)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def stream(self, scan: str) -> None:
        """Be the detector: from this machine's environment, in the container's network."""
        detector = [
            COMMAND,
            "replay",
            SCAN,
            "--to",
            "tcp://127.0.0.1:31001",
            "--bind",
            "--format",
            "dectris-v2",
        ]
        subprocess.run(
            ["nsenter", f"--target={self.init}", "--net", *detector, "--scan", scan],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip

    def stop(self) -> int:
        """End it as `docker stop` does, and return the exit status."""
        os.kill(self.init, signal.SIGTERM)
        return self._process.wait(60)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def container(image, processes, tmp_path_factory):
    """The running container, healthy."""
    data = tmp_path_factory.mktemp("data")
    data.chmod(0o755)
    running = Container(image, data)
    try:
        time.sleep(0.5)
        processes.until(running.is_healthy, "the container is healthy")
        yield running
    finally:
        running.close()


def test_the_image_is_small_and_has_no_compiler_no_pip_and_no_torch(image):
    used = subprocess.run(["du", "-xsm", image.root], capture_output=True, text=True, check=True)
    mib = int(used.stdout.split()[0])
    print(f"image: {mib} MiB")
    assert mib < MOST_MIB
    assert not list(image.root.glob("usr/bin/gcc*"))
    assert not list(image.root.glob("opt/ptycholive/bin/pip*"))
    assert not list(image.root.glob("opt/ptycholive/lib/python3*/site-packages/torch"))


def test_the_image_says_what_it_is_and_holds_no_secret(image):
    assert image.labels["org.opencontainers.image.title"] == "ptycholive"
    assert image.labels["org.opencontainers.image.licenses"] == "BSD-3-Clause"
    assert not [name for name in image.environment if "TOKEN" in name or "INDEX" in name or "MIRROR" in name]


def test_the_service_is_nobody_and_may_nothing(container):
    told = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{container.init}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert told["Uid"].split() == [str(UID)] * 4
    assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0
    assert told["NoNewPrivs"] == "1"


@pytest.mark.parametrize("path", ["/x", "/opt/ptycholive/x", "/data/x", "/etc/x", "/data/bundles/x"])
def test_the_root_cannot_be_written(container, path):
    assert container.run("touch", path).returncode != 0


def test_a_star_is_stitched_whole_and_its_result_outlives_the_container(container, processes):
    container.stream("star")
    processes.until(
        lambda: container.ask("/api/scans/star").get("finished"), "the star is stitched", timeout_s=300
    )
    ledger = container.ask("/api/scans/star")["ledger"]
    assert processes.balanced(ledger)
    assert (ledger["expected"], ledger["stitched"], ledger["dropped"]) == (516, 516, {})
    assert container.stop() == 0, container.log.read_text()
    assert [path.name for path in container.results.glob("*.h5")] == ["star.h5"]
