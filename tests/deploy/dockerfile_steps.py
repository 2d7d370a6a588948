"""Carries out a Dockerfile's steps without a container engine: each stage is a copy of a Debian root.

Only what our Dockerfile uses is known: FROM, ARG, ENV, RUN, COPY of named paths, WORKDIR and what merely
describes the image. Anything else is an error, so that the image and its proof cannot part.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from dockerfile_parse import DockerfileParser

OF_THE_HOST = {
    "/etc/resolv.conf": "/etc/resolv.conf",
    "/etc/hosts": "/etc/hosts",
    "/etc/ssl/certs/ca-certificates.crt": "/run/host-certificates.pem",
}
"""What an engine lends to the steps of a build: names, and here also the certificates of the way out."""

_BYTECODE = shutil.ignore_patterns("__pycache__", "*.pyc")


@dataclass
class Image:
    """A stage, and what it says of the container.

    Attributes:
        root: folder of its file system.
        environment: of its processes.
        user: "uid:gid".
        workdir, entrypoint, command, health, volumes, labels: as the instructions of these names say.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)

    def child(self, root: Path) -> Image:
        """Return a stage that begins where this one ended."""
        subprocess.run(["cp", "--archive", f"{self.root}/.", root], check=True)
        return Image(
            root, dict(self.environment), self.user, self.workdir, list(self.entrypoint),
            list(self.command), list(self.health), list(self.volumes), dict(self.labels),
        )  # fmt: skip

    def inside(self, path: str) -> Path:
        """Return where a path of the image lies."""
        return self.root / (Path(self.workdir) / path).relative_to("/")


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return (instruction, value) in order, comments left out."""
    with dockerfile.open("rb") as told:
        structure = DockerfileParser(fileobj=told).structure
    return [(step["instruction"], step["value"]) for step in structure if step["instruction"] != "COMMENT"]


def stages(steps: list[tuple[str, str]]) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return name → (what it begins from, its steps), in order; the ARGs before the first are left out."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for instruction, value in steps:
        if instruction == "FROM":
            base, _, name = value.split()
            found[name] = (base, [])
        elif found:
            found[next(reversed(found))][1].append((instruction, value))
    return found


def needed(target: str, known: dict[str, tuple[str, list[tuple[str, str]]]]) -> list[str]:
    """Return the stages that a target is made of, itself last."""
    base, steps = known[target]
    copied = [value.split()[0].removeprefix("--from=") for _, value in steps if value.startswith("--from=")]
    before = [stage for name in (base, *copied) if name in known for stage in needed(name, known)]
    return list(dict.fromkeys([*before, target]))


class Builder:
    """Builds a target of a Dockerfile in a folder.

    Args:
        context: the build context, a checkout.
        base: folder with the base image's file system.
        work: where the stages are made.
        arguments: as `--build-arg` gives them.
    """

    def __init__(self, context: Path, base: Path, work: Path, arguments: dict[str, str]) -> None:
        self.images: dict[str, Image] = {}
        self._context = context
        self._base = Image(base)
        self._work = work
        self._given = arguments

    def build(self, target: str) -> Image:
        """Carry out all steps that the target needs, and return it."""
        known = stages(instructions(self._context / "Dockerfile"))
        for name in needed(target, known):
            base, steps = known[name]
            image = self.images.get(base, self._base).child(self._work / name)
            self.images[name] = image
            arguments: dict[str, str] = {}
            for instruction, value in steps:
                self._carry_out(instruction, value, image, arguments)
        return self.images[target]

    def _carry_out(self, instruction: str, value: str, image: Image, arguments: dict[str, str]) -> None:
        filled = Template(value).safe_substitute(image.environment | arguments)
        match instruction:
            case "RUN":
                run_in(image, value, arguments)
            case "COPY":
                self._copy(filled, image)
            case "ARG":
                arguments |= self._argument(value)
            case "ENV":
                image.environment |= pairs(filled)
            case "WORKDIR":
                image.workdir = filled
                image.inside(".").mkdir(parents=True, exist_ok=True)
            case _:
                describe(image, instruction, filled)

    def _argument(self, value: str) -> dict[str, str]:
        name, has_default, default = value.partition("=")
        given = self._given.get(name, default.strip('"') if has_default else None)
        return {} if given is None else {name: given}

    def _copy(self, value: str, image: Image) -> None:
        *sources, target = [part for part in value.split() if not part.startswith("--")]
        origin = next((part[7:] for part in value.split() if part.startswith("--from=")), None)
        for source in sources:
            place = self._context / source if origin is None else self.images[origin].inside(source)
            onto = image.inside(target)
            if place.is_dir():
                ignored = _BYTECODE if origin is None else None
                shutil.copytree(place, onto, symlinks=True, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(place, onto)


def pairs(value: str) -> dict[str, str]:
    """Return what `NAME=value NAME="value" …` says."""
    return dict(part.split("=", 1) for part in shlex.split(value))


def describe(image: Image, instruction: str, value: str) -> None:
    """Note what an instruction says of the container."""
    noted: dict[str, Any] = {
        "USER": lambda: setattr(image, "user", value),
        "LABEL": lambda: image.labels.update(pairs(value)),
        "VOLUME": lambda: image.volumes.extend(json.loads(value)),
        "ENTRYPOINT": lambda: setattr(image, "entrypoint", json.loads(value)),
        "CMD": lambda: setattr(image, "command", json.loads(value)),
        "HEALTHCHECK": lambda: setattr(image, "health", json.loads(value.partition("CMD ")[2])),
        "EXPOSE": lambda: None,
        "STOPSIGNAL": lambda: None,
    }
    noted[instruction]()


def run_in(image: Image, script: str, arguments: dict[str, str]) -> None:
    """Run a RUN step as root in the image, with names and certificates of the host, in mounts of its own.

    Raises:
        AssertionError: it failed; with what it said.
    """
    lend = " && ".join(
        f"touch {image.root}{inside} && mount --bind $(readlink -f {path}) {image.root}{inside}"
        for path, inside in OF_THE_HOST.items()
    )
    inner = f"cd {shlex.quote(image.workdir)} && {script}"
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    told = path | image.environment | arguments | _way_out()
    words = " ".join(shlex.quote(f"{name}={value}") for name, value in told.items())
    outer = (
        f"{lend} && mount -t proc proc {image.root}/proc && mount --rbind /dev {image.root}/dev "
        f"&& exec chroot {image.root} env -i {words} sh -c {shlex.quote(inner)}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", outer],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"RUN {script}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _way_out() -> dict[str, str]:
    """Return the variables of this machine's way out; `docker build` takes proxies alike."""
    certificates = OF_THE_HOST["/etc/ssl/certs/ca-certificates.crt"]
    proxies = {
        name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ
    }
    return proxies | {"PIP_CERT": certificates, "SSL_CERT_FILE": certificates}
