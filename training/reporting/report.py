"""One HTML file that says what a model is worth: no other file, no request, light and dark."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal

import jinja2

from model.whole_files import written_whole

Trust = Literal["good", "fair", "poor"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header.

    Attributes:
        title: above it.
        header: a word a column; the first names the rows.
        rows: as wide as the header.
        note: below it, what the numbers mean.
        prose: the cells are words, not numbers.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    prose: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError where a row is not as wide as the header."""
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{self.title}: {len(row)} cells under {len(self.header)} headings: {row}")


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that travels inside the page.

    Attributes:
        title: above it, and what a screen reader says.
        caption: below it, how to read it.
        light: data URI.
        dark: data URI for a dark page; None: the same.
        wide: over the page's whole width.
    """

    title: str
    caption: str
    light: str
    dark: str | None = None
    wide: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError where an image would be fetched from elsewhere."""
        for uri in (self.light, self.dark):
            if uri is not None and not uri.startswith("data:image/"):
                raise ValueError(f"{self.title}: a report holds its images, it does not link to {uri!r}")

    def content(self) -> bytes:
        """Return the image as the file that it would be."""
        return b64decode(self.light.partition(",")[2])


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to believe it, in plain words.

    Attributes:
        trust: decides the colour.
        headline: one sentence.
        reasons: sentences that the headline rests on.
    """

    trust: Trust
    headline: str
    reasons: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """What was found on one data set."""

    title: str
    verdict: Verdict
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True, slots=True)
class ReportContent:
    """All that a report says.

    Attributes:
        title: of the page.
        subtitle: below it.
        date: of the evaluation, as it shall be read.
        sections: one a data set.
        tables: of the model itself: cost, where it comes from.
    """

    title: str
    subtitle: str
    date: str
    sections: Sequence[Section]
    tables: Sequence[Table] = field(default_factory=tuple)


def render_report(content: ReportContent) -> str:
    """Return the page; whatever the content holds is shown as text, never run."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = files("training.reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(report=content)


def write_report(path: Path, content: ReportContent) -> None:
    """Write the page, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    with written_whole(path) as half:
        half.write_text(render_report(content), encoding="utf-8")
