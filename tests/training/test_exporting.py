import dataclasses
import json
import shutil

import h5py
import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from model.bundle import BundleError, load_bundle
from model.scans import open_scan
from training import train
from training.checkpoint import CheckpointError, load_task, matching_tilts, read_checkpoint
from training.exporting import GPU_FRAMES, INT8_FRAMES, command, write_int8
from training.judging.families import held_out_frames
from training.labelled_plan import LabelledPlan
from training.plan import TrainingPlan
from training.record import plan_of
from training.simulation.objects import EVERY_FAMILY, FAMILIES
from training.unlabelled.measured import read_measured


@pytest.fixture(scope="module")
def run(scan, tmp_path_factory):
    """Twenty steps on a probe of 32 x 32 pixels, trained by the command.

    The network meets the measurement once: a second meeting starts from phases that so short a training
    leaves undetermined, and there any two programs differ.
    """
    out = tmp_path_factory.mktemp("run")
    words = f"--probe {scan} --out {out} --tile 16 --width 8 --steps 1 --batch 16 --samples 320"
    more = "--validations 1 --object-size 64 --devices 1"
    done = CliRunner().invoke(train.command, [*words.split(), *more.split()])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def bundle(run, turned_scan, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    more = ("--int8", turned_scan, "--gpu", turned_scan)
    done = export(run / "best.ckpt", "--out", out, "--name", "tiny", "--tiles", 6, *more)
    assert done.exit_code == 0, done.output
    assert "within" in done.output
    assert "convolutions in int8 change the phase by 0.0" in done.output
    assert "convolutions in float16 change the phase by 0.0" in done.output
    return load_bundle(out)


def export(*words):
    return CliRunner().invoke(command, [str(word) for word in words])


def refusal(*words):
    done = export(*words)
    assert done.exit_code == 2, done.output
    return done.output.splitlines()[-1]


def test_what_was_trained_is_what_the_service_runs(run, bundle):
    checkpoint = read_checkpoint(run / "best.ckpt")
    task = load_task(matching_tilts(checkpoint)).eval()
    (sample,) = held_out_frames(plan_of(checkpoint), task, "spokes", 5)
    session = onnxruntime.InferenceSession(bundle.onnx, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"counts": sample.counts.numpy().astype(np.uint16)})
    with torch.inference_mode():
        expected = task(sample.counts)
    radius = torch.hypot(expected.raw_cos, expected.raw_sin).numpy()
    for a, b, scale in zip(outputs, expected, (1, radius, radius), strict=False):
        np.testing.assert_allclose(scale * a, scale * b.numpy(), atol=1e-4)


def test_tiles_are_tilted_in_the_graph_alone_and_only_where_asked(run, bundle, tmp_path):
    assert not read_checkpoint(run / "best.ckpt").config.network.match_tilt
    done = export(run / "best.ckpt", "--out", tmp_path, "--name", "tiny", "--tiles", 6, "--as-painted")
    assert done.exit_code == 0, done.output
    ways = [load_bundle(folder).description.training["network"] for folder in (bundle.path, tmp_path)]
    assert [way["match_tilt"] for way in ways] == [True, False]


def test_the_graph_with_8_bit_convolutions_is_fitted_to_measured_frames_and_compared_on_others(bundle):
    told = bundle.description.int8
    assert (told.scan, told.frames) == ("turned.cxi", INT8_FRAMES)
    assert 0 < told.convolutions < told.of
    graph = onnxruntime.InferenceSession(bundle.int8_onnx, providers=["CPUExecutionProvider"])
    assert [output.name for output in graph.get_outputs()][:3] == ["amplitude", "cos", "sin"]


def test_a_bundle_gets_a_graph_for_a_gpu_without_its_checkpoint(bundle, turned_scan, tmp_path):
    done = export(bundle.path, "--out", tmp_path / "copy", "--gpu", turned_scan)
    assert done.exit_code == 0, done.output
    copy = load_bundle(tmp_path / "copy")
    assert copy.description == bundle.description
    assert copy.description.gpu.frames == GPU_FRAMES
    assert copy.gpu_onnx.read_bytes() == bundle.gpu_onnx.read_bytes()
    in_place = export(copy.path, "--out", copy.path, "--gpu", turned_scan)
    assert in_place.exit_code == 0, in_place.output


@pytest.mark.parametrize(
    ("cut", "reason"), [((slice(None), slice(16)), "takes"), ((slice(63),), "has 63 frames")]
)
def test_frames_of_another_shape_or_too_few_cannot_fit_8_bit_convolutions(bundle, turned_scan, cut, reason):
    whole = read_measured(turned_scan)
    with pytest.raises(BundleError, match=reason):
        write_int8(bundle.path, dataclasses.replace(whole, counts=whole.counts[cut]))


def test_a_bundle_says_how_its_network_was_trained(run, bundle, scan):
    told = bundle.description.training
    assert told["command"] == (run / "command.txt").read_text().strip()
    assert (told["seed"], told["samples_seen"], told["precision"]) == (1, 320, "32-true")
    assert told["recipe"]["object_size"] == 64
    assert told["recipe"]["objects"]["families"] == list(FAMILIES)
    assert told["recipe"]["camera"]["saturation"] == bundle.description.detector_saturation
    assert told["schedule"]["total_steps"] == 20
    assert told["environment"]["torch"] == torch.__version__
    assert set(told["environment"]) == {"python", "torch", "lightning", "numpy", "commit"}
    with open_scan(scan) as file:
        assert bundle.description.object_pixel_m == file.reference().object_pixel_m


def test_a_bundle_has_figures_for_each_family_and_says_which_was_not_shown(bundle):
    rows = {row["family"]: row for row in bundle.description.figures["families"]}
    assert set(rows) == set(EVERY_FAMILY)
    assert [name for name, row in rows.items() if not row["shown_in_training"]] == ["spokes", "zones"]
    assert bundle.description.training["not_shown_in_training"] == ["spokes", "zones"]
    assert "spokes, zones were not shown in training" in bundle.description.figures["note"]
    for row in rows.values():
        assert row["tiles"] == 6
        assert 0 < row["phase_rms_rad"]["mean"] < np.pi
        assert row["phase_rms_rad"]["std"] > 0
        assert 0 < row["amplitude_rms"]["mean"] < 1


def test_figures_are_of_other_frames_than_training_and_validation_saw(run):
    checkpoint = read_checkpoint(run / "best.ckpt")
    plan, task = plan_of(checkpoint), load_task(checkpoint)
    batches = list(held_out_frames(plan, task, "bars", 20))
    assert [len(sample.counts) for sample in batches] == [16, 4]
    assert not torch.equal(batches[0].counts[:4], batches[1].counts)
    again = list(held_out_frames(plan, task, "bars", 20))
    assert torch.equal(again[0].counts, batches[0].counts)


def test_a_checkpoint_without_the_plan_of_an_instrument_is_refused(run, tmp_path):
    saved = torch.load(run / "best.ckpt", weights_only=True)
    saved["ptycholive"]["plan"] = LabelledPlan("usaf").as_record()
    torch.save(saved, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match="was not trained with --probe"):
        plan_of(read_checkpoint(tmp_path / "best.ckpt"))


def test_a_plan_survives_its_record(scan):
    plan = TrainingPlan(scan, kind="paper", seed=7, precision="bf16-mixed")
    assert TrainingPlan.from_record(json.loads(json.dumps(plan.as_record()))) == plan


def test_bad_input_is_one_line_and_exit_code_2(run, scan, tmp_path):
    best, out = run / "best.ckpt", ("--out", tmp_path / "b", "--name", "b")
    assert "does not exist" in refusal(tmp_path / "nowhere", *out)
    assert "not a checkpoint" in refusal(scan, *out)
    assert "no such scan file" in refusal(best, *out, "--scan", tmp_path / "nowhere")
    assert "needs a --name" in refusal(best, "--out", tmp_path / "b")
    assert "64 of A-Z" in refusal(best, "--out", tmp_path / "b", "--name", "../b")
    assert not (tmp_path / "b").exists()


def test_a_scan_of_another_probe_is_refused(run, scan, tmp_path):
    other = tmp_path / "other.cxi"
    shutil.copy(scan, other)
    with h5py.File(other, "r+") as file:
        file["/entry_1/reference_1/probe"][...] *= 2
    line = refusal(run / "best.ckpt", "--out", tmp_path / "b", "--name", "b", "--scan", other)
    assert "not trained with the probe" in line


def test_a_bundle_says_when_it_is_to_be_believed(bundle):
    trust = bundle.description.trust
    assert 0 < trust.residual[0] < trust.residual[1]
    assert trust.frame_counts[1] / trust.frame_counts[0] > 4  # exposures of a quarter to four were shown
    residuals, errors_rad = np.array(trust.error_rad).T
    assert (np.diff(residuals) > 0).all()
    assert (np.diff(errors_rad) >= 0).all()
    session = onnxruntime.InferenceSession(bundle.onnx, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == [
        *("amplitude", "cos", "sin"),
        *("spread_rad", "residual"),
    ]
