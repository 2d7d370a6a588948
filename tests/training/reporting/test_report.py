import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from training.reporting.plots import (
    Chart,
    Curve,
    Panel,
    curves,
    histogram,
    image_row,
    length_in_words,
    phase_scale,
    scale_bar_m,
    spread,
    symmetric_spread,
)
from training.reporting.report import (
    Picture,
    ReportContent,
    Section,
    Table,
    Verdict,
    render_report,
    write_report,
)

PNG = "data:image/png;base64,iVBORw0KGgo="


class Links(HTMLParser):
    """Collects what a page would fetch, and what it would run."""

    def __init__(self):
        super().__init__()
        self.fetched, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset")]


def content(**changes):
    section = Section(
        "scan.cxi",
        Verdict("good", "The phase can be trusted.", ("It explains the frames.",)),
        [Table("Residuals", ("object", "residual"), [("mosaic", "0.109")])],
        [Picture("Phase", "In radians.", PNG), Picture("Spectrum", "Radial.", PNG, PNG + "A", wide=False)],
    )
    told = {"title": "star", "subtitle": "evaluate", "date": "2026-11-22", "sections": [section], **changes}
    return ReportContent(**told)


def test_a_report_says_verdict_figures_and_date():
    page = render_report(content())
    for words in (
        "The phase can be trusted.",
        "It explains the frames.",
        "0.109",
        "2026-11-22",
        "In radians.",
    ):
        assert words in page
    assert 'class="card verdict good"' in page


def test_a_report_fetches_nothing_and_runs_nothing():
    links = Links()
    links.feed(render_report(content()))
    assert len(links.fetched) == 3
    assert all(link.startswith("data:image/") for link in links.fetched)
    assert "script" not in links.tags
    assert "link" not in links.tags


def test_a_chart_has_a_version_for_a_dark_page():
    page = render_report(content())
    assert f'media="(prefers-color-scheme: dark)" srcset="{PNG}A"' in page
    assert page.count("<source") == 1


def test_names_from_files_are_shown_and_not_run():
    page = render_report(content(title="<script>alert(1)</script>"))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_table_of_ragged_rows_is_refused():
    with pytest.raises(ValueError, match="3 cells under 2 headings"):
        Table("t", ("a", "b"), [("1", "2", "3")])


@pytest.mark.parametrize("address", ["https://example.org/a.png", "phase.png"])
def test_a_picture_that_lies_elsewhere_is_refused(address):
    with pytest.raises(ValueError, match="a report holds its images"):
        Picture("p", "c", address)


def test_a_report_replaces_the_one_before_it_whole(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, content(title="first"))
    write_report(path, content(title="second"))
    assert "second" in path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("width_m", "bar_m", "words"),
    [(14e-6, 2e-6, "2 µm"), (3.1e-6, 1e-6, "1 µm"), (1.6e-6, 5e-7, "500 nm"), (1e-4, 2e-5, "20 µm")],
)
def test_a_scale_bar_is_a_round_length_of_at_most_a_third(width_m, bar_m, words):
    assert scale_bar_m(width_m) == pytest.approx(bar_m)
    assert length_in_words(scale_bar_m(width_m)) == words


def test_a_phase_that_fills_the_circle_gets_a_cyclic_map_and_a_small_one_its_own_span():
    assert phase_scale(np.linspace(-3.1, 3.1, 1000)) == ("twilight", (-np.pi, np.pi))
    colours, (low, high) = phase_scale(np.linspace(0.0, 1.0, 1000))
    assert colours == "viridis"
    assert (low, high) == pytest.approx((0.01, 0.99))


def test_a_flat_image_still_has_a_colour_scale():
    assert spread(np.ones((4, 4))) == (0.5, 1.5)
    assert symmetric_spread(np.zeros((4, 4))) == (-0.5, 0.5)


def decoded(uri):
    head, _, data = uri.partition(",")
    return head, base64.b64decode(data)


def test_images_travel_as_png_and_the_same_image_gives_the_same_bytes():
    panel = Panel("phase", np.linspace(-1, 1, 300).reshape(15, 20), "viridis", (-1, 1), "rad")
    head, data = decoded(image_row([panel, panel], 3e-8))
    assert head == "data:image/png;base64"
    assert data.startswith(b"\x89PNG")
    assert image_row([panel, panel], 3e-8) == image_row([panel, panel], 3e-8)
    assert image_row([panel], 3e-8) != image_row([panel], None)  # no scale bar without a pixel


def test_charts_are_drawn_once_for_a_light_page_and_once_for_a_dark():
    x = np.linspace(1, 10, 50)
    chart = Chart("cycles / µm", "power", logarithmic=True, bands=((1, 3, 6, 10), ("low", "mid", "high")))
    drawn = curves([Curve("reference", x, 1 / x), Curve("mosaic", x, 1 / x**2, dashed=True)], chart)
    (head, light), (_, dark) = decoded(drawn.light), decoded(drawn.dark)
    assert head == "data:image/svg+xml;base64"
    assert b"<!-- mosaic -->" in light
    assert b"<!-- mid -->" in light
    assert light != dark
    assert not re.search(rb"<(script|image)", light)


def test_a_histogram_marks_what_it_is_told_to():
    _, svg = decoded(histogram(np.linspace(0, 1, 99), Chart("rad", "tiles"), {"median": 0.5}).light)
    assert b"<!-- median 0.5 -->" in svg
