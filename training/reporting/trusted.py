"""What says where a model is wrong, and what stitching is worth, as tables, pictures and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.judging.foretelling import (
    BLOCK_PX,
    CANDIDATES,
    SHOWN,
    Foretold,
    Ranking,
    calibration_curve,
    rank,
)
from training.judging.held_out_trust import SERIES, HeldOutScan
from training.judging.metrics import as_json
from training.judging.stitching_gains import SWEEPS, StitchingWay, mean_ways
from training.reporting import plots
from training.reporting.plots import Chart, Curve
from training.reporting.report import Picture, Section, Table, Trust, Verdict

SAYS, HINTS = 0.6, 0.3  # rank correlations from which a candidate says, and hints, where the error lies
_UNKNOWN = "not known"
_HEADLINES: dict[Trust, str] = {
    "good": "On objects that it has not seen, the confidence map tells where it is wrong.",
    "fair": "On objects that it has not seen, the confidence map only hints at where it is wrong.",
    "poor": "On objects that it has not seen, the confidence map does not tell where it is wrong.",
}


def foretelling_table(scans: Sequence[Foretold], of: str = "") -> Table:
    """Return how well each candidate ranks the errors of scans.

    Args:
        scans: at least one.
        of: what the scans are, for the title.
    """
    rankings = rank(scans)
    best = best_ranking(rankings)
    says = "" if best is None else f" Best of the mosaic here: {best.candidate}."
    return Table(
        f"What says where it is wrong{of}",
        ("what is said", "frames", "mosaic", "in one"),
        [(r.candidate, _rho(r.frames), _rho(r.blocks), _rho(r.blocks_within)) for r in rankings],
        "Spearman's rank correlation of the doubt (one minus it, where more of it is better) with the true "
        "phase error; 1: what is said to be worse is always worse. "
        "Frames: RMS of the tile under the light, one phase removed. Mosaic: RMS of squares of "
        f"{BLOCK_PX} × {BLOCK_PX} pixels, one phase removed from the whole. In one: the median of the "
        f"same within each mosaic.{says}",
    )


def ways_table(scans: Sequence[tuple[StitchingWay, ...]], of: str = "") -> Table:
    """Return what each part of stitching is worth, on average over scans; arguments as above."""
    return Table(
        f"What stitching is worth{of}",
        ("tiles put together by", "phase", "corr.", "amplitude", "phase, refined"),
        [_way(way) for way in mean_ways(scans)],
        "The same tiles, phasors averaged; each + adds one part, the last turns each onto those before it. "
        "Phase: RMS error in rad, one global phase removed; corr.: of the phase; amplitude: RMS error; "
        f"phase, refined: after {SWEEPS} sweeps of the service's refinement; all where the light is good.",
    )


def calibration_picture(scans: Sequence[Foretold], of: str = "") -> Picture:
    """Return the error that is found against the one that was expected, in bins; arguments as above."""
    curves = calibrations(scans)
    end = float(max(curve.max() for curve in curves.values()))
    lines = [Curve(name, *curve.T) for name, curve in curves.items()]
    ideal = Curve("as expected", np.array([0.0, end]), np.array([0.0, end]), dashed=True)
    chart = Chart("phase error to expect, rad RMS", "phase error found, rad RMS")
    caption = f"Ten bins of equally many, by the {SHOWN}. Below the line the model is better than it says."
    drawn = plots.curves([*lines, ideal], chart)
    return Picture(f"Is the expected error the true one?{of}", caption, drawn.light, drawn.dark, wide=False)


def calibrations(scans: Sequence[Foretold]) -> dict[str, NDArray[np.float64]]:
    """Return the curves (bins, 2) expected, found of frames and of the mosaics' squares, radians."""
    return {
        "frames": calibration_curve(
            np.concatenate([scan.expected_rad.frames for scan in scans]),
            np.concatenate([scan.error_rad.frames for scan in scans]),
        ),
        "mosaic": calibration_curve(
            np.concatenate([scan.expected_rad.blocks for scan in scans]),
            np.concatenate([scan.error_rad.blocks for scan in scans]),
        ),
    }


def best_ranking(rankings: Sequence[Ranking]) -> Ranking | None:
    """Return the candidate that ranks the errors of mosaics best, None where none ranks them."""
    ranked = [(r.blocks, CANDIDATES.index(r.candidate), r) for r in rankings if r.blocks is not None]
    return max(ranked)[2] if ranked else None


def held_out_section(found: Sequence[HeldOutScan]) -> Section:
    """Return a report's section on simulated scans of unseen objects."""
    groups = _groups(found)
    scans = [scan.foretold for scan in found]
    strengths = ", ".join(f"{exposure:g}" for exposure in sorted(SERIES.exposures))
    title = f"{len(found)} simulated scans of {SERIES.frames} frames, exposures {strengths}"
    tables = [foretelling_table([s.foretold for s in some], f": {name}") for name, some in groups.items()]
    tables += [ways_table([s.ways for s in some], f": {name}") for name, some in groups.items()]
    return Section(title, held_out_verdict(scans), tables, [calibration_picture(scans)])


def held_out_verdict(scans: Sequence[Foretold]) -> Verdict:
    """Return whether a model's confidence map can be believed, and what ranks its errors best."""
    rankings = rank(scans)
    shown, best = rankings[CANDIDATES.index(SHOWN)], best_ranking(rankings)
    rho = shown.blocks or 0.0
    trust: Trust = "good" if rho >= SAYS else "fair" if rho >= HINTS else "poor"
    told = "Nothing that is said ranks the errors." if best is None else _in_words(shown, best)
    expected, true = (
        float(np.sqrt(np.mean(np.concatenate([np.square(values.blocks) for values in some]))))
        for some in ([s.expected_rad for s in scans], [s.error_rad for s in scans])
    )
    sizes = f"By the {SHOWN} {expected:.3f} rad RMS are to be expected of the mosaics, {true:.3f} are found."
    return Verdict(trust, _HEADLINES[trust], (told, sizes))


def foretelling_figures(scans: Sequence[Foretold]) -> dict[str, Any]:
    """Return what says where it is wrong as plain values."""
    return {
        "rankings": [as_json(ranking) for ranking in rank(scans)],
        "calibration": {name: curve.tolist() for name, curve in calibrations(scans).items()},
    }


def ways_figures(ways: Sequence[StitchingWay]) -> list[dict[str, Any]]:
    """Return what stitching is worth as plain values."""
    return [as_json(way) for way in ways]


def held_out_figures(found: Sequence[HeldOutScan]) -> dict[str, Any]:
    """Return what was found on simulated scans as plain values."""
    return {
        "frames": SERIES.frames,
        "groups": {
            name: {
                "scans": len(some),
                **foretelling_figures([scan.foretold for scan in some]),
                "stitching": ways_figures(mean_ways([scan.ways for scan in some])),
            }
            for name, some in _groups(found).items()
        },
        "scans": [
            {
                "family": scan.family,
                "shown_in_training": scan.shown,
                "exposure": scan.exposure,
                "stitching": ways_figures(scan.ways),
            }
            for scan in found
        ],
    }


def _groups(found: Sequence[HeldOutScan]) -> dict[str, list[HeldOutScan]]:
    """Return scans by what the model learned from, those groups that have any, and all of them."""
    groups = {
        "kinds of objects not shown in training": [scan for scan in found if not scan.shown],
        "other objects of the kinds shown": [scan for scan in found if scan.shown],
    }
    parts = {name: some for name, some in groups.items() if some}
    return parts if len(parts) == 1 else {**parts, "all": list(found)}


def _in_words(shown: Ranking, best: Ranking) -> str:
    told = (
        f"The {shown.candidate} ranks the errors of the mosaics by Spearman {_rho(shown.blocks)}, those of "
        f"the frames by {_rho(shown.frames)}."
    )
    if best is shown:
        return f"{told} Nothing else ranks them better."
    return f"{told} Best is the {best.candidate}: {_rho(best.blocks)}, frames {_rho(best.frames)}."


def _way(way: StitchingWay) -> tuple[str, ...]:
    amplitude = "–" if way.amplitude_rms is None else f"{way.amplitude_rms:.4f}"
    refined = "–" if way.refined_phase_rms_rad is None else f"{way.refined_phase_rms_rad:.4f}"
    return way.name, f"{way.phase_rms_rad:.4f}", f"{way.phase_correlation:.4f}", amplitude, refined


def _rho(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"
