"""The commands as somebody types them, each a process of its own."""

from __future__ import annotations

import json
import re

import h5py
import pytest


def test_the_demo_stitches_the_star_and_prints_ledger_and_figures(processes, tmp_path):
    demo = processes.run("demo", "--once", "--port", 0, "--out", tmp_path / "star", timeout_s=280)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "ledger: 516 of 516 frames stitched" in demo.stdout
    assert "dropped: none" in demo.stdout
    assert float(re.search(r"phase: +correlation ([\d.]+)", demo.stdout)[1]) > 0.85
    refined = re.search(r"refined: (\d+) sweeps .*phase correlation ([\d.]+)", demo.stdout)
    assert int(refined[1]) >= 1
    assert float(refined[2]) > 0.97
    residuals = re.search(
        r"forward residual: reference ([\d.]+), mosaic ([\d.]+), empty object ([\d.]+)", demo.stdout
    )
    reference, mosaic, empty = map(float, residuals.groups())
    assert reference < mosaic < empty
    speed = re.search(r"speed: +([\d.]+) frames/s, .*p50 ([\d.]+) ms, p99 ([\d.]+) ms", demo.stdout)
    rate_hz, p50_ms, p99_ms = map(float, speed.groups())
    assert rate_hz > 0
    assert 0 < p50_ms <= p99_ms
    left = {path.name for path in (tmp_path / "star").iterdir()}
    assert left == {"comparison.png", "figures.json", "latest.png", "siemens_star_aps.h5"}
    with h5py.File(tmp_path / "star/siemens_star_aps.h5") as file:
        assert file["entry/ledger/stitched"][()] == 516


def test_the_demo_of_a_part_ends_with_that_part(processes, tmp_path):
    demo = processes.run("demo", "--once", "--frames", 40, "--port", 0, "--out", tmp_path)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["report"]["ledger"]["stitched"] == 40


@pytest.fixture
def live_pieces(processes, tmp_path):
    """A detector and a position stream that send for ever, and where."""
    images, positions = processes.free_endpoint(), processes.free_endpoint()
    settings = {"format": "dectris-v2", "to": images, "positions": positions, "bind": True, "loop": True}
    detector = processes.Detector(tmp_path / "detector.log", settings)
    yield images, positions
    detector.stop()


def verdicts(check) -> dict[str, str]:
    return {line.split()[1].rstrip(":"): line.split()[0] for line in check.stdout.splitlines()}


def test_check_finds_everything_in_order(processes, live_pieces):
    images, positions = live_pieces
    check = processes.run("check", "--images", images, "--positions", positions, "--timeout", 30)
    assert verdicts(check) == dict.fromkeys(("bundle", "engine", "images", "positions"), "OK"), check.stderr
    assert check.returncode == 0


def test_check_tells_silence_from_the_wrong_language(processes, live_pieces):
    images, _ = live_pieces
    silent = "tcp://127.0.0.1:*"
    streams = ("--images", images, "--images-format", "native", "--positions", silent, "--positions-bind")
    check = processes.run("check", *streams, "--timeout", 3, "--bundle", "no-such-bundle")
    assert verdicts(check) == {"bundle": "ERROR", "images": "ERROR", "positions": "TIMEOUT"}
    assert check.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["serve", "--images", "nonsense"], "tcp://host:port"),
        (["serve", "--bundle", "no-such-bundle"], "no-such-bundle"),
        (["serve", "--host", "0.0.0.0", "--port", 0], "token"),
        (["replay", "no-such-file.cxi", "--to", "tcp://127.0.0.1:9"], "no-such-file.cxi"),
        (["model", "activate", "siemens-star", "--url", "http://127.0.0.1:9"], "127.0.0.1:9"),
    ],
    ids=["endpoint", "bundle", "open to the world", "no file", "no service"],
)
def test_a_mistake_is_one_line_and_status_2(processes, tmp_path, arguments, hint):
    results = ["--results", tmp_path] if arguments[0] == "serve" else []
    mistaken = processes.run(*arguments, *results)
    assert mistaken.returncode == 2
    assert len(mistaken.stderr.splitlines()) == 1
    assert hint in mistaken.stderr
