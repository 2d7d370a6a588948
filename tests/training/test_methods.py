import math

import pytest
import torch

from model.losses import LossWeights, composite_loss
from model.network import NetworkConfig, Prediction
from model.sadgs import SadgsConfig
from training.method import ScalarPrediction, read_out
from training.methods import ABLATIONS, METHODS, ScalarPhaseNetwork, euclidean_loss
from training.simulation.factory import Sample

SHAPE = (32, 32)
CONFIG = NetworkConfig("paper", SadgsConfig(500.0), SHAPE, SHAPE)


def built(name):
    torch.manual_seed(1)
    return METHODS[name].build(CONFIG)


def truth(angle):
    plane = torch.ones(2, 1, *SHAPE)
    return Sample(plane, plane / 2, plane * math.cos(angle), plane * math.sin(angle))


def test_table_v_takes_away_twelve_things():
    assert len(ABLATIONS) == 12


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("paper", 2_117_187),
        ("no-dual-gain", 2_117_187 - 257_024 - 128 * 128),
        ("three-gains", 2_117_187 + 257_024 + 128 * 128),
        ("no-skip", 2_117_187 - 18_816 - 3 * 9 * 64 * 64),
        ("no-fusion-layer", 2_117_187 - 256 * 128),
        ("no-output-normalisation", 2_117_187),
        ("no-circular-representation", 2_117_187 - 517_185),
    ],
)
def test_each_ablation_takes_away_what_it_says(name, parameters):
    assert sum(p.numel() for p in built(name).parameters()) == parameters


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_from_a_batch_and_reads_out_tiles(name):
    network, batch = built(name), truth(0.4)
    output = network(batch.counts)
    METHODS[name].loss(output, batch)["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert read_out(output).phase_rad.shape == (2, 1, *SHAPE)


@pytest.mark.parametrize(
    "name", ["no-circular-loss", "no-consistency", "no-ssim", "no-gradient", "mse-only", "mae-only"]
)
def test_a_loss_without_a_term_is_another_loss(name):
    network, batch = built("paper"), truth(0.4)
    output = network(batch.counts)
    assert METHODS[name].loss(output, batch)["loss"] != METHODS["paper"].loss(output, batch)["loss"]


def test_without_projection_the_phasor_leaves_the_circle():
    output = built("no-output-normalisation")(truth(0.0).counts)
    assert not torch.allclose(output.cos**2 + output.sin**2, torch.ones(1), atol=0.1)


def test_on_the_circle_the_pixel_terms_are_twice_the_circular_one():
    angle, true_angle = torch.randn(2, 1, *SHAPE), torch.randn(2, 1, *SHAPE)
    cos, sin = angle.cos(), angle.sin()
    prediction = Prediction(torch.ones_like(cos), cos, sin, cos, sin)
    both, pixels = (
        composite_loss(prediction, torch.ones_like(cos), true_angle.cos(), true_angle.sin(), weights=weights)
        for weights in (
            LossWeights(circular=1.0, gradient=0.0, ssim=0.0),
            LossWeights(circular=0.0, gradient=0.0, ssim=0.0),
        )
    )
    torch.testing.assert_close(both["phase"] - pixels["phase"], pixels["phase"] / 2)


def test_a_scalar_phase_pays_for_a_wrap_and_the_circle_does_not():
    batch = truth(3.1)
    phase = torch.full((2, 1, *SHAPE), -3.1)
    near = ScalarPrediction(batch.amplitude, phase)
    cos, sin = phase.cos(), phase.sin()
    circle = Prediction(batch.amplitude, cos, sin, cos, sin)
    assert euclidean_loss(near, batch)["phase"] > 38
    assert composite_loss(circle, *batch[1:])["phase"] < 0.2


def test_the_scalar_phase_network_predicts_within_one_turn():
    phase = ScalarPhaseNetwork(CONFIG)(torch.rand(2, 1, *SHAPE) * 1e4).phase_rad
    assert phase.abs().max() <= math.pi
