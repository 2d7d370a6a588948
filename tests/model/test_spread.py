import numpy as np
import pytest
import torch
from scipy.special import i0, i0e, i1e
from scipy.stats import vonmises

from model.losses import composite_loss, spread_loss
from model.network import NetworkConfig, Prediction, predict
from model.optics import far_field
from model.sadgs import SadgsConfig
from model.spread import GREATEST, LEAST, circular_std_rad, concentration, von_mises_nll
from model.variants import build_network


def config(**changes):
    return NetworkConfig(
        "probe-informed", SadgsConfig(500.0), (32, 32), (16, 16), 2.5, width=8, steps=2, **changes
    )


def prediction(kappa, cos=1.0, sin=0.0):
    planes = [torch.full((1, 1, 4, 4), value, requires_grad=True) for value in (1.0, cos, sin, cos, sin)]
    return Prediction(*planes, concentration=kappa)


def test_the_spread_is_the_circular_standard_deviation_of_the_von_mises_distribution():
    kappa = np.geomspace(LEAST, GREATEST, 2000)
    exact = np.sqrt(-2 * np.log(i1e(kappa) / i0e(kappa)))
    found = circular_std_rad(torch.tensor(kappa, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, exact, rtol=5e-3)
    assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("kappa", [0.01, 1.0, 30.0, 500.0])
def test_the_likelihood_is_that_of_the_von_mises_distribution(kappa):
    error_rad = np.linspace(-3, 3, 31)
    found = von_mises_nll(torch.full((31,), kappa), torch.tensor(1 - np.cos(error_rad), dtype=torch.float32))
    np.testing.assert_allclose(found, -vonmises.logpdf(error_rad, kappa), rtol=1e-4, atol=1e-3)


def test_the_likelihood_overflows_for_no_concentration_and_neither_does_its_gradient():
    assert np.isinf(i0(GREATEST))
    plane = torch.tensor([-60.0, 0.0, 9.0, 60.0], requires_grad=True)
    losses = von_mises_nll(concentration(plane), torch.tensor([2.0, 2.0, 2.0, 2.0]))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(plane.grad).all()


@pytest.mark.parametrize("sigma_rad", [0.05, 0.3, 1.0])
def test_the_surest_guess_that_the_loss_rewards_is_the_spread_of_the_errors(sigma_rad):
    errors_rad = torch.randn(20_000, generator=torch.Generator().manual_seed(2)) * sigma_rad
    kappa = torch.logspace(-1, 4, 2000)
    losses = von_mises_nll(kappa[:, None], 1 - torch.cos(errors_rad[None])).mean(dim=1)
    assert circular_std_rad(kappa[losses.argmin()]).item() == pytest.approx(sigma_rad, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_concentration_is_told_in_single_precision(dtype):
    kappa = concentration(torch.tensor([-100.0, 0.0, 100.0], dtype=dtype))
    assert kappa.dtype == torch.float32
    np.testing.assert_allclose(kappa, [LEAST, 1, GREATEST], rtol=1e-4)


def test_an_unsure_phase_is_not_pulled_by_its_spread():
    kappa = torch.full((1, 1, 4, 4), 5.0, requires_grad=True)
    said = prediction(kappa)
    spread_loss(kappa, said, torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)).backward()
    assert said.cos.grad is None
    assert (kappa.grad > 0).all()  # a right angle off: it should have been less sure


def test_the_spread_is_learned_where_the_light_is():
    kappa, weight = torch.full((1, 1, 4, 4), 5.0, requires_grad=True), torch.zeros(1, 1, 4, 4)
    weight[..., 1, 1] = 16
    spread_loss(kappa, prediction(kappa), torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), weight).backward()
    assert torch.count_nonzero(kappa.grad) == 1


def test_the_composite_loss_has_the_spread_only_of_a_network_that_tells_it():
    heads = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    truth = [torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(k)) for k in (1, 2, 3)]
    silent, sure = (composite_loss(predict(planes, 1.5), *truth) for planes in (heads[:, :3], heads))
    assert "spread" not in silent
    assert sure["loss"].item() == pytest.approx((silent["loss"] + 0.1 * sure["spread"]).item(), rel=1e-5)


def test_a_network_tells_a_spread_for_every_pixel_and_the_same_phases_beside_it(probe, tiles):
    counts = torch.tensor(far_field(probe, tiles))[:, None]
    counts[0], counts[1, :, 3:6] = 0, 65535
    said = build_network(config(spread=True, exposure="kept-out"), probe).eval()(counts)
    assert said.spread_rad.shape == said.cos.shape == (6, 1, 16, 16)
    assert torch.isfinite(said.spread_rad).all()
    assert (said.spread_rad > 0).all()
    assert build_network(config(), probe).eval()(counts).spread_rad is None


def test_learning_how_sure_to_be_changes_nothing_of_what_tells_the_phase(probe, tiles):
    network = build_network(config(spread=True), probe)
    said = network(torch.tensor(far_field(probe, tiles))[:, None])
    truth = [torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(k)) for k in (1, 2, 3)]
    composite_loss(said, *truth)["spread"].backward()
    gradients = {name: weights.grad for name, weights in network.named_parameters()}
    taught = {name for name, gradient in gradients.items() if gradient is not None and gradient.any()}
    assert taught == {f"{unet}.sure.{kind}" for unet in ("first", "later.0") for kind in ("weight", "bias")}


def test_what_no_tile_teaches_can_be_left_as_it_is(probe):
    network = build_network(config(spread=True), probe)
    network.freeze_spread()
    frozen = [name for name, weights in network.named_parameters() if not weights.requires_grad]
    assert len(frozen) == 4
    assert all(".sure." in name for name in frozen)


def test_a_network_of_before_has_the_weights_that_it_had(probe):
    shapes = {name: value.shape for name, value in build_network(config(), probe).state_dict().items()}
    assert shapes["first.head.weight"] == (12, 8, 3, 3)
    assert not any(".sure." in name for name in shapes)


def test_the_papers_network_does_not_say_how_sure_it_is():
    with pytest.raises(ValueError, match="how sure"):
        NetworkConfig("paper", SadgsConfig(500.0), (32, 32), (32, 32), spread=True)
