import dataclasses
import itertools

import numpy as np
import pytest
import torch

from model.optics import intensity
from training.judging.held_out_scans import ScanSeries, held_out_scan, mosaic_errors, stitched_figures
from training.simulation.factory import gauge_phase
from training.simulation.probes import diameter_px

SERIES = ScanSeries(objects=2, frames=16)


def tiles_of(truth, edge_px=32):
    """The true tiles (N, edge, edge) in the middle of each frame."""
    at = 16 - edge_px // 2
    corners = truth.positions_px.astype(int) + at
    return np.stack([truth.object[y : y + edge_px, x : x + edge_px] for y, x in corners])


def oracle(tiles):
    """A network that says these tiles in turn, after the first, untimed batch."""
    given = itertools.chain([tiles], np.split(tiles, range(32, len(tiles), 32)))

    def predict(counts):
        some = next(given)[: len(counts)]
        return np.abs(some), np.angle(some)

    return predict


def in_gauge(tiles, probe):
    light = torch.as_tensor(intensity(probe).astype(np.float32))
    return tiles * np.exp(-1j * gauge_phase(torch.as_tensor(tiles), light).numpy())


def test_neighbouring_positions_overlap_by_three_quarters_of_the_probe(probe):
    _, truth = held_out_scan(probe, "spokes", 0, 1.0, ScanSeries(frames=100))
    steps = np.diff(truth.positions_px[:10, 1])
    assert steps.mean() == pytest.approx(diameter_px(probe) / 4, abs=0.3)


def test_an_exposure_changes_how_strong_an_object_looks_and_nothing_else(probe):
    once, twice = (held_out_scan(probe, "zones", 1, exposure, SERIES) for exposure in (1.0, 2.0))
    np.testing.assert_allclose(twice[1].object, np.sqrt(2) * once[1].object, rtol=1e-5)
    assert twice[0].sum() == pytest.approx(2 * once[0].sum(dtype=float), rel=0.05)


def test_objects_differ_by_number_and_family(probe):
    scans = [
        held_out_scan(probe, *which, 1.0, SERIES)[1] for which in (("zones", 0), ("zones", 1), ("bars", 0))
    ]
    first, second, third = (truth.object[:32, :32] for truth in scans)
    assert not np.allclose(first, second)
    assert not np.allclose(first, third)


@pytest.mark.parametrize("edge_px", [32, 24])
def test_true_tiles_make_the_true_object_whatever_their_edge(probe, edge_px):
    counts, truth = held_out_scan(probe, "spokes", 0, 1.0, SERIES)
    errors = mosaic_errors(oracle(tiles_of(truth, edge_px)), counts, truth)
    assert errors.phase_rad == pytest.approx(0, abs=1e-4)
    assert errors.amplitude == pytest.approx(0, abs=1e-5)


def test_true_tiles_in_their_gauge_must_be_turned_to_fit_each_other(probe):
    counts, truth = held_out_scan(probe, "cells", 0, 1.0, SERIES)
    errors = mosaic_errors(oracle(in_gauge(tiles_of(truth), probe)), counts, truth)
    assert errors.phase_rad == pytest.approx(0, abs=1e-3)
    assert errors.unturned_phase_rad > 0.01


def test_one_turn_of_the_whole_object_is_no_error(probe):
    counts, truth = held_out_scan(probe, "spokes", 0, 1.0, SERIES)
    errors = mosaic_errors(oracle(tiles_of(truth) * np.exp(1.3j)), counts, truth)
    assert errors.unturned_phase_rad == pytest.approx(0, abs=1e-4)


def test_painting_nothing_costs_the_whole_phase(probe):
    counts, truth = held_out_scan(probe, "spokes", 0, 1.0, SERIES)
    flat = mosaic_errors(oracle(np.ones_like(tiles_of(truth))), counts, truth)
    assert flat.phase_rad == pytest.approx(flat.flat_phase_rad, rel=0.02)
    assert flat.phase_rad > 0.02


def test_refinement_brings_a_flat_object_nearer_to_the_truth_and_leaves_the_true_one_there(probe):
    counts, truth = held_out_scan(probe, "spokes", 0, 1.0, SERIES)
    errors = mosaic_errors(oracle(tiles_of(truth)), counts, truth)
    assert errors.refined_flat_phase_rad < 0.8 * errors.flat_phase_rad
    assert errors.refined_phase_rad < 0.5 * errors.refined_flat_phase_rad
    assert errors.sweep_ms > 0


def test_a_family_is_judged_at_every_exposure_on_every_object(probe):
    def nothing(counts):
        return np.ones((len(counts), 24, 24), np.float32), np.zeros((len(counts), 24, 24), np.float32)

    found = list(
        stitched_figures(nothing, probe, "spokes", dataclasses.replace(SERIES, exposures=(1.0, 4.0)))
    )
    assert [row.exposure for row in found] == [1.0, 4.0]
    assert all(len(row.phase_rms_rad) == len(row.amplitude_rms) == 2 for row in found)
    assert found[0].phase_rms_rad == pytest.approx(found[1].phase_rms_rad)
    assert min(found[1].amplitude_rms) > 0.5  # at four times the exposure an object looks twice as strong
