"""`ptycholive evaluate`: what a model is worth on a scan, as a report for people and figures for programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np

from model.bundle import BundleError
from model.scans import ScanFile, ScanFileError, open_scan
from training.checkpoint import CheckpointError
from training.datasets.splits import PART_NAMES, SPLIT_NAMES, Indices, layout_of_scan, split_layout
from training.judging.evaluation import Evaluation, JudgedMosaic
from training.judging.held_out_trust import HeldOutScan, judge_held_out
from training.judging.iterative import Engine, IterativeSettings
from training.judging.metrics import as_json
from training.judging.predictor import Predictor, open_model
from training.progress import shown_of
from training.provenance import environment
from training.reporting.findings import Rival, ScanFindings, judge_scan
from training.reporting.raced import race_figures, resemblance_figures
from training.reporting.report import ReportContent, Table, Verdict, write_report
from training.reporting.sections import own_contrast, section
from training.reporting.trusted import (
    foretelling_figures,
    held_out_figures,
    held_out_section,
    held_out_verdict,
    ways_figures,
)
from training.reporting.verdict import verdict

REPORT, FIGURES = "report.html", "figures.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an evaluation comes from.

    Attributes:
        command: as a person would type it.
        date: when it was run, ISO 8601.
        environment: versions of what computed it.
    """

    command: str
    date: str
    environment: dict[str, str | None]


def verdict_on(found: ScanFindings, model: Predictor) -> Verdict:
    """Return what to think of the mosaic, with what the figures cannot say."""
    return verdict(
        found.residuals, found.rivals[0].likeness, found.rings, found.field.pixel_m, cautions(found, model)
    )


def cautions(found: ScanFindings, model: Predictor) -> tuple[str, ...]:
    """Return what limits the verdict: where the probe comes from, what the model has not learned from."""
    said = []
    reference = found.field.reference
    if model.probe is None:
        said.append("The model knows no probe: the frames are modelled with that of the reference.")
    elif reference is not None and np.array_equal(reference.probe, model.probe):
        said.append(
            "The model was fitted to the probe of this scan's own reference; another beam may differ."
        )
    else:
        said.append("The frames are modelled with the model's own probe: has the beam changed since?")
    if model.object_pixel_m is not None and not np.isclose(
        model.object_pixel_m, found.field.pixel_m, rtol=0.01
    ):
        ours, theirs = (f"{1e9 * pixel_m:.1f} nm" for pixel_m in (model.object_pixel_m, found.field.pixel_m))
        said.append(
            f"The model paints pixels of {ours}, the scan's are {theirs}: it was made for another geometry."
        )
    if model.not_shown:
        said.append(f"Kinds of objects that the model has not learned from: {', '.join(model.not_shown)}.")
    return tuple(said)


def contents(
    found: Sequence[ScanFindings], held_out: Sequence[HeldOutScan], model: Predictor, origin: Origin
) -> ReportContent:
    """Return all that the report says."""
    return ReportContent(
        title=f"{model.name}: can its images be trusted?",
        subtitle="ptycholive evaluate",
        date=origin.date,
        sections=[
            *(section(scan, verdict_on(scan, model)) for scan in found),
            *([held_out_section(held_out)] if held_out else []),
        ],
        tables=[
            Table("Cost", ("what", "how much"), tuple(model.cost.items()), prose=True),
            Table("Where this comes from", ("what", "which"), _provenance(model, origin), prose=True),
        ],
    )


def figures(
    found: Sequence[ScanFindings], held_out: Sequence[HeldOutScan], model: Predictor, origin: Origin
) -> dict[str, Any]:
    """Return the same as plain values, for programs."""
    return {
        "date": origin.date,
        "command": origin.command,
        "environment": origin.environment,
        "model": {"name": model.name, "cost": model.cost, **model.origin},
        "scans": [_scan_figures(scan, verdict_on(scan, model)) for scan in found],
        "held_out": held_out_figures(held_out) if held_out else None,
    }


def _provenance(model: Predictor, origin: Origin) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {word or 'not known'}" for name, word in origin.environment.items())
    return [
        *model.origin.items(),
        ("evaluated by", origin.command),
        ("on", origin.date),
        ("versions", versions),
    ]


def _scan_figures(found: ScanFindings, said: Verdict) -> dict[str, Any]:
    return {
        "name": found.name,
        "frames": len(found.field.counts),
        "object_pixel_m": found.field.pixel_m,
        "verdict": as_json(said),
        "residuals": {**as_json(found.residuals), "explained": found.residuals.explained},
        "frames_per_second": found.painted.frames_per_second,
        "ways": [_rival_figures(rival) for rival in found.rivals],
        "against_the_reference": None if found.evaluation is None else _set_figures(found.evaluation),
        "foretelling": None if found.foretold is None else foretelling_figures([found.foretold]),
        "stitching": ways_figures(found.ways),
        "beside": {
            name: {reference: resemblance_figures(alike) for reference, alike in likenesses.items()}
            for name, likenesses in found.beside.items()
        },
        "against_time": race_figures(found.race),
    }


def _rival_figures(rival: Rival) -> dict[str, Any]:
    return {
        "name": rival.name,
        "forward_residual": rival.residual,
        "seconds_per_frame": rival.seconds_per_frame,
        "likeness": None if rival.likeness is None else as_json(rival.likeness),
    }


def _set_figures(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "tiles": as_json(evaluation.tiles),
        "tile_phase_rms_rad": evaluation.tile_rms_rad.tolist(),
        "paper": _mosaic_figures(evaluation.paper),
        "circle": _mosaic_figures(evaluation.circle),
    }


def _mosaic_figures(mosaic: JudgedMosaic) -> dict[str, Any]:
    return {
        **as_json(mosaic.figures),
        "band_shares": as_json(mosaic.spectrum.shares),
        "true_band_shares": as_json(mosaic.truth_spectrum.shares),
    }


def _judge(path: Path, model: Predictor, options: dict[str, Any]) -> ScanFindings:
    engines = [
        IterativeSettings(engine, options["iterations"], device="cpu") for engine in options["engines"]
    ]
    bar = shown_of(path.name)
    with open_scan(path) as scan:
        frames, words = _frames_of(scan, options)
        found = judge_scan(scan, model, engines, options["limit"], bar, frames, options["against_time"])
    return replace(found, name=", ".join((found.name, *words)))


def _frames_of(scan: ScanFile, options: dict[str, Any]) -> tuple[Indices, list[str]]:
    """Return the numbers of the frames that are asked for, and in words which they are if not all."""
    frames, words = np.arange(len(scan)), []
    if options["part"] is not None:
        split = split_layout(layout_of_scan(scan), options["split"])
        frames = split._asdict()[options["part"]]
        words.append(f"{options['part']} part of its split {options['split']!r}")
    if options["every"] > 1:
        words.append(f"one frame of {options['every']}")
    return frames[:: options["every"]], words


def _origin(model: str, data: Sequence[Path], options: dict[str, Any]) -> Origin:
    words = ["ptycholive", "evaluate", model, *map(str, data), "--out", str(options["out"])]
    for engine in options["engines"]:
        words += ["--iterative", engine]
    if options["engines"]:
        words += ["--iterations", str(options["iterations"])]
    idle = {"split"} if options["part"] is None else set()
    idle |= {"every"} if options["every"] == 1 else set()
    for name in ("limit", "every", "held_out", "part", "split", "against_time"):
        if options[name] and name not in idle:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return Origin(shlex.join(words), now, environment())


@click.command(
    "evaluate",
    epilog="""\b
Example:
  ptycholive evaluate siemens-star siemens_star_aps.cxi --out evaluation
  ptycholive evaluate runs/star/best.ckpt siemens_star_aps.cxi --out evaluation --iterative epie
  ptycholive evaluate siemens-star siemens_star_aps.cxi --out evaluation --against-time 120
  ptycholive evaluate runs/tuned/best.ckpt scan.cxi --part test --split disjoint --out evaluation
  ptycholive evaluate siemens-star --held-out 3 --out evaluation""",
)
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path, dir_okay=False), nargs=-1)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help=f"Folder for {REPORT} and {FIGURES}; made if need be.",
)
@click.option(
    "--iterative",
    "engines",
    type=click.Choice(get_args(Engine)),
    multiple=True,
    help="Reconstruct the same frames with this engine too, beside the network; may be given again.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Of each iterative engine.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Take only the first so many frames of each scan.")
@click.option(
    "--every",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Take one frame of N: how good is each way with so much less overlap?",
)
@click.option(
    "--part",
    type=click.Choice(PART_NAMES),
    help="Judge this part of each scan alone, with what its own frames see; see `train --split`.",
)
@click.option(
    "--split",
    type=click.Choice(SPLIT_NAMES),
    default="disjoint",
    show_default=True,
    help="Of the scan into the parts that --part names; of a scan file it is the same for every method.",
)
@click.option(
    "--against-time",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Also let pty-chi's engines, and rPIE from an empty object and from the mosaic, work on the same "
    "frames for so long each, and tell how good they are at a row of times.",
)
@click.option(
    "--held-out",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Judge it also on simulated scans of so many unseen objects of each kind, with its own probe.",
)
def command(model: str, data: tuple[Path, ...], **options: Any) -> None:
    """Judge MODEL on the frames of DATA, and by the reference that a scan file may hold.

    MODEL is a bundle's folder, the name of a shipped one, or a checkpoint of `train`. DATA are scan files;
    none is needed with --held-out.
    """
    if not data and not options["held_out"]:
        raise click.UsageError(
            "nothing to judge on: give a scan file, or --held-out with a number of objects"
        )
    out: Path = options["out"]
    try:
        predictor = open_model(model)
        found = [_judge(path, predictor, options) for path in data]
        held_out = list(judge_held_out(predictor, options["held_out"], shown_of("held out")))
        origin = _origin(model, data, options)
        out.mkdir(parents=True, exist_ok=True)
        write_report(out / REPORT, contents(found, held_out, predictor, origin))
        plain = json.dumps(figures(found, held_out, predictor, origin), indent=2, allow_nan=False)
        (out / FIGURES).write_text(plain + "\n", encoding="utf-8")
        for scan in found:
            (out / f"{Path(scan.name).stem}-phase.png").write_bytes(own_contrast(scan).content())
    except (BundleError, CheckpointError, ScanFileError, ValueError, OSError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error
    for scan in found:
        click.echo(f"{scan.name}: {verdict_on(scan, predictor).headline}")
    if held_out:
        said = held_out_verdict([scan.foretold for scan in held_out])
        click.echo(f"held out: {said.headline} {said.reasons[0]}")
    click.echo(f"report: {out / REPORT}")
