"""What was found on a scan, as tables and pictures of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.judge import ONE_SEVENTH, circular_error
from training.judging.evaluation import Evaluation, JudgedMosaic
from training.judging.metrics import BothRanges, PlainFigures, PlainSpreads, Spread
from training.judging.spectrum import BAND_EDGES
from training.reporting import plots
from training.reporting.findings import Rival, ScanFindings, box_around
from training.reporting.plots import Chart, Curve, Panel
from training.reporting.raced import beside_table, race_pictures, race_tables
from training.reporting.report import Picture, Section, Table, Verdict
from training.reporting.trusted import calibration_picture, foretelling_table, ways_table

Image = NDArray[np.floating[Any]]

SHOWN = 2  # best tiles, and as many of the worst
_FAINT = 0.1  # counts, below a single photon: where the logarithm of a pattern starts
_MICRO = 1e-6


def section(found: ScanFindings, verdict: Verdict) -> Section:
    """Return a report's section on one scan."""
    frames = len(found.field.counts)
    title = f"{found.name}: {frames} frames of {found.field.counts.shape[1]}×{found.field.counts.shape[2]}"
    evaluation = found.evaluation
    if evaluation is None:
        tables = [_residuals(found), _rivals(found), *_race_tables(found)]
        pictures = [_views(found), *race_pictures(found.race), _residual_histogram(found), _tiles(found)]
        return Section(title, verdict, tables, pictures)
    tables = [_residuals(found), _bands(evaluation), _rivals(found), *_race_tables(found)]
    if found.beside:
        tables.append(beside_table(found.beside, found.field.pixel_m))
    tables += [_circular(evaluation, found.field.pixel_m), *_figures(evaluation)]
    if found.foretold is not None:
        tables += [foretelling_table([found.foretold]), ways_table([found.ways])]
    return Section(title, verdict, tables, _pictures(found, evaluation))


def _race_tables(found: ScanFindings) -> list[Table]:
    return race_tables(found.race, found.field.pixel_m, torch.get_num_threads()) if found.race else []


def _residuals(found: ScanFindings) -> Table:
    r = found.residuals
    rows = [("the network's mosaic", r.mosaic), ("no object, the beam alone", r.empty)]
    rows += [("the iterative reference", r.reference)] if r.reference is not None else []
    rows += [("counting noise alone", r.noise)]
    return Table(
        "How well the frames are explained",
        ("object", "forward residual"),
        [(name, f"{value:.4f}") for name, value in rows],
        "√(Σ(√I − √Î)² / ΣI) over all frames, Î modelled with the probe; 0 is perfect. The noise row is what "
        "Poisson statistics leave even of the right object.",
    )


def _rivals(found: ScanFindings) -> Table:
    return Table(
        "Ways to reconstruct these frames",
        ("way", "residual", "phase RMS, rad", "phase corr.", "amplitude corr.", "ms a frame"),
        [_rival(rival) for rival in found.rivals],
        "Timed in this run, on this machine's CPU with whatever else ran on it: networks without stitching, "
        "iterative engines over all their iterations. An engine's residual is that with its own probe.",
    )


def _rival(rival: Rival) -> tuple[str, ...]:
    a = rival.likeness
    alike = ("–",) * 3
    if a is not None:
        alike = (f"{a.phase_rms_rad:.3f}", f"{a.phase_correlation:.3f}", f"{a.amplitude_correlation:.3f}")
    return rival.name, f"{rival.residual:.4f}", *alike, f"{1e3 * rival.seconds_per_frame:.1f}"


def _figures(evaluation: Evaluation) -> list[Table]:
    header = ("", "MSE", "MAE", "PSNR, dB", "SSIM, %", "PSNR, fixed range", "SSIM, fixed range")
    tiles = evaluation.tiles
    per_tile = [("phase, rad", *_spreads(tiles.phase))]
    if tiles.amplitude is not None:
        per_tile.append(("amplitude", *_spreads(tiles.amplitude)))
    fields = [
        *_plain_rows("paper's stitching", evaluation.paper),
        *_plain_rows("on the circle", evaluation.circle),
    ]
    return [
        Table(
            f"Tiles against the reference, mean ± std over {tiles.circular_rms_rad.count} tiles",
            header,
            per_tile,
            "Plain differences over the whole tile, dark rim included, as arXiv 2604.26664 takes them: no "
            "wrap, no alignment. PSNR and SSIM with the range of each tile's truth, then with a fixed one: "
            "1 for amplitude, that of all true phases for phase.",
        ),
        Table(
            "Mosaic against the reference",
            header,
            fields,
            "The same figures of the stitched field: tiles averaged as the paper does (angles), and as the "
            "service does (phasors under the probe's light). On the box around the judged pixels, where "
            "pixels that no tile painted are left out of account.",
        ),
    ]


def _spreads(both: BothRanges[PlainSpreads]) -> tuple[str, ...]:
    own, fixed = both.truth, both.fixed
    plain = (_pm(own.mse, 4), _pm(own.mae, 3))
    return *plain, _pm(own.psnr_db, 1), _pm(own.ssim, 1, 100), _pm(fixed.psnr_db, 1), _pm(fixed.ssim, 1, 100)


def _pm(spread: Spread, digits: int, scale: float = 1) -> str:
    return f"{scale * spread.mean:.{digits}f} ± {scale * spread.std:.{digits}f}"


def _plain_rows(name: str, mosaic: JudgedMosaic) -> list[tuple[str, ...]]:
    figures = mosaic.figures
    rows = [(f"phase, rad, {name}", *_plain(figures.phase))]
    return rows if figures.amplitude is None else [*rows, (f"amplitude, {name}", *_plain(figures.amplitude))]


def _plain(both: BothRanges[PlainFigures]) -> tuple[str, ...]:
    own, fixed = both.truth, both.fixed
    plain = (f"{own.mse:.4f}", f"{own.mae:.3f}", f"{own.psnr_db:.1f}", f"{100 * own.ssim:.1f}")
    return *plain, f"{fixed.psnr_db:.1f}", f"{100 * fixed.ssim:.1f}"


def _circular(evaluation: Evaluation, pixel_m: float) -> Table:
    judged = (("paper's stitching", evaluation.paper), ("on the circle", evaluation.circle))
    return Table(
        "Phase on the circle, one global phase removed",
        ("mosaic", "RMS, rad", "MAE, rad", "correlation", "half bit, nm", "1/7, nm"),
        [_circular_row(name, mosaic, pixel_m) for name, mosaic in judged],
        "Where the reference is well lit. Half periods of the finest detail whose Fourier ring correlation "
        "with the reference is above half a bit, and above 1/7.",
    )


def _circular_row(name: str, mosaic: JudgedMosaic, pixel_m: float) -> tuple[str, ...]:
    f = mosaic.figures
    on_circle = (f"{f.circular.rms_rad:.3f}", f"{f.circular.mae_rad:.3f}", f"{f.circular.correlation:.3f}")
    return name, *on_circle, *(f"{1e9 * pixel_m * side:.0f}" for side in (f.half_bit_px, f.one_seventh_px))


def _bands(evaluation: Evaluation) -> Table:
    rows = (
        ("reference", evaluation.circle.truth_spectrum.shares),
        ("paper's stitching", evaluation.paper.spectrum.shares),
        ("on the circle", evaluation.circle.spectrum.shares),
    )
    return Table(
        "Where the phase's energy lies",
        ("phase", "low", "mid", "high"),
        [(name, f"{100 * s.low:.2f} %", f"{100 * s.mid:.2f} %", f"{100 * s.high:.2f} %") for name, s in rows],
        "Energy shares of three bands of spatial frequency, parted at 1/6 and 1/3 cycle a pixel. A mosaic "
        "with a smaller high share than the reference is smoother than it.",
    )


def _pictures(found: ScanFindings, evaluation: Evaluation) -> list[Picture]:
    return [
        _phase_row(found),
        own_contrast(found),
        *([] if found.stitched.amplitude is None else [_amplitude_row(found)]),
        _views(found),
        *race_pictures(found.race),
        _spectra(found, evaluation),
        _ring_correlation(found),
        _error_histogram(evaluation),
        _foretold(found, evaluation),
        *([] if found.foretold is None else [calibration_picture([found.foretold])]),
        _tiles(found),
    ]


def _facing(found: ScanFindings) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return reference and mosaic in the judged box, turned so that the wrap is as far away as it can be."""
    box = box_around(found.where)
    mosaic = found.mosaic[box]
    reference = mosaic if found.field.reference is None else found.field.reference.object[box]
    turn = np.exp(-1j * np.angle(reference.sum()))
    return (reference * turn).astype(np.complex64), (mosaic * turn).astype(np.complex64)


def _phase_row(found: ScanFindings) -> Picture:
    truth, mosaic = (np.angle(image) for image in _facing(found))
    error = circular_error(mosaic, truth)
    colours, limits = plots.phase_scale(truth)
    panels = [
        Panel("reference", truth, colours, limits, "rad"),
        Panel("mosaic", mosaic, colours, limits, "rad"),
        Panel("circular error", error, "RdBu_r", plots.symmetric_spread(error), "rad"),
    ]
    caption = "One global phase removed. Reference and mosaic share one colour scale."
    return Picture("Phase", caption, plots.image_row(panels, found.field.pixel_m))


def own_contrast(found: ScanFindings) -> Picture:
    """Return the phase of reference, if there is one, and mosaic, each in grey over its own span.

    A network paints weak objects, in few counts, weaker than they are; what it found of their shape is not
    seen on the reference's scale.
    """
    truth, mosaic = (np.angle(image) for image in _facing(found))
    shown = {"mosaic": mosaic} if found.field.reference is None else {"reference": truth, "mosaic": mosaic}
    panels = [Panel(name, image, "gray", plots.spread(image), "rad") for name, image in shown.items()]
    caption = "One global phase removed. Each in its own contrast: look at shapes here, at values above."
    return Picture("Phase, by eye", caption, plots.image_row(panels, found.field.pixel_m))


def _amplitude_row(found: ScanFindings) -> Picture:
    truth, mosaic = (np.abs(image) for image in _facing(found))
    limits = plots.spread(truth)
    panels = [
        Panel("reference", truth, "gray", limits),
        Panel("mosaic", mosaic, "gray", limits),
        Panel("error", mosaic - truth, "RdBu_r", plots.symmetric_spread(mosaic - truth)),
    ]
    caption = "Reference and mosaic share one colour scale, that of the reference."
    return Picture("Amplitude", caption, plots.image_row(panels, found.field.pixel_m))


def _views(found: ScanFindings) -> Picture:
    box = box_around(found.where)
    agreement, coverage = found.stitched.agreement, found.stitched.coverage[box]
    panels = []
    if agreement is not None:
        least = float(np.percentile(agreement[found.where], 1))
        panels.append(Panel("agreement", agreement[box], "magma", (min(0.9, least), 1.0)))
    panels.append(Panel("coverage", coverage, "cividis", (0.0, float(coverage.max())), "tiles' light"))
    if found.evaluation is None:
        panels = [*_mosaic_panels(found), *panels]
    caption = "Agreement |Σ w·exp(iφ)| / Σ w: 1 where all overlapping tiles paint the same phase."
    title = "Mosaic" if found.evaluation is None else "Do the tiles agree?"
    return Picture(title, caption, plots.image_row(panels, found.field.pixel_m))


def _mosaic_panels(found: ScanFindings) -> list[Panel]:
    mosaic = _facing(found)[1]
    phase, amplitude = np.angle(mosaic), np.abs(mosaic)
    panels = [Panel("phase", phase, *plots.phase_scale(phase), "rad")]
    if found.stitched.amplitude is not None:
        panels.append(Panel("amplitude", amplitude, "gray", plots.spread(amplitude)))
    return panels


def _spectra(found: ScanFindings, evaluation: Evaluation) -> Picture:
    to_um = _MICRO / found.field.pixel_m
    truth, circle, paper = (
        evaluation.circle.truth_spectrum,
        evaluation.circle.spectrum,
        evaluation.paper.spectrum,
    )
    lines = [
        Curve("reference", to_um * truth.frequency[1:], truth.power[1:]),
        Curve("mosaic on the circle", to_um * circle.frequency[1:], circle.power[1:]),
        Curve("paper's stitching", to_um * paper.frequency[1:], paper.power[1:], dashed=True),
    ]
    edges = [to_um * f for f in (truth.frequency[1], *BAND_EDGES, truth.frequency[-1])]
    chart = Chart(
        "spatial frequency, cycles / µm",
        "mean power",
        logarithmic=True,
        bands=(edges, ("low", "mid", "high")),
    )
    return _chart("Phase spectra", "Radial mean of the phase's power spectrum.", plots.curves(lines, chart))


def _ring_correlation(found: ScanFindings) -> Picture:
    rings = found.rings
    lines = []
    if rings is not None:
        frequency = rings.frequency[1:] * _MICRO / found.field.pixel_m
        lines = [
            Curve("mosaic and reference", frequency, rings.correlation[1:]),
            Curve("half a bit", frequency, rings.half_bit[1:], dashed=True),
            Curve("1/7", frequency, np.full(len(frequency), ONE_SEVENTH), dashed=True),
        ]
    chart = Chart("spatial frequency, cycles / µm", "Fourier ring correlation", y_limits=(-0.1, 1.05))
    caption = "Detail left of the crossing is shared with the reference. Both come from the same frames."
    return _chart("Fourier ring correlation", caption, plots.curves(lines, chart))


def _error_histogram(evaluation: Evaluation) -> Picture:
    errors = evaluation.tile_rms_rad
    marks = {"median": float(np.median(errors)), "95 % are below": float(np.percentile(errors, 95))}
    caption = "Circular RMS of each tile under the probe's light, one phase removed from each."
    return _chart("Phase errors of the tiles", caption, plots.histogram(errors, Chart("rad", "tiles"), marks))


def _residual_histogram(found: ScanFindings) -> Picture:
    values = found.frame_residuals
    marks = {"median": float(np.median(values)), "95 % are below": float(np.percentile(values, 95))}
    caption = (
        "Forward residual of each frame and the tile painted for it; frames far to the right are suspect."
    )
    chart = Chart("forward residual", "frames")
    return _chart("Residuals of the frames", caption, plots.histogram(values, chart, marks))


def _foretold(found: ScanFindings, evaluation: Evaluation) -> Picture:
    residual, error = found.frame_residuals, evaluation.tile_rms_rad
    together = float(np.corrcoef(residual, error)[0, 1]) if min(np.ptp(residual), np.ptp(error)) > 0 else 0.0
    caption = (
        f"The residual needs no reference, so the service shows it live. Its correlation with the error "
        f"against the reference is {together:.2f}: {_worth(together)}."
    )
    chart = Chart("forward residual of the frame", "phase error of its tile, rad")
    return _chart(
        "Does the live residual foretell the error?", caption, plots.scatter(residual, error, chart)
    )


def _worth(correlation: float) -> str:
    if correlation >= 0.7:
        return "a tile with a high residual is a bad tile"
    return "a hint at bad tiles" if correlation >= 0.3 else "it says little of single tiles"


def _tiles(found: ScanFindings) -> Picture:
    evaluation = found.evaluation
    errors = found.frame_residuals if evaluation is None else evaluation.tile_rms_rad
    order = np.argsort(errors)
    shown = [("best", k) for k in order[:SHOWN]] + [("worst", k) for k in order[::-1][:SHOWN]]
    unit = "residual" if evaluation is None else "rad RMS"
    rows = [_tile_row(found, f"{name}: frame {k}\n{errors[k]:.3f} {unit}", int(k)) for name, k in shown]
    caption = (
        "The frame (logarithm of the counts) and the tile painted for it, each phase measured from its mean."
    )
    return Picture("Best and worst tiles", caption, plots.image_grid(rows))


def _tile_row(found: ScanFindings, title: str, k: int) -> list[Panel]:
    pattern = np.log10(np.maximum(found.field.counts[k], _FAINT))
    panels = [Panel(title, pattern, "inferno", plots.spread(pattern), "log₁₀ counts")]
    painted = _from_mean(found.painted.phase_rad[k])
    if found.evaluation is None:
        colours, limits = plots.phase_scale(painted)
        return [*panels, Panel("painted phase", painted, colours, limits, "rad")]
    truth = _from_mean(found.evaluation.true_phase_rad[k])
    colours, limits = plots.phase_scale(truth)
    error = circular_error(painted, truth)
    return [
        *panels,
        Panel("reference phase", truth, colours, limits, "rad"),
        Panel("painted phase", painted, colours, limits, "rad"),
        Panel("error", error, "RdBu_r", plots.symmetric_spread(error), "rad"),
    ]


def _from_mean(phase_rad: Image) -> Image:
    phasor = np.exp(1j * phase_rad)
    return np.asarray(np.angle(phasor * np.conj(phasor.sum())))


def _chart(title: str, caption: str, drawn: plots.Themed) -> Picture:
    return Picture(title, caption, drawn.light, drawn.dark, wide=False)
