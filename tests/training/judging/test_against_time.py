from dataclasses import replace

import numpy as np
import pytest

from model.scans import open_scan
from training.datasets.part import counts_of, restricted
from training.judging import against_time
from training.judging.against_time import Bench, race
from training.judging.iterative_frames import frames_of
from training.judging.refinement_run import RefinementRun
from training.judging.stopwatch import Spent

LIMIT_S = 0.4


@pytest.fixture(scope="module")
def bench(turned_scan):
    """Forty frames at one end of the scan, and the truth."""
    with open_scan(turned_scan) as scan:
        which = np.arange(len(scan)).reshape(5, 40)[:, -8:].ravel()
        reference, counts = restricted(scan.reference(), which), counts_of(scan, which)
    shape = reference.object.shape
    frames = frames_of(counts, reference.positions_px, reference.probe, object_shape=shape)
    where = reference.coverage > 0.5 * reference.coverage.max()
    return Bench(frames, {"object": reference.object, **reference.others}, where)


@pytest.fixture(scope="module")
def rough(bench):
    """A mosaic as a network might paint it: the truth with faults."""
    truth = bench.references["object"]
    faults = np.random.default_rng(3).normal(0, 0.2, truth.shape)
    return (truth * np.exp(1j * faults)).astype(np.complex64)


@pytest.fixture(scope="module")
def ways(bench, rough):
    return {way.name: way.standings for way in race(bench, rough, Spent(0.1, 0.1), LIMIT_S)}


def correlation(standing):
    return standing.resemblances["object"].likeness.phase_correlation


def test_every_way_works_until_its_time_is_up_and_is_judged_on_the_way(ways):
    for name, standings in ways.items():
        seconds = [at.spent.wall_s for at in standings]
        assert seconds == sorted(seconds)
        if name != "network":
            assert seconds[-1] >= LIMIT_S
            assert len(standings) <= against_time.STOPS + 1


def test_a_way_that_begins_with_the_mosaic_has_spent_the_network_s_seconds(ways):
    (network,), refined = ways["network"], ways["network, then rPIE"]
    assert network.spent.wall_s == 0.1
    assert refined[0] == network
    assert all(at.spent.wall_s > 0.1 for at in refined[1:])
    assert ways["rPIE, from an empty object"][0].spent.wall_s < 0.1


@pytest.mark.parametrize("begun_with", ["a mosaic", "an empty object"])
def test_refinement_comes_nearer_to_frames_and_object(bench, rough, begun_with):
    start = rough if begun_with == "a mosaic" else bench.frames.start
    run = RefinementRun(replace(bench.frames, start=start))
    run.iterate()
    once = bench.judge(*run.found(), Spent(), 1)
    for _ in range(4):
        run.iterate()
    often = bench.judge(*run.found(), Spent(), 5)
    assert often.residual < once.residual < bench.frames.residual(start, bench.frames.probe)
    assert correlation(often) > correlation(once) > 0.5


def test_a_tenth_of_the_step_goes_a_tenth_of_the_way(bench):
    frames = bench.frames
    last = frames_of(frames.counts[-1:], frames.top_left_px[-1:], frames.probe, frames.start)
    runs = [RefinementRun(last, step) for step in (1.0, 0.1)]
    for run in runs:
        run.iterate()
    whole, tenth = (run.found()[0] - 1 for run in runs)
    np.testing.assert_allclose(tenth, 0.1 * whole, atol=1e-6)


def test_pty_chi_s_engines_stand_beside_it(ways, bench):
    assert sum("pty-chi" in name for name in ways) == 2
    empty = bench.frames.residual(bench.frames.start, bench.frames.probe)
    assert ways["least squares (pty-chi)"][-1].residual < empty
    assert "least squares, probe updated" in ways


def test_a_likeness_is_told_for_each_reference(ways):
    (network,) = ways["network"]
    found = network.resemblances
    assert set(found) == {"object", "object_noisy"}
    truth, noisy = (found[name].likeness.phase_correlation for name in ("object", "object_noisy"))
    assert truth > noisy


def test_the_probe_that_all_ways_know_is_not_touched(bench):
    before = bench.frames.probe.copy()
    run = RefinementRun(bench.frames)
    assert run.iterate().processor_s > 0
    np.testing.assert_array_equal(run.found()[1], before)


def test_the_start_of_a_refinement_stays_as_it_was(bench, rough):
    run = RefinementRun(replace(bench.frames, start=rough))
    before = rough.copy()
    run.iterate()
    np.testing.assert_array_equal(rough, before)
    assert not np.array_equal(run.found()[0], before)


def test_an_object_that_is_no_number_is_refused(bench):
    nowhere = np.full(bench.where.shape, np.nan, np.complex64)
    with pytest.raises(ValueError, match="diverged by iteration 3"):
        bench.judge(nowhere, bench.frames.probe, Spent(), 3)
