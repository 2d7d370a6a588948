"""A folder of bundles: each under its hash, with where it comes from, and which of them is in use."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from model.bundle import Bundle, load_bundle
from model.whole_files import written_whole

ACTIVE, HISTORY, LINEAGE, CHECKPOINT = "active", "history.jsonl", "lineage.json", "checkpoint.ckpt"
ROLLED_BACK: Literal["rolled back"] = "rolled back"
Reason = Literal["adopted", "retrained", "rolled back"]
Record = TypeVar("Record")

_HASH_SHOWN = 12  # of the ONNX file's sha256, in a folder's name


class RegistryError(Exception):
    """The folder does not hold what is asked of it."""


class ScanRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scan file that a model comes from: its name and the hash of what it held."""

    file: str
    sha256: str


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The contents of `lineage.json`: how a bundle came to be.

    Attributes:
        name: of the model.
        onnx_sha256: of its network.
        parent_sha256: of the network that it took over from; None: it began from nothing.
        probe_sha256: of what it was fitted to.
        date: when it was entered, ISO 8601.
        command: as a person would type it.
        commit: of the program, None where it is not known.
        seed: of weights, objects and noise.
        scans: whose instrument it was fitted to; the last one's probe taught it.
        figures: of judging, parent and candidate on the same frames.
        accepted: whether it was no worse than its parent; None: it was brought from outside.
    """

    name: str
    onnx_sha256: str
    probe_sha256: str
    date: str
    parent_sha256: str | None = None
    command: str | None = None
    commit: str | None = None
    seed: int | None = None
    scans: tuple[ScanRecord, ...] = ()
    figures: tuple[dict[str, Any], ...] = ()
    accepted: bool | None = None


class Activation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `history.jsonl`: which bundle was activated, instead of which, when and why."""

    bundle: str
    before: str | None
    date: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Entry:
    """A bundle in the registry.

    Attributes:
        path: its folder, which `serve --bundle` takes.
    """

    path: Path

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.path.name

    @property
    def checkpoint(self) -> Path | None:
        """What it was exported from and the next one may go on from; None: it was brought from outside."""
        file = self.path / CHECKPOINT
        return file if file.is_file() else None

    def bundle(self) -> Bundle:
        """Read and verify the bundle.

        Raises:
            BundleError: it is damaged.
        """
        return load_bundle(self.path)

    def lineage(self) -> Lineage:
        """Return how the bundle came to be.

        Raises:
            RegistryError: the record is missing or damaged.
        """
        return _decoded(self.path / LINEAGE, _read(self.path / LINEAGE), Lineage)


@dataclass(frozen=True, slots=True)
class Registry:
    """A folder of bundles; it is made when the first one is staged.

    Attributes:
        folder: holds a folder for each bundle, `active`, a link to the one in use, and `history.jsonl`.
    """

    folder: Path

    def entries(self) -> list[Entry]:
        """Return all bundles, by name."""
        lineages = sorted(self.folder.glob(f"*/{LINEAGE}"))
        return [Entry(file.parent) for file in lineages if _is_entry(file.parent)]

    def active(self) -> Entry | None:
        """Return the bundle in use, None where none has been activated.

        Raises:
            RegistryError: the link leads nowhere.
        """
        link = self.folder / ACTIVE
        if not link.is_symlink():
            return None
        return self.entry(link.readlink().name)

    def entry(self, name: str) -> Entry:
        """Return a bundle by the name of its folder.

        Raises:
            RegistryError: there is none.
        """
        found = Entry(self.folder / name)
        if found not in self.entries():
            raise RegistryError(f"{self.folder} holds no bundle {name!r}")
        return found

    def find(self, onnx_sha256: str) -> Entry | None:
        """Return the bundle whose network has this hash, None where there is none."""
        ending = f"-{onnx_sha256[:_HASH_SHOWN]}"
        alike = [entry for entry in self.entries() if entry.name.endswith(ending)]
        return next((entry for entry in alike if entry.lineage().onnx_sha256 == onnx_sha256), None)

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Make a folder to put a bundle together in; what is not admitted from it is gone afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        staged = self.folder / f".staged-{secrets.token_hex(6)}"
        staged.mkdir()
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def admit(self, staged: Path, lineage: Lineage) -> Entry:
        """Enter a staged bundle under its hash; a network that is here already keeps its first record.

        Args:
            staged: of `stage`, a whole bundle and whatever shall lie beside it.
            lineage: of the bundle.

        Raises:
            BundleError: it is no bundle.
            RegistryError: the lineage is that of another one.
        """
        sha256 = load_bundle(staged).description.onnx_sha256
        if sha256 != lineage.onnx_sha256:
            raise RegistryError(f"{staged}: the lineage is that of another network")
        known = self.find(sha256)
        if known is not None:
            return known
        text = msgspec.json.format(msgspec.json.encode(lineage), indent=2)
        (staged / LINEAGE).write_bytes(text + b"\n")
        entry = Entry(self.folder / f"{lineage.name}-{sha256[:_HASH_SHOWN]}")
        staged.replace(entry.path)
        return entry

    def adopt(self, bundle: Bundle, date: str) -> Entry:
        """Enter a bundle from outside; one that is here already is left as it is.

        Raises:
            BundleError, OSError: it cannot be copied.
        """
        told = bundle.description
        with self.stage() as staged:
            for name in bundle.files:
                shutil.copyfile(bundle.path / name, staged / name)
            return self.admit(
                staged,
                Lineage(
                    name=told.name,
                    onnx_sha256=told.onnx_sha256,
                    probe_sha256=told.probe.sha256,
                    date=date,
                    command=told.training.get("command"),
                    seed=told.training.get("seed"),
                ),
            )

    def activate(self, entry: Entry, reason: Reason, date: str) -> None:
        """Put a bundle in use and write it into the history; nothing changes where it is in use already.

        Raises:
            OSError: the folder cannot be written.
        """
        before = self.active()
        if before == entry:
            return
        line = Activation(entry.name, None if before is None else before.name, date, reason)
        history = self.folder / HISTORY
        so_far = history.read_bytes() if history.is_file() else b""
        with written_whole(history) as half:
            half.write_bytes(so_far + msgspec.json.encode(line) + b"\n")
        self._link(entry)

    def history(self) -> list[Activation]:
        """Return what was activated, the newest last.

        Raises:
            RegistryError: the record is damaged.
        """
        file = self.folder / HISTORY
        if not file.is_file():
            return []
        return [_decoded(file, line, Activation) for line in _read(file).splitlines()]

    def before(self) -> Entry:
        """Return the bundle that the one in use has replaced.

        Raises:
            RegistryError: none is in use, or it is the first.
        """
        active = self.active()
        if active is None:
            raise RegistryError(f"{self.folder}: no bundle is in use")
        steps = [
            line.before
            for line in self.history()
            if line.bundle == active.name and line.reason != ROLLED_BACK
        ]
        if not steps or steps[-1] is None:
            raise RegistryError(
                f"{self.folder}: {active.name} is the first that was in use, none lies before"
            )
        return self.entry(steps[-1])

    def _link(self, entry: Entry) -> None:
        with written_whole(self.folder / ACTIVE) as half:
            half.symlink_to(entry.name, target_is_directory=True)


def _is_entry(folder: Path) -> bool:
    return not folder.is_symlink() and not folder.name.startswith(".")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RegistryError(f"cannot read {file}: {error.strerror}") from error


def _decoded(file: Path, text: bytes, kind: type[Record]) -> Record:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise RegistryError(f"{file} is not a registry's record: {error}") from error
