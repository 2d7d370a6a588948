"""Scans reconstructed to teach, and mosaics that start an iterative engine."""

import re

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from model.scans import open_scan, write_scan
from training.judging.measured_frames import probe_of, read_start, with_modes
from training.label import command as label
from training.refine import command as refine

PIXEL_M = 2e-8  # of conftest's geometry
BRIEF = "--iterations 6 --batch 40 --device cpu"


@pytest.fixture(scope="module")
def recorded(turned_scan, tmp_path_factory):
    """The scan as a recorder leaves it, without a reconstruction; one pixel of its detector is dead."""
    path = tmp_path_factory.mktemp("recorded") / "scan7.h5"
    with open_scan(turned_scan) as scan:
        mask = np.zeros(scan.frame_shape, bool)
        mask[3, 4] = True
        frames = scan.frames()
        frames[:, 3, 4] = 65535
        geometry = {n: getattr(scan, n) for n in ("wavelength_m", "distance_m", "detector_pixel_m")}
        write_scan(path, frames, scan.positions_m, **geometry, mask=mask)
    return path


@pytest.fixture(scope="module")
def result(turned_scan, tmp_path_factory):
    """A result file as `serve` writes it, whose mosaic is the true object where the light is."""
    path = tmp_path_factory.mktemp("result") / "scan7.h5"
    with open_scan(turned_scan) as scan:
        reference, positions_px = scan.reference(), scan.positions_m / PIXEL_M
    origin = np.round(positions_px[0] - 16 - reference.positions_px[0]).astype(int)
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        planes = {"phase": np.angle(reference.object), "amplitude": np.abs(reference.object)}
        for name, plane in planes.items():
            group = entry.create_group(name)
            group["data"] = plane
            for axis, first, count in zip("yx", origin, plane.shape, strict=True):
                group[axis] = (first + np.arange(count)) * PIXEL_M
    return path


def run(command, words):
    return CliRunner().invoke(command, words.split(), catch_exceptions=False)


def test_a_recorded_scan_gets_object_and_probe_beside_its_frames(recorded, turned_scan, tmp_path):
    out = tmp_path / "labelled.cxi"
    done = run(label, f"{recorded} --out {out} --probe {turned_scan} --iterations 40 --batch 40 --device cpu")
    assert done.exit_code == 0, done.output
    with open_scan(out) as scan, open_scan(recorded) as before:
        reference = scan.reference()
        np.testing.assert_array_equal(scan.frames(), before.frames())
        np.testing.assert_array_equal(scan.mask, before.mask)
        np.testing.assert_allclose(scan.positions_m, before.positions_m)
    assert reference.object_pixel_m == pytest.approx(scan.object_pixel_m)
    assert len(reference.positions_px) == len(before)
    last, empty = (float(number) for number in re.findall(r"0\.\d{4}", done.output))
    assert last < 0.7 * empty


def test_a_mosaic_reaches_in_fewer_iterations_what_an_empty_object_reaches(turned_scan, result, tmp_path):
    out = tmp_path / "refined.cxi"
    figure = tmp_path / "refine.svg"
    words = f"{turned_scan} --start {result} --out {out} --figure {figure} --compare --keep-probe {BRIEF}"
    done = run(refine, words)
    assert done.exit_code == 0, done.output
    first, second, _, *rows = done.output.splitlines()
    assert first.startswith("from the mosaic: forward residual 0.")
    assert second.startswith("from an empty object: forward residual 0.")
    assert [row.split()[0] for row in rows] == ["1", "2", "5", "6"]
    assert [row.split()[2:] for row in rows] == [["0", "0%"]] * 4
    assert "from an empty object" in figure.read_text()
    with open_scan(out) as scan:
        assert scan.reference() is not None


def test_the_refined_object_of_a_result_is_the_better_start(result, tmp_path):
    refined = tmp_path / "refined.h5"
    refined.write_bytes(result.read_bytes())
    with h5py.File(refined, "a") as file:
        for name, value in (("phase", 0.5), ("amplitude", 0.9)):
            file[f"entry/refined_{name}/data"] = np.full(file[f"entry/{name}/data"].shape, value)
    np.testing.assert_allclose(read_start(refined).transmission, 0.9 * np.exp(0.5j), rtol=1e-5)
    assert read_start(refined).origin_px == read_start(result).origin_px


def test_more_modes_than_the_probe_has_are_added_faintly(probe):
    more = with_modes(probe, 4)
    np.testing.assert_array_equal(more[:2], probe)
    power = np.square(np.abs(more)).sum(axis=(1, 2))
    assert (power[2:] > 0).all()
    assert (power[2:] < 0.01 * power[0]).all()


def test_a_probe_is_made_as_strong_as_the_frames(turned_scan):
    with open_scan(turned_scan) as scan:
        counts = scan.frames() // 4
    counts[:, 3, 4] = 16_000  # a hot pixel, marked
    mask = np.zeros(counts.shape[1:], bool)
    mask[3, 4] = True
    found = probe_of(str(turned_scan), counts, mask, None)
    counts[:, mask] = 0
    assert np.square(np.abs(found)).sum() == pytest.approx(counts.sum(axis=(1, 2)).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--out {out}", "no reference reconstruction"),
        ("--out {out} --probe nowhere", "no bundle at 'nowhere'"),
        ("--out {out} --probe siemens-star", "a probe of (128, 128) for frames of (32, 32)"),
        ("--out {out} --probe {scan} --engine difference-map --correct-positions", "take another engine"),
    ],
)
def test_what_cannot_be_reconstructed_is_told_in_one_line(recorded, turned_scan, tmp_path, words, reason):
    done = run(label, f"{recorded} {words.format(out=tmp_path / 'out.cxi', scan=turned_scan)}")
    assert done.exit_code == 2
    assert reason in done.output.splitlines()[-1]
    assert not (tmp_path / "out.cxi").exists()


def test_a_start_that_is_no_result_or_lies_elsewhere_is_refused(turned_scan, result, tmp_path):
    done = run(refine, f"{turned_scan} --start {turned_scan} {BRIEF}")
    assert (done.exit_code, "no result file" in done.output) == (2, True)
    far = tmp_path / "far.h5"
    far.write_bytes(result.read_bytes())
    with h5py.File(far, "a") as file:
        file["entry/phase/y"][...] += 5000 * PIXEL_M
    done = run(refine, f"{turned_scan} --start {far} {BRIEF}")
    assert (done.exit_code, "lies beside the scan" in done.output) == (2, True)
