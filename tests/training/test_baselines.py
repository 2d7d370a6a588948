import math

import numpy as np
import pytest
import torch
from torch.optim import Adam
from torch.utils.flop_counter import FlopCounterMode

from model.network import NetworkConfig
from model.optics import far_field
from model.sadgs import SadgsConfig
from training.baselines import dpi, ppn, ptychonn, ptynet
from training.method import ScalarPrediction
from training.simulation.factory import FrameFactory, Sample, SimulationRecipe

BASELINES = [ptychonn, dpi, ptynet, ppn]
of_every_baseline = pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: b.__name__.split(".")[-1])


def network(baseline, size=32):
    torch.manual_seed(1)
    return baseline.METHOD.build(NetworkConfig("paper", SadgsConfig(500.0), (size, size), (size, size)))


def frames(n, size=32, peak=1000.0):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(2)) ** 4 * peak


def input_of(layer, run):
    """What a layer is given while `run` runs."""
    seen = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        run()
    handle.remove()
    return seen[0]


def megamacs(baseline, size):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(baseline, size).eval()(frames(1, size))
    return counter.get_total_flops() / 2e6


def truth_of(amplitude, phase):
    phase = torch.as_tensor(phase)
    return Sample(torch.zeros_like(phase), torch.as_tensor(amplitude), torch.cos(phase), torch.sin(phase))


@pytest.mark.parametrize(
    ("baseline", "size", "parameters"),
    [
        (ptychonn, 32, 1_247_074),
        (dpi, 32, 9_445_408),
        (ptynet, 32, 324_452),
        (ppn, 32, 1_602_824),
        (ppn, 64, 17_339_144),
    ],
)
def test_a_network_has_the_published_number_of_parameters(baseline, size, parameters):
    assert sum(p.numel() for p in network(baseline, size).parameters()) == parameters


@pytest.mark.parametrize(
    ("baseline", "size", "expected"),
    [
        (ptychonn, 32, 101),
        (ptychonn, 64, 402),
        (dpi, 32, 286),
        (dpi, 64, 1146),
        (ptynet, 32, 14),
        (ptynet, 64, 56),
        (ppn, 32, 172),
    ],
)
def test_a_frame_costs_the_published_number_of_multiplications(baseline, size, expected):
    assert megamacs(baseline, size) == pytest.approx(expected, rel=0.01)


@of_every_baseline
@pytest.mark.parametrize("size", [32, 64])
def test_a_network_paints_the_whole_frame_in_single_precision_under_bfloat16(baseline, size):
    net = network(baseline, size).eval().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        prediction = net(frames(1, size, peak=39_000.0))
    for plane in prediction:
        assert plane is None or (plane.shape == (1, 1, size, size) and plane.dtype == torch.float32)
        assert plane is None or plane.isfinite().all()


def test_only_dpi_predicts_no_amplitude():
    with torch.no_grad():
        silent = [b for b in BASELINES if network(b).eval()(frames(1)).amplitude is None]
    assert silent == [dpi]


@of_every_baseline
def test_in_service_a_tile_does_not_depend_on_the_frames_beside_it(baseline):
    net = network(baseline)
    counts = frames(5)
    with torch.no_grad():
        net(counts)  # in training mode: batch norm's averages are no longer its first ones
        together = net.eval()(counts)
        alone = net(counts[3:4])
    for plane, one in zip(together, alone, strict=True):
        assert plane is one is None or torch.allclose(plane[3:4], one, atol=1e-5)


@pytest.mark.parametrize("baseline", [dpi, ptynet])
def test_readout_noise_below_zero_and_a_dark_frame_give_numbers(baseline):
    counts = torch.stack([frames(1)[0] - 500.0, torch.zeros(1, 32, 32)])
    with torch.no_grad():
        assert network(baseline).eval()(counts).phase_rad.isfinite().all()


def test_ptychonn_sees_raw_counts():
    net, counts = network(ptychonn), frames(2)
    assert torch.equal(input_of(net.encoder, lambda: net(counts)), counts)


def test_dpi_sees_the_square_root_of_the_counts():
    net, counts = network(dpi), frames(2)
    torch.testing.assert_close(input_of(net.down[0], lambda: net(counts)) ** 2, counts)


def test_ptynet_sees_the_square_root_over_the_frames_largest_whatever_the_exposure():
    net, counts = network(ptynet).eval(), frames(2)
    seen = input_of(net.encoder, lambda: net(counts))
    torch.testing.assert_close(seen, (counts / counts.amax(dim=(2, 3), keepdim=True)).sqrt())
    torch.testing.assert_close(input_of(net.encoder, lambda: net(4 * counts)), seen)


def test_ppn_sees_three_copies_of_the_counts_over_the_largest_met_in_training():
    net, counts = network(ppn), frames(4)
    with torch.no_grad():
        net.train()(counts)
        net.eval()(2 * counts)
    again = network(ppn).eval()
    again.load_state_dict(net.state_dict())
    seen = input_of(again.far, lambda: again(counts[:2]))
    torch.testing.assert_close(seen, (counts[:2] / counts.max()).expand(-1, 3, -1, -1))


def test_dpi_halves_a_frame_four_times_and_says_so():
    with pytest.raises(ValueError, match="multiples of 16"):
        network(dpi, 40)


@pytest.mark.parametrize("baseline", [ptychonn, ptynet, ppn])
def test_the_others_run_at_every_multiple_of_8(baseline):
    with torch.no_grad():
        assert network(baseline, 40).eval()(frames(1, 40)).phase_rad.shape == (1, 1, 40, 40)


def test_ppns_phase_lies_in_the_range_that_its_labels_are_scaled_to():
    config = NetworkConfig("paper", SadgsConfig(500.0), (32, 32), (32, 32))
    net = ppn.PPN(config, phase_range_rad=(-math.pi, math.pi)).eval()
    unbounded = net.phase[-1]
    with torch.no_grad():
        for bias, end in ((-100.0, -math.pi), (100.0, math.pi)):
            unbounded.bias.fill_(bias)
            assert net(frames(1)).phase_rad.unique().tolist() == pytest.approx([end])


def test_pixels_of_the_pattern_attend_along_their_ray_and_near_the_centre_most():
    def pixel(y, x):
        return (16 + y) * 32 + 16 + x

    affinity = ppn.polar_affinity((32, 32))
    here = affinity[pixel(0, 4)]
    assert here[pixel(0, 1)] == pytest.approx(1.0, abs=1e-5)
    assert here[pixel(0, -1)] == pytest.approx(-1.0, abs=1e-5)
    assert here[pixel(5, 0)] == pytest.approx(0.0, abs=1e-6)
    assert here[pixel(0, 8)] == pytest.approx(1 / (1 + math.log(8) / math.log(math.hypot(16, 16))), rel=1e-5)
    assert here[pixel(-16, -16)] == pytest.approx(-math.sqrt(0.5) / 2, rel=1e-5)


def test_ppns_polar_branch_sees_the_pattern():
    branch = network(ppn).far.eval()
    with torch.no_grad():
        one, other = branch(frames(2, peak=1.0).expand(-1, 3, -1, -1))
    assert (one - other).abs().max() > 1e-3 * one.abs().max()


@of_every_baseline
def test_the_truth_itself_costs_nothing(baseline):
    amplitude, phase = torch.rand(2, 1, 8, 8), 6 * torch.rand(2, 1, 8, 8) - 3
    terms = baseline.METHOD.loss(ScalarPrediction(amplitude, phase), truth_of(amplitude, phase))
    assert terms["loss"].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("baseline", "expected"), [(ptychonn, 0.1 + 0.2), (ptynet, 0.1**2 + 0.2**2), (ppn, 0.1**2 + 0.2**2)]
)
def test_amplitude_and_phase_count_alike(baseline, expected):
    flat = torch.full((2, 1, 8, 8), 0.5)
    terms = baseline.METHOD.loss(ScalarPrediction(flat + 0.1, flat - 0.2), truth_of(flat, flat))
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert (terms["amplitude"] + terms["phase"]).item() == pytest.approx(terms["loss"].item())


def test_a_network_of_phase_alone_answers_for_the_phase_alone():
    flat = torch.full((2, 1, 8, 8), 0.5)
    terms = dpi.METHOD.loss(ScalarPrediction(None, flat - 0.2), truth_of(flat, flat))
    assert set(terms) == {"loss", "phase"}
    assert terms["loss"].item() == pytest.approx(0.2)


@of_every_baseline
def test_a_phase_of_plain_numbers_pays_for_the_wrap(baseline):
    near_pi = torch.full((1, 1, 8, 8), 3.1)
    terms = baseline.METHOD.loss(ScalarPrediction(near_pi, near_pi), truth_of(near_pi, -near_pi))
    assert terms["phase"] >= 6.2 - 1e-4


def losses_of_training(net, loss_of, steps):
    optimizer = Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def simulated(probe, n):
    return FrameFactory(probe, (32, 32), n, 1, SimulationRecipe(object_size=64)).make(0)


@pytest.mark.parametrize(("baseline", "steps"), [(ptychonn, 8), (dpi, 6), (ptynet, 50), (ppn, 8)])
def test_a_few_steps_on_one_batch_lower_its_loss_under_bfloat16(baseline, steps, probe):
    net, batch = network(baseline).to(memory_format=torch.channels_last), simulated(probe, 4)
    losses = losses_of_training(net, lambda: baseline.METHOD.loss(net(batch.counts), batch)["loss"], steps)
    assert losses[-1] < 0.9 * losses[0]


def tiles(n):
    rng = np.random.default_rng(3)
    return rng.uniform(0.5, 1.0, (n, 1, 32, 32)), rng.uniform(-3.0, 3.0, (n, 1, 32, 32))


def predicted(amplitude, phase):
    return ScalarPrediction(torch.tensor(amplitude), torch.tensor(phase))


def test_ptynets_physics_loss_is_how_far_the_tiles_pattern_lies_from_the_counts(probe):
    amplitude, phase = tiles(2)
    pattern = far_field(probe, (amplitude * np.exp(1j * phase))[:, 0])[:, None]
    counts = torch.tensor(pattern) + frames(2)
    loss = ptynet.physics_loss(predicted(amplitude, phase), counts, torch.as_tensor(probe))
    assert loss.item() == pytest.approx(frames(2).mean().item(), rel=1e-4)


def test_ptynets_physics_loss_does_not_know_the_absolute_phase(probe):
    amplitude, phase = tiles(1)
    counts, modes = frames(1), torch.as_tensor(probe)
    loss, turned = (
        ptynet.physics_loss(predicted(amplitude, phase + angle), counts, modes).item() for angle in (0, 2)
    )
    assert turned == pytest.approx(loss, rel=1e-4)


def test_tuning_ptynet_on_the_frames_alone_brings_their_patterns_nearer(probe):
    net, counts, modes = network(ptynet), simulated(probe, 4).counts, torch.as_tensor(probe)
    torch.nn.init.constant_(net.decoder[-2].bias, 0.5)  # an object that lets light through, as once trained
    losses = losses_of_training(net, lambda: ptynet.physics_loss(net(counts), counts, modes), 15)
    assert losses[-1] < 0.95 * losses[0]


def test_no_pattern_follows_from_a_phase_alone_or_from_tiles_of_another_size(probe):
    amplitude, phase = tiles(1)
    modes = torch.as_tensor(probe)
    with pytest.raises(ValueError, match="needs its amplitude"):
        ptynet.physics_loss(ScalarPrediction(None, torch.tensor(phase)), frames(1), modes)
    with pytest.raises(ValueError, match="differ"):
        ptynet.physics_loss(predicted(amplitude, phase), frames(1), modes[:, :16, :16])
