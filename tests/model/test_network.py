import msgspec
import pytest
import torch
from torch import nn

from model.network import NetworkConfig, PaperNetwork, predict, project_to_circle, valid_counts
from model.sadgs import SadgsConfig


def paper(side=32, **changes):
    config = NetworkConfig(
        kind="paper",
        sadgs=SadgsConfig(percentile_counts=984),
        frame_shape=(side, side),
        tile_shape=(side, side),
        **changes,
    )
    torch.manual_seed(1)
    return PaperNetwork(config).eval()


def multiplications(network, counts):
    """Count multiply-accumulate operations of every convolution."""
    total = 0

    def add(layer, _, output):
        nonlocal total
        total += output[0].numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(add)
    with torch.inference_mode():
        network(counts)
    return total


def test_the_papers_network_has_the_papers_parameters():
    assert sum(p.numel() for p in paper().parameters()) == 2_117_187


@pytest.mark.parametrize(("side", "millions"), [(32, 116), (64, 465)])
def test_the_papers_network_costs_what_the_paper_says(side, millions):
    assert multiplications(paper(side), torch.zeros(1, 1, side, side)) / 1e6 == pytest.approx(
        millions, abs=0.6
    )


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 40), (64, 16)])
def test_the_same_network_runs_at_any_multiple_of_eight(height, width):
    prediction = paper()(torch.ones(2, 1, height, width))
    assert all(plane.shape == (2, 1, height, width) for plane in prediction[:5])


def test_raw_counts_may_come_as_integers():
    counts = torch.randint(0, 1000, (1, 1, 32, 32))
    network = paper()
    assert torch.equal(network(counts.to(torch.int32)).cos, network(counts.float()).cos)


def test_the_amplitude_stays_in_its_range_and_the_phase_on_the_circle():
    prediction = predict(torch.randn(4, 3, 8, 8) * 5, amplitude_range=1.5)
    assert prediction.amplitude.min() >= 0
    assert 1.3 < prediction.amplitude.max() <= 1.5
    assert torch.allclose(prediction.cos**2 + prediction.sin**2, torch.ones(()), atol=1e-5)
    assert prediction.raw_cos.abs().max() <= 1


def test_masked_pixels_reach_neither_the_scaled_input_nor_the_skip():
    network, counts = paper(invalid_counts=65535.0), torch.full((1, 1, 32, 32), 7.0)
    dead, hot = counts.clone(), counts.clone()
    dead[..., 3, 3], hot[..., 3, 3] = 0, 65535
    assert torch.equal(network(hot).amplitude, network(dead).amplitude)
    assert not torch.equal(network(hot).amplitude, network(counts).amplitude)


def test_without_a_sentinel_every_count_is_used():
    counts = torch.tensor([65535.0, 1.0])
    assert torch.equal(valid_counts(counts, None, 0.0), counts)
    assert torch.equal(valid_counts(counts, 65535.0, 0.0), torch.tensor([0.0, 1.0]))


def test_a_point_at_the_origin_is_projected_to_a_number_with_a_finite_gradient():
    cos, sin = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    projected = project_to_circle(cos, sin)
    sum(projected).sum().backward()
    assert all(torch.equal(x.detach(), torch.zeros(1)) for x in projected)
    assert torch.isfinite(cos.grad).all()
    assert torch.isfinite(sin.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_projected_in_single_as_epsilon_would_underflow(dtype):
    assert torch.tensor(1e-8, dtype=torch.float16) == 0
    cos, sin = project_to_circle(torch.tensor([0.0, 3e-4], dtype=dtype), torch.zeros(2, dtype=dtype))
    assert cos.dtype == torch.float32
    assert torch.isfinite(cos).all()
    assert cos[1] == pytest.approx(0.95, abs=0.01)
    assert torch.equal(sin, torch.zeros(2))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frame_shape": (30, 32)}, "multiples of 8"),
        ({"tile_shape": (20, 16)}, "multiples of 8"),
        ({"tile_shape": (0, 16)}, "multiples of 8"),
        ({"tile_shape": (64, 64)}, "larger than the frame"),
        ({"kind": "paper"}, "whole frame"),
        ({"steps": 0}, "computes nothing"),
    ],
)
def test_sizes_that_the_layers_cannot_run_at_are_refused(changes, reason):
    good = {
        "kind": "probe-informed",
        "sadgs": SadgsConfig(10),
        "frame_shape": (32, 32),
        "tile_shape": (16, 16),
    }
    NetworkConfig(**good)
    with pytest.raises(ValueError, match=reason):
        NetworkConfig(**good | changes)


def test_a_configuration_survives_json():
    config = NetworkConfig("probe-informed", SadgsConfig(10), (32, 32), (16, 16), width=8)
    assert msgspec.json.decode(msgspec.json.encode(config), type=NetworkConfig) == config
