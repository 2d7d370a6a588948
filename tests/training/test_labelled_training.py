import numpy as np
import pytest
import torch
from click.testing import CliRunner
from lightning import seed_everything

from training.checkpoint import load_task, read_checkpoint
from training.datasets.splits import split_set
from training.frames import EpochOrder, LabelledFrames
from training.labelled_plan import LabelledPlan, configure_labelled
from training.run import fit, gather, prepare
from training.train import command

TINY = LabelledPlan("usaf-tiny", epochs=2)


@pytest.fixture(scope="module")
def tiny():
    data = TINY.open_data()
    return data, split_set(data, "rows")


def test_sadgs_takes_its_percentile_from_the_training_frames_alone(tiny):
    data, split = tiny
    p = configure_labelled(TINY, data, split.train).network.sadgs.percentile_counts
    assert p == pytest.approx(np.percentile(data.counts[split.train], 99.5, method="closest_observation"))
    assert p != pytest.approx(np.percentile(data.counts, 99.5, method="closest_observation"), rel=1e-4)


def test_the_cycle_is_six_epochs_up_as_published_and_stretches_with_fewer(tiny):
    data, split = tiny
    steps_an_epoch = -(-len(split.train) // 64)

    def half_cycle(plan):
        return configure_labelled(plan, data, split.train).schedule.half_cycle_steps

    assert half_cycle(LabelledPlan("usaf-tiny")) == 6 * steps_an_epoch
    assert half_cycle(LabelledPlan("usaf-tiny", epochs=50)) == 12 * steps_an_epoch


def test_methods_published_on_photons_get_photons_and_the_paper_gets_what_it_normalised():
    assert LabelledPlan("usaf-tiny", "paper").open_data().counts.max() == pytest.approx(1)
    assert LabelledPlan("usaf-tiny", "ptychonn").open_data().counts.max() > 1e4


def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides():
    order, same, other = EpochOrder(20, 1), EpochOrder(20, 1), EpochOrder(20, 2)
    first = list(order)
    order.set_epoch(1)
    assert sorted(first) == list(range(20))
    assert first == list(same)
    assert first != list(order)
    assert first != list(other)


def test_the_test_frames_are_never_shown(tiny):
    data, split = tiny
    frames = LabelledFrames(data, split, batch=64, seed=1)
    seen = torch.cat(
        [batch[0] for loader in (frames.train_dataloader(), frames.val_dataloader()) for batch in loader]
    )
    assert len(seen) == len(split.train) + len(split.validation)
    for frame in data.counts[split.test[:5]]:
        assert not (seen[:, 0] == torch.as_tensor(frame)).all(dim=(1, 2)).any()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    fit(prepare(TINY, out, trainer_options={"devices": 1}))
    return out


def weights(out, which):
    return read_checkpoint(out / f"{which}.ckpt").weights


def test_a_run_that_was_stopped_after_an_epoch_ends_with_the_same_weights(whole, tmp_path):
    stopped = prepare(TINY, tmp_path, trainer_options={"devices": 1})
    stopped.trainer.fit_loop.max_epochs = 1
    fit(stopped)
    assert read_checkpoint(tmp_path / "last.ckpt").steps * 2 == read_checkpoint(whole / "last.ckpt").steps
    seed_everything(99, verbose=False)  # a new process would not have the old one's numbers either
    fit(prepare(TINY, tmp_path, trainer_options={"devices": 1}))
    for name, values in weights(whole, "last").items():
        torch.testing.assert_close(weights(tmp_path, "last")[name], values)


def test_a_run_with_another_seed_does_not_go_on_with_this_one(whole):
    with pytest.raises(ValueError, match="other settings"):
        prepare(LabelledPlan("usaf-tiny", epochs=2, seed=2), whole)


def test_a_checkpoint_of_a_published_method_is_read_back(whole):
    checkpoint = read_checkpoint(whole / "best.ckpt")
    task = load_task(checkpoint)
    assert task.config.method == "paper"
    assert checkpoint.record["plan"]["data"] == "usaf-tiny"
    np.testing.assert_array_equal(task.known_probe(), TINY.open_data().probe)


@pytest.mark.parametrize("method", ["dpi", "ptynet"])
def test_baselines_train_by_the_same_command(tmp_path, method):
    words = [
        "--data",
        "usaf-tiny",
        "--method",
        method,
        "--epochs",
        "1",
        "--devices",
        "1",
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    assert read_checkpoint(tmp_path / "best.ckpt").config.method == method
    assert f"--method {method}" in (tmp_path / "command.txt").read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "give --probe to learn from simulated frames, or --data"),
        ("--data usaf --probe x.cxi", "give --probe to learn from simulated frames, or --data"),
        ("--data nowhere.cxi", "neither a file nor one of the sets"),
        ("--data usaf --samples 3", "--samples goes with --probe only"),
        ("--probe x.cxi --split rows", "--split goes with --data or --self-supervised only"),
    ],
)
def test_options_that_make_no_sense_are_told_in_one_line(tmp_path, words, reason):
    done = CliRunner().invoke(command, [*words.split(), "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert reason in done.output


def test_best_means_on_the_validation_frames(tiny):
    data, split = tiny
    shown = next(iter(gather(TINY, 0).frames.val_dataloader()))
    np.testing.assert_array_equal(shown[0][:, 0], data.counts[split.validation][: len(shown[0])])
