"""What the benchmark tells; how fast things are is for `make bench`, not for tests."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import onnxruntime
import pytest
from click.testing import CliRunner

from service.benchmarking.curve import curve_svg
from service.benchmarking.footprint import installed_mib
from service.benchmarking.race import race
from service.benchmarking.suite import machine
from service.benchmarking.timing import Spent
from service.cli import cli
from service.errors import ConfigError


def test_the_machine_is_named_with_its_cores():
    assert "cores" in machine()
    assert "Python 3" in machine()


def test_the_installed_size_counts_what_the_service_needs_and_not_the_training():
    folder = Path(onnxruntime.__file__).parent
    engine_mib = sum(file.stat().st_size for file in folder.rglob("*.so*")) / 2**20
    assert engine_mib < installed_mib("ptycholive", "cpu") < 600
    assert installed_mib("ptycholive", "training") > installed_mib("ptycholive", "cpu") + 400


def test_rivals_take_turns_and_their_ratio_is_the_median_of_the_rounds():
    turns, seconds = [], {"ours": iter([1.0, 2.0, 4.0]), "theirs": iter([4.0, 4.0, 4.0])}

    def running(name):
        def run():
            turns.append(name)
            took_s = next(seconds[name])
            return Spent(8, took_s, 2 * took_s)

        return run

    standings = race({name: running(name) for name in seconds}, 3, ["ours"], lambda _: None)
    assert turns == ["ours", "theirs"] * 3
    assert standings["theirs"]["times_as_fast"]["ours"] == {"clock": 2.0, "processor_time": 2.0}
    assert standings["ours"]["rate_hz"] == 4.0


def test_the_curve_of_latency_against_load_is_drawn_with_its_loads_and_two_batches():
    points = [{"load": load, "p50_s": 0.02 * load, "p99_s": 0.1 * load} for load in (0.1, 0.8, 1.2)]
    drawn = ET.fromstring(curve_svg({"batch_s": 0.2, "points": points}))
    words = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"10%", "80%", "120%", "two full batches"} <= words
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


@pytest.mark.long
def test_one_command_measures_every_stage_the_whole_way_and_the_peers(tmp_path):
    file = tmp_path / "bench.json"
    done = CliRunner().invoke(cli, ["bench", "--quick", "--json", str(file)], catch_exceptions=False)
    assert done.exit_code == 0
    figures = json.loads(file.read_text())
    assert figures["stages"]["engine, batch 16"]["share_of_floor"] > 0
    rivals = {"PtychoNN, torch", "PtychoNN, onnxruntime", "the paper's network, torch"}
    ours = "siemens-star, onnxruntime"
    assert all(figures["networks"][rival]["times_as_fast"][ours]["clock"] > 0 for rival in rivals)
    assert any(name.startswith("naive script") for name in figures["end_to_end"])
    assert figures["latency"]["80%"]["p99_s"] > 0


@pytest.mark.long
def test_latency_is_measured_against_load_and_drawn(tmp_path):
    figure, file = tmp_path / "load.svg", tmp_path / "load.json"
    words = ["bench", "--quick", "--load", str(figure), "--json", str(file)]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    points = json.loads(file.read_text())["points"]
    assert [point["load"] for point in points] == sorted(point["load"] for point in points)
    assert ET.parse(figure).getroot().tag.endswith("svg")


@pytest.mark.long
def test_the_cost_of_viewers_is_told_with_its_error(tmp_path):
    file = tmp_path / "viewers.json"
    done = CliRunner().invoke(cli, ["bench", "--viewers", "2", "--rounds", "2", "--json", str(file)])
    assert done.exit_code == 0, done.output
    figures = json.loads(file.read_text())
    assert min(figures["rate_hz_alone"], figures["rate_hz_watched"]) > 0
    assert figures["cost_of_rate_error"] > 0  # no two rounds are alike
    assert figures["share_of_cores"] > 0
    assert "of the rate" in done.output


@pytest.mark.parametrize("option", ["--json", "--load"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, option):
    with pytest.raises(ConfigError, match="is its folder there"):
        CliRunner().invoke(cli, ["bench", option, str(tmp_path / "no" / "x")], catch_exceptions=False)
