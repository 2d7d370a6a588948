import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from model.losses import (
    LossWeights,
    circular_error,
    composite_loss,
    consistency,
    gradient_error,
    squared_error,
    structural_dissimilarity,
)
from model.network import predict, project_to_circle


def image(seed, side=20):
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(seed))


def on_circle(angle):
    return torch.cos(angle), torch.sin(angle)


def ssim_of_numpy(a, b):
    """Wang et al. (2004), eq. 13, in every window of 11 x 11 that lies inside."""
    x = np.arange(-5, 6)
    window = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values):
        return (sliding_window_view(values, (11, 11), axis=(-2, -1)) * window).sum(axis=(-2, -1))

    a, b = a.double().numpy(), b.double().numpy()
    c1, c2 = 1e-4, 9e-4
    cross = mean(a * b) - mean(a) * mean(b)
    squares = mean(a**2) - mean(a) ** 2 + mean(b**2) - mean(b) ** 2
    means = mean(a) ** 2 + mean(b) ** 2
    return (2 * mean(a) * mean(b) + c1) * (2 * cross + c2) / ((means + c1) * (squares + c2))


def test_ssim_is_that_of_gaussian_windows_of_eleven_pixels():
    a, b = image(1), 0.7 * image(1) + 0.3 * image(2)
    expected = 1 - ssim_of_numpy(a, b).mean()
    assert structural_dissimilarity(a, b).item() == pytest.approx(expected, abs=1e-5)
    assert structural_dissimilarity(a, a).item() == pytest.approx(0, abs=1e-6)


def test_ssim_is_weighted_at_the_middle_of_each_window():
    a, b = image(1), image(2)
    weight = torch.zeros(1, 1, 20, 20)
    weight[..., 9, 8] = 100  # mean 1 over the 10 x 10 windows inside
    expected = (1 - ssim_of_numpy(a, b))[..., 4, 3].mean()
    assert structural_dissimilarity(a, b, weight).item() == pytest.approx(expected, abs=1e-4)


def test_the_gradient_term_is_half_the_sum_of_both_directions_by_hand():
    a = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])[None, None]
    b = torch.zeros_like(a)
    horizontal = (1 + 2 + 0 + 0) / 4
    vertical = (0 + 1 + 3) / 3
    assert gradient_error(a, b).item() == pytest.approx(0.5 * (horizontal + vertical))


def test_the_gradient_term_does_not_see_an_offset():
    assert gradient_error(image(1) + 0.3, image(1)).item() == pytest.approx(0, abs=1e-7)


def test_a_flat_weight_changes_no_term():
    a, b, flat = image(1), image(2), torch.ones(1, 1, 20, 20)
    for term in (squared_error, gradient_error, structural_dissimilarity):
        assert term(a, b, flat).item() == pytest.approx(term(a, b).item())


def test_what_lies_in_the_dark_costs_nothing():
    a, b, weight = image(1), image(1), torch.ones(1, 1, 20, 20)
    b[..., :4, :] += 5
    weight[..., :5, :] = 0
    assert squared_error(a, b, weight) == 0
    assert gradient_error(a, b, weight) == 0


def test_the_squared_chord_is_twice_the_circular_term():
    truth, estimate = on_circle(6 * image(1)), on_circle(6 * image(2))
    chord = squared_error(estimate[0], truth[0]) + squared_error(estimate[1], truth[1])
    assert chord.item() == pytest.approx(2 * circular_error(*estimate, *truth).item(), rel=1e-5)


def test_a_phase_across_the_wrap_is_near():
    above, below = (on_circle(torch.full((1, 1, 4, 4), angle)) for angle in (3.1, -3.1))
    gap = 2 * np.pi - 6.2
    assert circular_error(*above, *below).item() == pytest.approx(gap**2 / 2, rel=1e-2)


def test_the_circular_term_is_greatest_at_the_opposite_phase():
    zero, pi = (on_circle(torch.full((1, 1, 4, 4), angle)) for angle in (0.0, np.pi))
    assert circular_error(*zero, *pi).item() == pytest.approx(2)


def test_consistency_pulls_on_the_values_before_projection_and_is_idle_after():
    raw = torch.tensor([0.3, 0.1]).reshape(2, 1, 1, 1).requires_grad_()
    consistency(raw[:1], raw[1:]).backward()
    assert (raw.grad < 0).all()  # outwards, to the circle
    assert consistency(raw[:1], raw[1:]).item() == pytest.approx((0.1 - 1) ** 2)
    assert consistency(*project_to_circle(raw[:1], raw[1:])).item() == pytest.approx(0, abs=1e-9)


def test_the_composite_loss_takes_consistency_before_projection():
    heads = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    prediction = predict(heads, 1.5)
    terms = composite_loss(prediction, prediction.amplitude, prediction.cos, prediction.sin)
    assert terms["amplitude"].item() == pytest.approx(0, abs=1e-6)
    assert terms["phase"].item() == pytest.approx(0, abs=1e-6)
    assert terms["consistency"] > 0.05
    assert terms["loss"].item() == pytest.approx(0.1 * terms["consistency"].item(), abs=1e-5)


def test_the_composite_loss_weighs_its_terms_as_the_paper_does():
    heads = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    p, cos, sin = predict(heads, 1.5), *on_circle(image(1, 16))
    amplitude = image(2, 16)
    terms = composite_loss(p, amplitude, cos, sin)
    a = (
        squared_error(p.amplitude, amplitude)
        + 0.12 * gradient_error(p.amplitude, amplitude)
        + 0.1 * structural_dissimilarity(p.amplitude, amplitude)
    )
    phi = (
        squared_error(p.cos, cos)
        + squared_error(p.sin, sin)
        + 0.6 * circular_error(p.cos, p.sin, cos, sin)
        + 0.12 * (gradient_error(p.cos, cos) + gradient_error(p.sin, sin))
        + 0.05 * (structural_dissimilarity(p.cos, cos) + structural_dissimilarity(p.sin, sin))
    )
    expected = a + 1.3 * phi + 0.1 * consistency(p.raw_cos, p.raw_sin)
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_term_can_be_left_out():
    heads = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    p, target = predict(heads, 1.5), image(1, 16)[:1]
    bare = LossWeights(phase=0, consistency=0, gradient=0, ssim=0)
    terms = composite_loss(p, target, target, target, weights=bare)
    assert terms["loss"].item() == pytest.approx(squared_error(p.amplitude, target).item())
