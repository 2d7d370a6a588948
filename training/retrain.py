"""`ptycholive retrain`: a model for what the stream is now, activated where it is no worse."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click
from click.core import ParameterSource
from lightning.fabric.utilities.exceptions import MisconfigurationException

from model.bundle import BundleError, file_sha256, find_bundle, load_bundle
from model.scans import ScanFileError
from training.checkpoint import CheckpointError
from training.exporting import export, legal_name
from training.judging.iterative import IterativeSettings
from training.plan import Precision
from training.provenance import command_line, git_commit
from training.record import COMMAND
from training.registry import (
    CHECKPOINT,
    ROLLED_BACK,
    Entry,
    Lineage,
    Reason,
    Registry,
    RegistryError,
    ScanRecord,
)
from training.retraining.contest import Bout, Jury, contend, jury_of_part, jury_of_scan, refusals
from training.retraining.hot_swap import ServiceRefusedError, swap
from training.retraining.labelling import Labeller
from training.retraining.report import REPORT, figures_of, write_findings
from training.retraining.teaching import Machine, plan_for, teach
from training.train import legal_devices

WORK = "work"  # of a registry: what was reconstructed, and runs that were stopped
_ACTIVE = "active"
_OF_THE_PLAN = ("samples", "batch", "learning_rate", "tile_px", "width", "steps", "precision", "seed")
_ONE_OR_MORE = click.IntRange(min=1)


class RefusedError(Exception):
    """The candidate is not good enough to be used."""


@dataclass(frozen=True, slots=True)
class Retraining:
    """What is asked for.

    Attributes:
        scans: the last one's probe teaches; of each the test part judges, but only the last one's decides.
        registry: where the candidate goes.
        name: of the candidate; None: its parent's, or the last scan's.
        parent: "active", a bundle of the registry by name, or any by folder or name.
        judge: scans to judge by instead, all of their frames.
        plan: fields of `TrainingPlan` that are chosen, None where they are not.
        labels: settings of the iterative engine.
        machine: what trains.
        tiles: held-out tiles of each family to calibrate on.
        command: as a person would type it.
    """

    scans: tuple[Path, ...]
    registry: Registry
    name: str | None
    parent: str
    judge: tuple[Path, ...]
    plan: dict[str, Any]
    labels: IterativeSettings
    machine: Machine
    tiles: int
    command: str

    @property
    def work(self) -> Path:
        """What is kept between runs."""
        return self.registry.folder / WORK


class Retrained(NamedTuple):
    """A candidate in the registry, and what it was found to be worth."""

    entry: Entry
    bouts: list[Bout]


def retrain(asked: Retraining) -> Retrained:
    """Label, train, export and judge; the candidate is in the registry then, and not yet in use.

    Raises:
        ScanFileError, BundleError, CheckpointError, RegistryError: a file cannot be used.
        RefusedError: the candidate cannot be exported.
        ValueError: they do not fit each other, or the iterative engine diverged.
        MisconfigurationException: Lightning cannot follow the options.
    """
    parent = find_parent(asked.registry, asked.parent)
    labeller = Labeller(asked.work, parent, asked.labels)
    newest = labeller.labelled(asked.scans[-1])
    juries = _juries(asked, newest, labeller)
    plan = plan_for(newest, parent, asked.plan)
    _tell("training from nothing" if plan.start is None else f"training from {plan.start.parent.name}")
    best = teach(plan, asked.work, asked.machine, asked.command)
    _tell("exporting and judging")
    made = _admitted(asked, best, parent, juries, plan.seed)
    shutil.rmtree(best.parent)
    return made


def find_parent(registry: Registry, word: str) -> Entry | None:
    """Return a bundle by word, None where the active one is asked for and there is none.

    A bundle from outside is taken into the registry, and is the one in use where none was, so that a
    roll-back finds it.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
        RegistryError: the registry is damaged.
    """
    if word == _ACTIVE:
        return registry.active()
    named = [entry for entry in registry.entries() if entry.name == word]
    if named:
        return named[0]
    bundle = load_bundle(find_bundle(word))
    entry = registry.find(bundle.description.onnx_sha256) or registry.adopt(bundle, _now())
    if registry.active() is None:
        registry.activate(entry, "adopted", _now())
    return entry


def _juries(asked: Retraining, newest: Path, labeller: Labeller) -> list[Jury]:
    if asked.judge:
        return [jury_of_scan(labeller.labelled(scan), scan.name) for scan in asked.judge]
    older = [jury_of_part(labeller.labelled(scan), scan.name, decides=False) for scan in asked.scans[:-1]]
    return [*older, jury_of_part(newest, asked.scans[-1].name)]


def _admitted(
    asked: Retraining, best: Path, parent: Entry | None, juries: Sequence[Jury], seed: int
) -> Retrained:
    """Export the checkpoint into the registry, with what was found beside it."""
    with asked.registry.stage() as staged:
        _export(best, staged, _name(asked, parent), asked.tiles)
        shutil.copyfile(best, staged / CHECKPOINT)
        shutil.copyfile(best.with_name(COMMAND), staged / COMMAND)
        bouts = contend(juries, None if parent is None else parent.path, staged)
        lineage = _lineage(asked, staged, parent, bouts, seed)
        write_findings(staged, lineage, bouts)
        return Retrained(asked.registry.admit(staged, lineage), bouts)


def _export(best: Path, staged: Path, name: str, tiles: int) -> None:
    """Export the candidate.

    Raises:
        RefusedError: it has learned so little that the graph's rounding decides what it says.
    """
    try:
        export(best, staged, name, None, tiles)
    except BundleError as error:
        raise RefusedError(str(error)) from error


def _name(asked: Retraining, parent: Entry | None) -> str:
    if asked.name is not None:
        return asked.name
    return asked.scans[-1].stem if parent is None else parent.lineage().name


def _lineage(
    asked: Retraining, staged: Path, parent: Entry | None, bouts: Sequence[Bout], seed: int
) -> Lineage:
    told = load_bundle(staged).description
    return Lineage(
        name=told.name,
        onnx_sha256=told.onnx_sha256,
        parent_sha256=None if parent is None else parent.lineage().onnx_sha256,
        probe_sha256=told.probe.sha256,
        date=_now(),
        command=asked.command,
        commit=git_commit(),
        seed=seed,
        scans=tuple(ScanRecord(scan.name, file_sha256(scan)) for scan in asked.scans),
        figures=figures_of(bouts),
        accepted=not refusals(bouts),
    )


def _activate(registry: Registry, entry: Entry, reason: Reason, url: str | None, token: str | None) -> None:
    """Put a bundle in use; where a service is named it takes it first, and nothing changes if it does not."""
    if url is not None:
        click.echo(f"{url}: goes on with {swap(url, token, entry.path)}")
    registry.activate(entry, reason, _now())
    click.echo(f"active: {entry.path}")


def _conclude(made: Retrained, registry: Registry, options: dict[str, Any]) -> None:
    """Say what was found, and put the candidate in use where it is no worse.

    Raises:
        RefusedError: it is worse.
    """
    worse = refusals(made.bouts)
    if worse:
        raise RefusedError(f"{worse[0].in_words}; report: {made.entry.path / REPORT}")
    for bout in made.bouts:
        click.echo(bout.in_words)
    click.echo(f"report: {made.entry.path / REPORT}")
    if options["activate"]:
        _activate(registry, made.entry, "retrained", options["service"], options["token"])


def _asked(context: click.Context, registry: Registry, options: dict[str, Any]) -> Retraining:
    context.set_parameter_source("token", ParameterSource.DEFAULT)  # a secret is in no record
    return Retraining(
        scans=options["scans"],
        registry=registry,
        name=options["name"],
        parent=options["parent"],
        judge=options["judge"],
        plan={name: options[name] for name in _OF_THE_PLAN},
        labels=IterativeSettings(iterations=options["label_iterations"]),
        machine=Machine(options["workers"], options["devices"]),
        tiles=options["tiles"],
        command=command_line(context),
    )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _tell(stage: str) -> None:
    click.echo(f"{stage} …", err=True)


@click.command(
    "retrain",
    epilog="""\b
Example:
  ptycholive retrain recordings/scan7.h5 --registry bundles --parent siemens-star --name today
  ptycholive retrain recordings/scan9.h5 --registry bundles --service http://127.0.0.1:8080
  ptycholive retrain --registry bundles --rollback --service http://127.0.0.1:8080""",
)
@click.argument("scans", metavar="SCAN…", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--registry",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of bundles; made if need be. `serve --bundle FOLDER/active` takes the one in use.",
)
@click.option("--name", callback=legal_name, help="Of the model.  [default: its parent's]")
@click.option(
    "--parent",
    metavar="BUNDLE|active",
    default=_ACTIVE,
    show_default=True,
    help="Model to beat, whose probe labels start from and whose weights are taken over where the registry "
    "has its checkpoint: of the registry, by folder, or a shipped one by name.",
)
@click.option(
    "--judge",
    metavar="SCAN",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Judge on all of this scan; may be given again.  [default: the test part of the last SCAN]",
)
@click.option("--samples", type=_ONE_OR_MORE, default=100_000, show_default=True, help="Simulated frames.")
@click.option("--batch", type=_ONE_OR_MORE, help="Frames a step.  [default: the parent's, or 32]")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="The greatest of the schedule.  [default: the parent's, or 0.001]",
)
@click.option(
    "--tile", "tile_px", type=click.IntRange(min=16), help="Edge of the tile.  [default: the parent's, or 80]"
)
@click.option(
    "--width", type=_ONE_OR_MORE, help="Channels at half resolution.  [default: the parent's, or 32]"
)
@click.option(
    "--steps", type=_ONE_OR_MORE, help="Meetings with the measurement.  [default: the parent's, or 2]"
)
@click.option(
    "--precision", type=click.Choice(get_args(Precision)), help="[default: the parent's, or 32-true]"
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of weights, objects and noise."
)
@click.option(
    "--label-iterations",
    type=_ONE_OR_MORE,
    default=100,
    show_default=True,
    help="Of the engine that reconstructs scans without a reference.",
)
@click.option(
    "--tiles",
    type=_ONE_OR_MORE,
    default=64,
    show_default=True,
    help="Held-out tiles of each family to calibrate trust on.",
)
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that make frames."
)
@click.option(
    "--devices", callback=legal_devices, default="auto", show_default=True, help="Handed to Lightning."
)
@click.option("--service", metavar="URL", help="Running service that shall go on with what is activated.")
@click.option("--token", envvar="PTYCHOLIVE_TOKEN", help="Of the running service.")
@click.option(
    "--activate/--no-activate", default=True, help="Whether a candidate that is no worse is put in use."
)
@click.option(
    "--rollback", is_flag=True, help="Put in use again what was in use before, and do nothing else."
)
@click.pass_context
def command(context: click.Context, /, folder: Path, rollback: bool, **options: Any) -> None:
    """Make a model for what the stream is now, and put it in use where it is no worse.

    SCAN is reconstructed where it holds no reference; the last one's probe makes the frames to learn from.
    Parent and candidate are judged on the same held-out frames: a candidate whose mosaic explains them worse
    is refused (exit 1) and stays in the registry with a report that shows why.
    """
    registry = Registry(folder)
    if rollback == bool(options["scans"]):
        raise click.UsageError("give a SCAN to retrain on, or --rollback without one")
    try:
        if rollback:
            _activate(registry, registry.before(), ROLLED_BACK, options["service"], options["token"])
            return
        made = retrain(_asked(context, registry, options))
        _conclude(made, registry, options)
    except (RefusedError, ServiceRefusedError) as error:
        click.echo(f"refused: {error}; nothing was activated", err=True)
        context.exit(1)
    except (
        BundleError,
        CheckpointError,
        MisconfigurationException,
        RegistryError,
        ScanFileError,
        ValueError,
        OSError,
    ) as error:
        raise click.UsageError(" ".join(str(error).split())) from error
