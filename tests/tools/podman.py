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

BASE = "localhost/debian:bookworm-slim"
ALIASES = '[aliases]\n"debian" = "localhost/debian"\n'
LIMITS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=2048:2048"]
[engine]
runtime = "runc"
"""
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
run)
    shift
    set -- run --read-only-tmpfs=false "$@" ;; # podman makes more places writable than docker does
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
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True, exist_ok=True)
        (folder / "containers.conf").write_text(LIMITS)
        (folder / "registries.conf").write_text(ALIASES)
        (folder / "pip.conf").write_text(f"[global]\ncert = {LENT}\n")
        lending = f"--volume {CERTIFICATES}:{LENT}:ro --volume {folder}/pip.conf:/etc/pip.conf:ro"
        shim = self._bin / "docker"
        shim.write_text(DOCKER.format(folder=folder, podman=podman, lending=lending))
        shim.chmod(0o755)

    def type(self, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a line of a document in a shell, in the top folder."""
        told = os.environ | {"PATH": f"{self._bin}:{os.environ['PATH']}"} | environment
        return subprocess.run(
            ["bash", "-ec", line], cwd=Path(__file__).parents[2], env=told,
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


def with_options(line: str, command: str, options: str) -> str:
    """Return a documented line with further options after the engine's command."""
    return re.sub(rf"^docker {command} ", f"docker {command} {options} ", line)
