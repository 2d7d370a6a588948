"""The page beside a candidate: why it was activated, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.registry import Lineage
from training.reporting.report import ReportContent, Section, Table, Verdict, write_report
from training.retraining.contest import TOLERANCE, Bout, Judged

REPORT = "retrain.html"
_UNKNOWN = "–"
_HEADER = ("figure", "parent", "candidate", "limit")


def figures_of(bouts: Sequence[Bout]) -> tuple[dict[str, Any], ...]:
    """Return what was found as plain values, for the lineage."""
    return tuple(
        {
            "frames": bout.name,
            "parent": None if bout.parent is None else bout.parent._asdict(),
            "candidate": bout.candidate._asdict(),
            "limit": bout.limit,
            "accepted": bout.accepted,
            "decides": bout.decides,
        }
        for bout in bouts
    )


def write_findings(folder: Path, lineage: Lineage, bouts: Sequence[Bout]) -> None:
    """Write the report into a bundle's folder.

    Raises:
        OSError: it cannot be written.
    """
    origin = Table("Where this comes from", ("what", "which"), _origin(lineage), prose=True)
    sections = [_section(bout) for bout in bouts]
    title = f"{lineage.name}: may it replace its parent?"
    content = ReportContent(title, "ptycholive retrain", lineage.date, sections, [origin])
    write_report(folder / REPORT, content)


def _section(bout: Bout) -> Section:
    no_worse = "The candidate is no worse here." if bout.accepted else "The candidate is worse here."
    weight = "This decides." if bout.decides else "This does not decide: an older scan, an older beam."
    verdict = Verdict(
        trust="good" if bout.accepted else "poor",
        headline=f"{no_worse} {weight}",
        reasons=(f"It reaches a {bout.in_words}; at most {bout.limit:.4f} is no worse.",),
    )
    return Section(bout.name, verdict, [_table(bout)])


def _table(bout: Bout) -> Table:
    def row(name: str, figure: str, limit: str) -> tuple[str, str, str, str]:
        return name, _cell(bout.parent, figure), _cell(bout.candidate, figure), limit

    return Table(
        "Both on the same frames",
        _HEADER,
        (
            row("forward residual of the mosaic", "residual", f"{bout.limit:.4f}"),
            row("forward residual of no object", "empty", _UNKNOWN),
            row("phase correlation with the reference", "correlation", _UNKNOWN),
        ),
        note="Frames are modelled with the probe of the scan's reconstruction, for both alike. The candidate "
        f"is refused where its residual is more than {TOLERANCE:.0%} above its parent's, or above that of no "
        "object.",
    )


def _cell(judged: Judged | None, figure: str) -> str:
    value = None if judged is None else getattr(judged, figure)
    return _UNKNOWN if value is None else f"{value:.4f}"


def _origin(lineage: Lineage) -> list[tuple[str, str]]:
    return [
        ("sha256 of the ONNX file", lineage.onnx_sha256),
        ("sha256 of the parent's", lineage.parent_sha256 or "none"),
        ("sha256 of the probe", lineage.probe_sha256),
        *(("scan", f"{scan.file}, sha256 {scan.sha256}") for scan in lineage.scans),
        ("made by", lineage.command or "not known"),
        ("commit", lineage.commit or "not known"),
        ("seed", str(lineage.seed)),
    ]
