import click
import numpy as np
import pytest
from click.testing import CliRunner

from training.simulation.factory import SimulationRecipe
from training.simulation.options import RECIPE_OPTIONS, recipe_of_options, recipe_options
from training.simulation.speed import command as speed


def options(*words):
    """What a command hears."""
    heard = {}
    listening = click.command()(recipe_options(lambda **given: heard.update(given)))
    done = CliRunner().invoke(listening, words)
    assert done.exit_code == 0, done.output
    return heard


def test_without_a_word_the_recipe_is_the_default():
    assert recipe_of_options(options()) == SimulationRecipe()
    assert set(options()) == set(RECIPE_OPTIONS)


def test_each_word_changes_its_part_of_the_recipe():
    words = (
        "--families bars,spokes --phase-span 0.2 1.5 --several-turns 0.3 --exposure 0.5 2 --readout 1.5 "
        "--saturation 4095 --gaps 0 --object-size 200 --tiles-per-object 8"
    )
    recipe = recipe_of_options(options(*words.split()))
    objects, camera = recipe.objects, recipe.camera
    assert (objects.families, objects.phase_span_rad, objects.turns_share) == (
        ("bars", "spokes"),
        (0.2, 1.5),
        0.3,
    )
    assert (camera.exposure, camera.readout_counts, camera.saturation) == ((0.5, 2.0), 1.5, 4095.0)
    assert (camera.flawed_share, recipe.object_size, recipe.tiles_per_object) == (0, 200, 8)


def test_a_family_that_nobody_knows_is_named_beside_those_that_are():
    with pytest.raises(ValueError, match=r"unicorns.*polygons"):
        recipe_of_options(options("--families", "bars,unicorns"))


def test_the_speed_is_told_for_a_probe_alone(probe, tmp_path):
    np.save(tmp_path / "probe.npy", probe)
    words = f"--probe {tmp_path / 'probe.npy'} --batch 4 --batches 2 --object-size 48"
    done = CliRunner().invoke(speed, words.split())
    assert done.exit_code == 0, done.output
    number, *rest = done.output.split()
    assert int(number) > 0
    assert " ".join(rest) == "frames/s of 32 x 32 pixels, 2 modes, on cpu"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--probe nowhere.npy", "no such file"),
        ("--probe {scan} --object-size 8", "smaller than the probe"),
        ("--probe {scan} --exposure 2 1", "exposure"),
        ("--probe {scan} --device toaster", "cpu or cuda"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(scan, words, reason):
    done = CliRunner().invoke(speed, words.format(scan=scan).split())
    assert done.exit_code == 2
    assert reason in done.output.splitlines()[-1]
