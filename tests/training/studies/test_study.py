import json

import pytest
from click.testing import CliRunner

from training.ablate import command
from training.labelled_plan import LabelledPlan
from training.studies.cells import CellBusyError, alone_in, read_cell
from training.studies.study import STUDIES
from training.studies.tables import PUBLISHED_ABLATIONS, by_cell, study_table, verdict, verdicts


def figures(mean):
    ranges = {name: {"mean": mean, "std": 0.1, "count": 4} for name in ("mse", "mae", "psnr_db", "ssim")}
    return {"truth": ranges, "fixed": ranges}


def record(method, seed, ssim, phase_only=False):
    plain = {"truth": dict.fromkeys(("mse", "mae", "psnr_db", "ssim"), ssim)}
    mosaic = {"amplitude": None if phase_only else plain, "phase": plain, "circular": {"rms_rad": 0.2}}
    return {
        "plan": LabelledPlan("usaf", method, seed=seed).as_record(),
        "epochs": 10,
        "tiles": {
            "amplitude": None if phase_only else figures(ssim),
            "phase": figures(ssim),
            "circular_rms_rad": {"mean": 0.1},
        },
        "stitched": {"paper": mosaic, "circle": mosaic},
        "cost": {"frame_ms": 2.0},
    }


def test_a_claim_is_confirmed_when_the_seeds_leave_no_doubt():
    assert verdict([85.0, 85.2, 84.9], [76.1, 76.3, 76.0]).word == "confirmed"
    assert verdict([76.1, 76.3, 76.0], [85.0, 85.2, 84.9]).word == "not confirmed"


def test_a_claim_within_the_spread_of_the_seeds_is_neither():
    found = verdict([85.0, 80.0, 82.0], [81.0, 84.0, 79.0])
    assert found.word == "within the spread"
    assert found.low < found.difference < found.high


def test_one_seed_gives_no_verdict():
    assert verdict([85.0], [76.0]).word == "one seed"


def test_every_ablation_has_its_published_figures():
    assert set(PUBLISHED_ABLATIONS) == set(STUDIES["ablations"].methods)


def test_the_table_gives_mean_and_spread_of_the_seeds():
    table = study_table([record("paper", 1, 0.8), record("paper", 2, 0.9)], {})
    assert "| usaf | rows | paper | 2 | 10 |" in table
    assert "85.00 ± 7.07" in table


def test_a_method_without_an_amplitude_has_dashes_for_it():
    row = study_table([record("dpi", 1, 0.8, phase_only=True)], {}).splitlines()[2]
    assert row.count("–") == 5


def test_seeds_of_a_cell_stand_together_in_whatever_order_they_come():
    mixed = [record("paper", 1, 0.8), record("no-skip", 1, 0.7), record("paper", 2, 0.9)]
    assert [len(group) for group in by_cell(mixed).values()] == [2, 1]


def test_verdicts_compare_with_the_full_method():
    records = [record(m, s, v + s / 1000) for m, v in (("paper", 0.8), ("no-skip", 0.7)) for s in (1, 2, 3)]
    amplitude, phase = verdicts(records)["no-skip"]
    assert amplitude.difference == pytest.approx(10)
    assert phase.word == "confirmed"
    assert "| no-skip | +10.00" in study_table(records, verdicts(records))


@pytest.mark.parametrize("name", STUDIES)
def test_a_quick_study_has_the_same_grid_on_a_corner_of_the_chart(name):
    study = STUDIES[name]
    quick = study.quick()
    assert len(quick.plans(2, "32-true")) == len(study.plans(2, "32-true"))
    assert all(
        plan.data.startswith("usaf-tiny") and plan.total_epochs == 1 for plan in quick.plans(1, "32-true")
    )


def test_two_processes_do_not_train_one_cell(tmp_path):
    with alone_in(tmp_path), pytest.raises(CellBusyError, match="another process"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):  # and the next one may
        pass


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    words = ["--study", "wrapping", "--quick", "--seeds", "1", "--devices", "1", "--out", str(out)]
    return out, words, CliRunner().invoke(command, words)


def test_a_quick_study_trains_and_writes_table_and_plots(quick):
    out, _, done = quick
    assert done.exit_code == 0, done.output
    assert "[4/4] no-circular-representation on usaf-tiny-wrapping-gauge, rows, seed 1" in done.output
    assert (out / "wrapping.md").read_text() in done.output
    for plot in ("wrapping-convergence.svg", "wrapping-cost.svg"):
        assert (out / plot).read_text().startswith("<?xml")


def test_a_cells_record_says_what_it_cost_and_how_it_converged(quick):
    out = quick[0]
    found = read_cell(STUDIES["wrapping"].quick().cells(out, 1, "32-true")[0], out)
    assert found["cost"]["parameters"] == 2_117_187
    assert found["cost"]["macs"] == pytest.approx(116e6, rel=0.01)
    assert len(found["history"]["loss"]) == 1
    assert found["frames"] == {"train": 187, "validation": 21, "test": 48}
    assert sum(found["stitched"]["paper"]["bands"].values()) == pytest.approx(1)
    assert json.loads((out / "wrapping.json").read_text())[0] == found


def test_what_is_done_is_not_done_again(quick):
    out, words, _ = quick
    before = {file: file.stat().st_mtime_ns for file in out.rglob("best.ckpt")}
    again = CliRunner().invoke(command, words)
    assert len(before) == 4
    assert "[" not in again.output.partition("###")[0]
    assert {file: file.stat().st_mtime_ns for file in out.rglob("best.ckpt")} == before


def test_a_study_that_was_stopped_goes_on_with_the_cells_that_lack(quick):
    out, words, _ = quick
    cell = STUDIES["wrapping"].quick().cells(out, 1, "32-true")[3]
    (out / cell.folder / "figures.json").unlink()
    again = CliRunner().invoke(command, words)
    assert again.output.count(", seed 1") == 1
    assert read_cell(cell, out) is not None


def test_a_table_can_be_written_of_what_is_done_so_far(quick, tmp_path):
    told = CliRunner().invoke(command, ["--study", "wrapping", "--table-only", "--out", str(tmp_path)])
    assert told.exit_code == 0
    assert told.output == ""  # no cell is done there


def test_devices_that_are_none_are_told_in_one_line(tmp_path):
    told = CliRunner().invoke(command, ["--quick", "--devices", "banana", "--out", str(tmp_path)])
    assert told.exit_code == 2
    assert "how many, or their numbers" in told.output
