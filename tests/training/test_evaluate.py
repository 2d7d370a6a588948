import json
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from model.judge import Likeness
from model.scans import open_scan, write_scan
from training.datasets.loaders import labelled_from_scan
from training.evaluate import FIGURES, REPORT, cautions, command
from training.judging.evaluation import evaluate_set, paint
from training.judging.foretelling import CANDIDATES, SHOWN
from training.judging.iterative import IterativeSettings
from training.judging.predictor import Predictor, count_macs, open_model
from training.plan import TrainingPlan, configure
from training.provenance import environment
from training.reporting.findings import judge_scan
from training.reporting.verdict import Residuals, counting_noise, verdict
from training.simulated_scan import write_simulated_scan
from training.simulation.factory import CameraRecipe, SimulationRecipe
from training.simulation.objects import EVERY_FAMILY
from training.simulation.raster import ScanRecipe
from training.task import ReconstructionTask

EDGE = 16
STEADY = CameraRecipe(flux_jitter=0, mode_jitter=0, background_counts=0)
STAR = "service/data/siemens_star_aps.cxi"


@pytest.fixture(scope="module")
def cells(scan, tmp_path_factory):
    """Forty-nine simulated frames of an object, the true object beside them."""
    path = tmp_path_factory.mktemp("cells") / "cells.cxi"
    write_simulated_scan(path, scan, ScanRecipe(families=("cells",), frames=49, step_px=4.0, camera=STEADY))
    return path


@pytest.fixture(scope="module")
def unlabelled(cells):
    """The same frames without a reference."""
    path = cells.with_name("unlabelled.cxi")
    with open_scan(cells) as file:
        pixel_m = file.reference().object_pixel_m
        geometry = {"wavelength_m": 1e-10, "distance_m": 2.0, "detector_pixel_m": 2e-10 / (32 * pixel_m)}
        write_scan(path, file.frames(), file.positions_m, **geometry)
    return path


@pytest.fixture(scope="module")
def checkpoint(scan, probe, tmp_path_factory):
    """A network that has learned nothing yet, as `train` keeps it."""
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    recipe = replace(SimulationRecipe(), object_size=64)
    plan = TrainingPlan(scan, tile_px=EDGE, width=8, batch=16, samples=160, recipe=recipe)
    torch.manual_seed(1)
    record = {"plan": plan.as_record(), "environment": environment()}
    task = ReconstructionTask(configure(plan, probe), probe, record)
    saved = {"state_dict": task.state_dict(), "global_step": 10}
    task.on_save_checkpoint(saved)
    torch.save(saved, path)
    return path


@pytest.fixture(scope="module")
def labelled(cells):
    with open_scan(cells) as file:
        return labelled_from_scan(file, EDGE)


def knows_all(labelled, turned_rad=0.0):
    """A network that gives each frame its true tile, turned by an angle of its own."""
    place = {counts.tobytes(): k for k, counts in enumerate(labelled.counts)}

    def predict(counts):
        which = [place[frame.tobytes()] for frame in counts[:, 0]]
        return labelled.amplitude[which], labelled.phase_rad[which] + np.float32(turned_rad)

    return predict


def a_model(labelled, probe, predict):
    return Predictor("oracle", predict, probe, (32, 32), (EDGE, EDGE), None, {}, {}, ())


def evaluate(*words):
    return CliRunner().invoke(command, [str(word) for word in words])


def refusal(*words):
    done = evaluate(*words)
    assert done.exit_code == 2, done.output
    return done.output.splitlines()[-1]


def test_a_network_that_knows_all_has_no_error(labelled):
    found = evaluate_set(knows_all(labelled), labelled, np.arange(len(labelled)))
    assert found.tiles.phase.truth.mse.mean == 0
    assert found.tiles.circular_rms_rad.count == len(labelled)
    assert found.circle.figures.circular.rms_rad < 1e-6
    assert found.circle.figures.amplitude.truth.ssim > 0.99
    assert astuple(found.circle.spectrum.shares) == pytest.approx(astuple(found.circle.truth_spectrum.shares))
    assert found.circle.stitched.agreement[found.circle.where].min() > 1 - 1e-6


def test_a_global_phase_is_an_error_to_the_plain_figures_only(labelled):
    found = evaluate_set(knows_all(labelled, 0.5), labelled, np.arange(len(labelled)))
    assert found.tiles.phase.truth.mse.mean == pytest.approx(0.25, rel=1e-3)
    assert found.circle.figures.circular.rms_rad < 1e-6
    assert found.circle.figures.circular.global_phase_rad == pytest.approx(-0.5, abs=1e-5)
    assert found.tile_rms_rad.max() < 1e-5


def test_only_the_frames_that_are_asked_for_are_judged(labelled):
    found = evaluate_set(knows_all(labelled), labelled, np.array([3, 1, 4]))
    np.testing.assert_array_equal(found.true_phase_rad, labelled.phase_rad[[3, 1, 4]])
    assert found.circle.where.sum() < labelled.truth_phase_rad.size / 2


def test_where_only_tiles_are_known_the_truth_is_what_they_stitch_to(labelled):
    tiles_only = replace(labelled, truth_amplitude=None, truth_phase_rad=None)
    found = evaluate_set(knows_all(labelled), tiles_only, np.arange(len(labelled)))
    assert found.paper.figures.phase.truth.mse == 0
    assert found.circle.figures.circular.rms_rad < 1e-6


def test_a_network_of_phase_only_has_no_figures_of_amplitude(labelled):
    oracle = knows_all(labelled)
    found = evaluate_set(lambda counts: (None, oracle(counts)[1]), labelled, np.arange(9))
    assert found.tiles.amplitude is None
    assert found.circle.figures.amplitude is None
    assert found.circle.figures.circular.rms_rad < 1e-6


def test_frames_are_painted_in_batches_and_in_order(labelled):
    whole, parts = (paint(knows_all(labelled), labelled.counts, batch=n) for n in (64, 5))
    np.testing.assert_array_equal(whole.phase_rad, labelled.phase_rad)
    np.testing.assert_array_equal(parts.phase_rad, labelled.phase_rad)
    assert parts.seconds > 0


def test_the_true_object_explains_the_frames_as_far_as_counting_noise_lets_it(cells, labelled, probe):
    with open_scan(cells) as scan:
        found = judge_scan(scan, a_model(labelled, probe, knows_all(labelled)))
    r = found.residuals
    assert r.reference == pytest.approx(r.noise, rel=0.1)
    assert r.reference < r.mosaic < r.empty
    assert found.rivals[0].likeness.phase_correlation > 0.999
    assert found.rings.resolution_px(found.rings.half_bit) == 1


def test_an_iterative_engine_is_judged_beside_the_network(cells, labelled, probe):
    settings = IterativeSettings("least-squares", iterations=8, device="cpu")
    with open_scan(cells) as scan:
        found = judge_scan(scan, a_model(labelled, probe, knows_all(labelled)), [settings])
    network, engine = found.rivals
    assert network.name == "oracle"
    assert "least-squares, 8 iterations" in engine.name
    assert engine.residual < found.residuals.empty
    assert engine.seconds_per_frame > 0
    assert 0 < engine.likeness.phase_correlation < network.likeness.phase_correlation


def test_without_a_reference_the_frames_judge(unlabelled, labelled, probe):
    with open_scan(unlabelled) as scan:
        found = judge_scan(scan, a_model(labelled, probe, knows_all(labelled)))
    assert found.evaluation is None
    assert found.residuals.reference is None
    assert found.residuals.noise < found.residuals.mosaic < found.residuals.empty


def test_counting_noise_of_many_photons_leaves_less(probe):
    empty, corners = np.ones((40, 40), np.complex64), np.array([[0.0, 0.0], [4.0, 4.0]])
    faint, bright = counting_noise(probe / 10, empty, corners), counting_noise(probe, empty, corners)
    assert 0 < bright < faint < 1


def test_the_verdict_follows_how_much_of_the_frames_is_explained():
    def trust(mosaic):
        return verdict(Residuals(mosaic, empty=0.25, noise=0.08, reference=0.10)).trust

    assert [trust(mosaic) for mosaic in (0.11, 0.15, 0.2, 0.3)] == ["good", "fair", "poor", "poor"]


def test_frames_that_are_explained_do_not_excuse_a_phase_unlike_the_reference():
    explained = Residuals(0.11, empty=0.25, noise=0.08, reference=0.10)
    alike = Likeness(0.1, 0.97, 0.05, 0.35, 1000)
    said = verdict(explained, alike)
    assert said.trust == "good"
    assert any("Do not read its amplitude" in reason for reason in said.reasons)
    assert verdict(explained, replace(alike, phase_correlation=0.8)).trust == "fair"
    assert verdict(explained, replace(alike, phase_correlation=0.2)).trust == "poor"


def test_a_beam_that_no_object_changes_explains_nothing():
    assert Residuals(mosaic=0.1, empty=0.1, noise=0.1).explained == 0


def test_a_multiplication_with_addition_is_counted_once():
    layer = torch.nn.Conv2d(1, 4, 3, padding=1)
    assert count_macs(layer, (8, 8)) == 4 * 9 * 64


def test_a_checkpoint_says_what_it_costs_and_what_it_has_not_seen(checkpoint, probe):
    model = open_model(str(checkpoint))
    assert model.tile_shape == (EDGE, EDGE)
    assert model.not_shown == ("spokes", "zones")
    assert "million" in model.cost["multiply-adds a frame"]
    assert model.origin["frames seen in training"] == "160"
    amplitude, phase_rad = model.predict(np.ones((3, 1, 32, 32), np.float32))
    assert amplitude.shape == phase_rad.shape == (3, EDGE, EDGE)


@pytest.fixture(scope="module")
def left(checkpoint, cells, unlabelled, tmp_path_factory):
    """The report and the figures that the command leaves of two scans."""
    out = tmp_path_factory.mktemp("left")
    done = evaluate(checkpoint, cells, unlabelled, "--out", out, "--limit", 20)
    assert done.exit_code == 0, done.output
    for picture in (f"{cells.stem}-phase.png", f"{unlabelled.stem}-phase.png"):
        with Image.open(out / picture) as image:
            assert image.format == "PNG"
    return (out / REPORT).read_text(), json.loads((out / FIGURES).read_text())


def test_the_command_leaves_a_report_and_figures(left):
    page, told = left
    for words in (
        "cells.cxi: 20 frames of 32×32",
        "Phase, by eye",
        "Fourier ring correlation",
        "Where this comes from",
    ):
        assert words in page
    assert "http" not in page.split("</style>")[1]
    judged, unjudged = told["scans"]
    assert judged["verdict"]["trust"] == "poor"  # it has learned nothing
    assert judged["verdict"]["headline"] in page
    assert judged["against_the_reference"]["tiles"]["circular_rms_rad"]["count"] == 20
    assert unjudged["against_the_reference"] is None
    assert told["command"].endswith("--limit 20")


def test_a_checkpoint_says_by_itself_how_far_it_believes_its_tiles(checkpoint):
    said = open_model(str(checkpoint)).tell(np.ones((3, 1, 32, 32), np.float32))
    assert said.residual.shape == (3,)
    assert said.radius.shape == said.phase_rad.shape
    assert said.spread_rad.min() > 0


def test_the_report_says_what_tells_where_the_network_is_wrong(left):
    page, told = left
    for words in (
        "What says where it is wrong",
        "What stitching is worth",
        "Is the expected error the true one?",
    ):
        assert words in page
    judged, unjudged = told["scans"]
    spearman = {row["candidate"]: row["frames"] for row in judged["foretelling"]["rankings"]}
    assert list(spearman) == list(CANDIDATES)
    assert -1 <= spearman[SHOWN] <= 1
    assert np.shape(judged["foretelling"]["calibration"]["mosaic"]) == (10, 2)
    assert judged["stitching"][0]["phase_rms_rad"] > 0
    assert (unjudged["foretelling"], unjudged["stitching"]) == (None, [])


def test_a_model_is_judged_on_simulated_scans_without_any_measured_one(checkpoint, tmp_path):
    done = evaluate(checkpoint, "--held-out", 1, "--out", tmp_path / "e")
    assert done.exit_code == 0, done.output
    assert "held out: On objects that it has not seen" in done.output
    told = json.loads((tmp_path / "e" / FIGURES).read_text())
    assert told["scans"] == []
    assert {row["family"] for row in told["held_out"]["scans"]} == set(EVERY_FAMILY)
    assert {row["exposure"] for row in told["held_out"]["scans"]} == {0.5, 1.0, 2.0}
    unseen, seen, everything = told["held_out"]["groups"].values()
    assert (unseen["scans"], everything["scans"]) == (2, unseen["scans"] + seen["scans"])
    assert "kinds of objects not shown in training" in (tmp_path / "e" / REPORT).read_text()
    assert "--held-out 1" in told["command"]


def test_a_shipped_bundle_is_judged_by_its_name():
    model = open_model("siemens-star")
    with open_scan(STAR) as scan:
        found = judge_scan(scan, model, limit=4)
    assert found.residuals.mosaic < 0.7 * found.residuals.empty
    assert found.rivals[0].name == "siemens-star"
    assert len(model.origin["sha256 of the ONNX file"]) == 64


def test_the_verdict_comes_with_what_the_figures_cannot_say(cells, labelled, probe):
    told = {"not_shown": ("spokes",), "object_pixel_m": 5e-8}
    model = replace(a_model(labelled, probe, knows_all(labelled)), **told)
    with open_scan(cells) as scan:
        found = judge_scan(scan, model, limit=9)
    said = " ".join(cautions(found, model))
    for words in ("this scan's own reference", "made for another geometry", "not learned from: spokes"):
        assert words in said
    assert "model's own probe" in " ".join(cautions(found, replace(model, probe=2 * probe)))
    assert "knows no probe" in " ".join(cautions(found, replace(model, probe=None)))


def test_bad_input_is_one_line_and_exit_code_2(checkpoint, cells, tmp_path):
    out = ("--out", tmp_path / "e")
    assert "no bundle at 'nowhere'" in refusal("nowhere", cells, *out)
    assert "not a checkpoint" in refusal(cells, cells, *out)
    assert "no such scan file" in refusal(checkpoint, tmp_path / "nowhere.cxi", *out)
    assert "frames are (128, 128), the model takes (32, 32)" in refusal(checkpoint, STAR, *out)
    assert "nothing to judge on" in refusal(checkpoint, *out)
    assert not (tmp_path / "e").exists()
