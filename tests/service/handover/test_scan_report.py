"""A scan's report: one file that says what was stitched and what was lost, and needs nothing else."""

from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from service.cli import cli
from service.errors import ConfigError
from service.handover.result import read_result
from service.handover.scan_report import scan_report
from service.messages import ScanStart
from service.mosaic import Mosaic
from service.store import add_refined, write_result


class Page(HTMLParser):
    """What a page shows, and what it would ask for."""

    def __init__(self, text):
        super().__init__()
        self.images, self.asked_for, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.asked_for += [told[key] for key in ("src", "href", "srcset", "data") if key in told]
        if tag == "img":
            self.images.append(told["alt"])

    def handle_data(self, data):
        self.words += f" {data.strip()}"


@pytest.fixture
def run(journey, stream):
    """A finished scan with losses."""
    start, *frames, end = stream()
    return journey().take([start, *frames[:50], end]).wait(2.1).result()


@pytest.fixture
def written(run, loaded_bundle, tmp_path):
    path = tmp_path / "tiny.h5"
    write_result(path, run, loaded_bundle)
    return path


def test_a_result_is_read_back_as_it_was_written(run, loaded_bundle, written):
    result = read_result(written)
    assert result.title == "tiny"
    np.testing.assert_array_equal(result.planes["phase"].values, run.mosaic.image("phase"))
    np.testing.assert_array_equal(result.frames, run.placed()[0])
    assert result.report == run.report(run.finished_ns)
    assert result.model["onnx_sha256"] == loaded_bundle.description.onnx_sha256
    assert result.refinement is None


def test_the_report_shows_every_map_and_asks_for_nothing_outside_itself(written):
    page = Page(scan_report(read_result(written)))
    titles = [image.partition(" of the mosaic")[0] for image in page.images]
    assert titles == ["Phase", "Amplitude", "Confidence", "Agreement of overlapping tiles", "Coverage"]
    assert all(asked.startswith("data:image/png;base64,") for asked in page.asked_for)
    assert "http" not in page.words


def test_the_report_says_what_was_lost_and_how_the_scan_was_taken(written):
    words = Page(scan_report(read_result(written))).words
    assert "50 of 64 frames stitched" in words
    assert "dropped: never arrived 14" in words.replace("  ", " ")
    assert "object pixel, m 1e-08" in words
    assert "tiny" in words


def test_a_refined_mosaic_is_shown_before_what_the_network_made(run, written):
    refined = Mosaic(run.object_pixel_m, np.ones((8, 8), np.float32))
    refined.restore(run.mosaic.state())
    add_refined(written, refined, {"sweeps": 7})
    page = Page(scan_report(read_result(written)))
    assert page.images[0].startswith("Phase, refined")
    assert "sweeps 7" in page.words


def test_a_scan_without_a_single_frame_has_a_report_without_pictures(journey, loaded_bundle, tmp_path):
    told = journey().take([ScanStart("empty", (32, 32), np.dtype("<u2"), frames=3)])
    told.close()
    write_result(tmp_path / "empty.h5", told.result(), loaded_bundle)
    page = Page(scan_report(read_result(tmp_path / "empty.h5")))
    assert page.images == []
    assert "No frame was stitched" in page.words


def test_the_command_writes_the_page_beside_the_result(written):
    done = CliRunner().invoke(cli, ["report", str(written)])
    assert done.exit_code == 0
    assert written.with_suffix(".html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("content", "line"), [(None, "there is no file"), (b"not HDF5", "is it an HDF5 file")]
)
def test_what_is_no_result_is_refused_in_one_line(tmp_path, content, line):
    path = tmp_path / "r.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=line):
        read_result(path)


def test_a_scan_file_is_told_from_a_result(tiny_scan):
    with pytest.raises(ConfigError, match="no result of ptycholive"):
        read_result(tiny_scan)
