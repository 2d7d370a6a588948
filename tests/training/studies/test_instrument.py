import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.geometry import overlap
from training.ablate import command
from training.judging.held_out_scans import StitchedFigures
from training.plan import TrainingPlan
from training.simulation.probes import diameter_px, read_probe
from training.studies.cells import read_cell
from training.studies.instrument import STAR, InstrumentStudy, variants
from training.studies.instrument_table import CLAIM, held_out_rad, instrument_table, standing

EXPOSURES = (1.0, 0.5, 2.0)
FULL = TrainingPlan(Path("probe.npy"), tile_px=40, steps=3)


def test_each_part_that_is_studied_is_one_change_from_the_full_network():
    grid = variants(FULL, 64)
    parts = [name for name in grid if not name.startswith(("paper", "ptychonn", "full"))]
    assert len(parts) == 11
    for name in parts:
        told = grid[name].as_record()
        assert len([key for key, value in FULL.as_record().items() if told[key] != value]) == 1, name


def test_all_networks_learn_from_as_many_frames_in_as_many_steps():
    assert (
        len({(plan.samples, plan.total_steps, plan.learning_rate) for plan in variants(FULL, 64).values()})
        == 1
    )


def test_all_but_the_network_for_one_exposure_see_the_same_frames():
    others = [name for name, plan in variants(FULL, 64).items() if plan.recipe != FULL.recipe]
    assert others == ["paper-one-exposure"]


def test_the_instrument_is_the_stars_at_half_its_detector(tmp_path):
    study = InstrumentStudy()
    study.prepare(tmp_path)
    whole, half = read_probe(STAR), read_probe(tmp_path / "probe-64.npy")
    assert half.shape == (len(whole), 64, 64)
    assert diameter_px(half) == pytest.approx(diameter_px(whole) / 2, rel=0.1)
    assert overlap((1 - study.series.overlap) * diameter_px(half), diameter_px(half)) == 0.75
    assert all(cell.plan.recipe.object_size == 160 for cell in study.cells(tmp_path, 1, "32-true"))


def test_variants_can_be_trained_alone_and_one_that_is_not_there_is_told_with_those_that_are(tmp_path):
    alone = InstrumentStudy(names=("whole-frame", "paper"))
    assert [cell.variant for cell in alone.cells(tmp_path, 1, "32-true")] == ["whole-frame", "paper"]
    assert [cell.variant for cell in alone.quick().cells(tmp_path, 1, "32-true")] == ["whole-frame", "paper"]
    told = CliRunner().invoke(
        command, ["--study", "instrument", "--only", "moon", "--table-only", "--out", str(tmp_path)]
    )
    assert told.exit_code == 2
    assert "no variant moon: full, four-meetings" in told.output


def test_a_folder_holds_the_study_of_one_probe(tmp_path):
    study = InstrumentStudy()
    study.prepare(tmp_path)
    study.prepare(tmp_path)
    np.save(tmp_path / "other.npy", np.conj(read_probe(STAR)))
    with pytest.raises(ValueError, match="another probe"):
        dataclasses.replace(study, probe=tmp_path / "other.npy").prepare(tmp_path)


FIGURES = [field.name for field in dataclasses.fields(StitchedFigures) if field.name.endswith("rms_rad")]


def cell(variant, seed, error_rad, macs=10, refined=0.5):
    def scans(family, exposure):
        errors = dict.fromkeys([*FIGURES, "amplitude_rms"], [error_rad * exposure] * 2)
        after = {"refined_phase_rms_rad": [refined * error_rad * exposure] * 2, "sweep_ms": 0.1}
        return {"family": family, "exposure": exposure} | errors | after

    families = ("spokes", "zones", "polygons")
    return {
        "variant": variant,
        "plan": {"seed": seed},
        "tiles": [{"family": family, "phase_rms_rad": {"mean": error_rad}} for family in families],
        "stitched": [scans(family, exposure) for family in families for exposure in EXPOSURES],
        "cost": {"parameters": 1000, "macs": macs, "frame_ms": 2.0, "training_frames_per_s": 9.0},
    }


def seeds(variant, *errors_rad, **cost):
    return [cell(variant, seed, error, **cost) for seed, error in enumerate(errors_rad, 1)]


def test_the_error_on_held_out_objects_leaves_the_shown_family_out():
    record = cell("full", 1, 0.2)
    record["stitched"][-3]["phase_rms_rad"] = [9.0]  # polygons, at the probe's exposure
    assert held_out_rad(record) == pytest.approx(0.2)
    assert held_out_rad(record, 0.5) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        ((0.09, 0.1), (0.31, 0.4), "confirmed"),
        ((0.2, 0.25), (0.31, 0.4), "not confirmed"),
        ((0.09, 0.2), (0.31, 0.4), "within the spread"),
        ((0.09,), (0.9,), "one seed"),
    ],
)
def test_at_most_a_third_must_hold_for_any_two_seeds(ours, theirs, word):
    found = standing(seeds("full", *ours), seeds("paper", *theirs, macs=40))
    assert found.word == word
    assert found.macs == 0.25
    assert found.low <= found.ratio <= found.high
    assert (found.ratio <= CLAIM) == (sum(ours) / len(ours) <= sum(theirs) / len(theirs) / 3)


def test_the_table_gives_a_row_a_variant_with_its_ratio_to_the_papers_and_the_standing():
    table = instrument_table([*seeds("full", 0.1, 0.12), *seeds("paper", 0.4, 0.44)])
    full, paper = table.splitlines()[2:4]
    assert full.startswith("| full | 2 | 0.110 ± 0.014 |")
    assert full.endswith("| 0.26 |")
    assert paper.endswith("| 1.00 |")
    assert "| full / paper | 0.26 | 0.23…0.30 | 1.00 | 1.00 | confirmed | 0.13 | 1.25 | 0.26 |" in table


def test_a_refined_mosaic_stands_beside_what_the_rival_painted_and_what_it_becomes():
    found = standing(seeds("full", 0.2, refined=0.25), seeds("paper", 0.4, refined=0.5))
    assert found.refined == pytest.approx(0.05 / 0.4)
    assert found.both_refined == pytest.approx(0.05 / 0.2)
    assert found.refined_ms == pytest.approx((2.0 + 5 * 0.1) / 2.0)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    words = ["--study", "instrument", "--quick", "--seeds", "1", "--devices", "1", "--out", str(out)]
    return out, words, CliRunner().invoke(command, words)


def test_a_quick_study_trains_judges_and_writes_table_and_plots(quick):
    out, _, done = quick
    assert done.exit_code == 0, done.output
    assert "[3/3] ptychonn, 64 frames of 16 pixels, seed 1" in done.output
    assert (out / "instrument.md").read_text() in done.output
    for plot in ("instrument-convergence.svg", "instrument-cost.svg"):
        assert (out / plot).read_text().startswith("<?xml")


def test_a_cells_record_tells_tiles_mosaics_and_cost(quick):
    out = quick[0]
    cells = InstrumentStudy().quick().cells(out, 1, "32-true")
    full, paper = (read_cell(cell, out) for cell in cells[:2])
    assert [row["family"] for row in full["tiles"]] == ["spokes", "zones", "polygons"]
    assert [row["shown_in_training"] for row in full["tiles"]] == [False, False, True]
    assert sorted({row["exposure"] for row in full["stitched"]}) == sorted(EXPOSURES)
    for same in ("flat_phase_rms_rad", "refined_flat_phase_rms_rad"):
        assert full["stitched"][0][same] == paper["stitched"][0][same]
    assert full["tilts_matched"]  # as `export` does
    assert not paper["tilts_matched"]
    assert paper["cost"]["parameters"] == 2_117_187
    assert full["cost"]["macs"] < paper["cost"]["macs"]
    assert json.loads((out / "instrument.json").read_text())[0] == full


def test_what_is_done_is_not_done_again(quick):
    _, words, _ = quick
    again = CliRunner().invoke(command, words)
    assert again.exit_code == 0
    assert "[" not in again.output.partition("###")[0]


def test_networks_that_saw_more_frames_are_cells_of_their_own(tmp_path):
    folders = [
        {cell.folder for cell in InstrumentStudy(samples=samples).cells(tmp_path, 2, "32-true")}
        for samples in (16_000, 64_000)
    ]
    assert len(folders[0]) == len(folders[1]) == 2 * len(variants(FULL, 64))
    assert not folders[0] & folders[1]


def test_a_probe_that_is_not_there_is_told_in_one_line(tmp_path):
    words = [
        "--study",
        "instrument",
        "--probe",
        str(tmp_path / "nowhere.cxi"),
        "--out",
        str(tmp_path / "out"),
    ]
    told = CliRunner().invoke(command, words)
    assert told.exit_code == 2
    assert "nowhere.cxi" in told.output
