"""Debian's podman under docker's name: the documents' lines for a container engine run as they stand.

Images and volumes lie in a folder of their own. The base comes from debootstrap, since no registry is asked.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import documents
import pytest

from service.handover.result import read_result

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs/deploy.md"
PROOF = [
    pytest.mark.long,
    pytest.mark.timeout(3000),
    pytest.mark.skipif("PROVE_CONTAINER" not in os.environ, reason="takes many minutes: make container"),
]
LIMIT_S = 1500  # of one line: some build an image
BASE = "localhost/debian:bookworm-slim"
ALIASES = """\
[aliases]
"debian" = "localhost/debian"
"prom/prometheus" = "localhost/prom/prometheus"
"""
COMPOSE = TOP / ".venv-compose/bin/podman-compose"
LIMITS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=2048:2048"]
[engine]
runtime = "runc"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
STAR = "/opt/ptycholive/lib/python3.11/site-packages/service/data/siemens_star_aps.cxi"  # in the image
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
LENT = "/run/host-certificates.pem"  # the certificates of this machine's way out, in steps that fetch
DOCKER = """\
#!/bin/sh
export CONTAINERS_CONF={folder}/containers.conf CONTAINERS_REGISTRIES_CONF={folder}/registries.conf
export BUILDAH_FORMAT=docker # the other one has no health check
case "$1" in
build)
    shift
    set -- build --network host {lending} \\
        ${{APT_MIRROR:+--build-arg APT_MIRROR}} ${{PIP_INDEX_URL:+--build-arg PIP_INDEX_URL}} "$@" ;;
run | create)
    command=$1
    shift
    set -- "$command" --read-only-tmpfs=false "$@" ;; # podman makes more places writable than docker does
compose)
    shift
    exec {compose} --podman-path "$0" "$@" ;;
esac
exec {podman} --root {folder}/storage --runroot {folder}/run "$@"
"""


class Docker:
    """An engine whose state is one folder.

    Args:
        podman: the program.
        folder: made if need be; what is there stays for the next time.
    """

    def __init__(self, podman: str, folder: Path) -> None:
        self.folder = folder
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True, exist_ok=True)
        (folder / "containers.conf").write_text(LIMITS.format(folder=folder))
        (folder / "registries.conf").write_text(ALIASES)
        (folder / "pip.conf").write_text(f"[global]\ncert = {LENT}\n")
        self.lending = f"--volume {CERTIFICATES}:{LENT}:ro --volume {folder}/pip.conf:/etc/pip.conf:ro"
        shim = self._bin / "docker"
        shim.write_text(DOCKER.format(folder=folder, podman=podman, compose=COMPOSE, lending=self.lending))
        shim.chmod(0o755)

    def type(self, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a line of a document in a shell, in the top folder."""
        told = os.environ | {"PATH": f"{self._bin}:{os.environ['PATH']}"} | environment
        return subprocess.run(
            ["timeout", "--kill-after=10", str(LIMIT_S), "bash", "-ec", line], cwd=TOP, env=told,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def __call__(self, *words: object, **environment: str) -> str:
        """Return what `docker …` says.

        Raises:
            AssertionError: it failed; with what it said.
        """
        done = self.type(shlex.join(["docker", *map(str, words)]), **environment)
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what it tells of an image or a container."""
        return dict(json.loads(self("inspect", name))[0])

    def make_base(self, debootstrap: str, work: Path) -> None:
        """Make the image that the Dockerfile begins from, unless it is there."""
        if self.type(f"docker image exists {BASE}").returncode == 0:
            return
        root = work / "base"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run([debootstrap, "--variant=minbase", "bookworm", root], check=True, capture_output=True)
        done = self.type(f"tar -C {root} -c . | docker import - {BASE}")
        assert done.returncode == 0, done.stderr
        shutil.rmtree(root)


def place_of(docker: Docker, volume: str) -> Path:
    """Return the folder of a volume."""
    return Path(docker("volume", "inspect", volume, "--format", "{{.Mountpoint}}"))


def stitched_in(docker: Docker, volume: str, scan: str) -> int:
    """Return how many frames the result of a scan in a volume holds."""
    return int(read_result(place_of(docker, volume) / f"{scan}.h5").report["ledger"]["stitched"])


def documented(beginning: str) -> str:
    """Return the line of docs/deploy.md that begins so."""
    return next(line for line in documents.lines(PAGE) if line.startswith(beginning))


def documented_block(beginning: str) -> list[str]:
    """Return the lines of the block of docs/deploy.md that begins so."""
    return next(block for block in documents.blocks(PAGE) if block.startswith(beginning)).splitlines()


def with_options(line: str, command: str, options: str) -> str:
    """Return a documented line with further options after the engine's command."""
    return re.sub(rf"^docker {command} ", f"docker {command} {options} ", line)


def send_star(docker: Docker, network: str, scan: str) -> None:
    """Let a container of the name `detector`, that of the example's settings, send the measured star."""
    passing_on = ["/relay.py", "0.0.0.0", "31001", "127.0.0.1", "31002"]
    replay = ["replay", STAR, "--to", "tcp://127.0.0.1:31002", "--bind", "--format", "dectris-v2"]
    try:
        docker(
            "run", "--detach", "--name", "detector", "--network", network, "--entrypoint", "python3",
            "--volume", f"{TOP}/tests/tools/relay.py:/relay.py:ro", "ptycholive:cpu", *passing_on,
        )  # fmt: skip
        docker("exec", "detector", "ptycholive", *replay, "--scan", scan)
    finally:
        docker("rm", "--force", "--time", 0, "--volumes", "detector")
