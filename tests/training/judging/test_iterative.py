import logging
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from model.judge import forward_residual, likeness
from model.optics import far_field
from training.judging.iterative import IterativeSettings, iterate, reconstruct
from training.judging.iterative_frames import frames_of
from training.judging.ptychi_engine import imported, torchvision_works
from training.simulation.objects import discs

HEIGHT, WIDTH = 32, 27  # neither square nor even: an axis or a centre mistaken shows
ENGINES = ("epie", "rpie", "difference-map", "least-squares")
# The difference map damps the object in faint light: even the true one does not stay as it was.
DRIFT = {"epie": 1e-5, "rpie": 1e-5, "difference-map": 0.04, "least-squares": 1e-5}
SHORT = IterativeSettings("epie", iterations=3, batch=8, update_probe=False, device="cpu")


@dataclass(frozen=True)
class Scan:
    """A scan without noise, and the object and the probe that made it."""

    counts: np.ndarray
    corners: np.ndarray
    probe: np.ndarray
    truth: np.ndarray

    def residual(self, transmission):
        return forward_residual(self.probe, transmission, self.counts, self.corners)

    def likeness(self, transmission):
        """Compare where at least three tenths of the brightest light fell."""
        coverage = np.zeros(self.truth.shape)
        for y, x in self.corners.astype(int):
            coverage[y : y + HEIGHT, x : x + WIDTH] += np.square(np.abs(self.probe)).sum(axis=0)
        return likeness(transmission, self.truth, coverage > 0.3 * coverage.max())


@pytest.fixture(scope="module")
def probe():
    """Two modes, defocused, about 50 000 photons."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] - np.array([HEIGHT // 2, WIDTH // 2])[:, None, None]
    first = np.exp(-(y**2 + x**2) / 100 + 0.03j * (y**2 + x**2))
    modes = np.stack([first, 0.03 * x * first])
    return (modes * np.sqrt(50_000 / np.square(np.abs(modes)).sum())).astype(np.complex64)


@pytest.fixture(scope="module")
def scan(probe):
    """8 x 8 positions over an object of 96 x 91 pixels."""
    rng = np.random.default_rng(1)
    thickness = discs(rng, 96)[:, :91]
    truth = ((1 - 0.3 * thickness) * np.exp(-1.2j * thickness)).astype(np.complex64)
    places = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), axis=-1).reshape(-1, 2)
    corners = np.clip(9 * places + rng.integers(-1, 2, places.shape), 0, 64)
    tiles = np.stack([truth[y : y + HEIGHT, x : x + WIDTH] for y, x in corners])
    return Scan(far_field(probe, tiles), corners.astype(float), probe, truth)


def run(scan, settings, **more):
    more.setdefault("object_shape", scan.truth.shape)
    return reconstruct(scan.counts, scan.corners, scan.probe, settings, **more)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_finds_the_object_from_an_empty_one(scan, engine):
    empty = scan.residual(np.ones_like(scan.truth))
    found = run(scan, replace(SHORT, engine=engine, iterations=60, batch=16))
    assert found.residuals[0] == pytest.approx(empty)
    assert found.residuals[60] == pytest.approx(scan.residual(found.object))
    assert found.residuals[60] < 0.1 * empty
    assert scan.likeness(found.object).phase_correlation > 0.9


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("update_probe", [False, True])
def test_the_true_object_and_probe_stay_as_they_are(scan, engine, update_probe):
    found = run(scan, replace(SHORT, engine=engine, update_probe=update_probe), start=scan.truth)
    assert max(found.residuals.values()) < DRIFT[engine]
    assert scan.likeness(found.object).phase_correlation > 0.97


@pytest.mark.parametrize("engine", ENGINES)
def test_positions_between_pixels_shift_the_probe(scan, engine):
    rng = np.random.default_rng(2)
    between = rng.uniform(-0.4, 0.4, scan.corners.shape)
    corners = np.clip(scan.corners, 1, 63) + between
    counts = []
    for (y, x), shift in zip(np.round(corners).astype(int), between, strict=True):
        shifted = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(scan.probe[0]), shift))
        counts.append(far_field(shifted[None], scan.truth[None, y : y + HEIGHT, x : x + WIDTH])[0])
    sub_pixel = replace(scan, counts=np.stack(counts), corners=corners, probe=scan.probe[:1])
    found = run(sub_pixel, replace(SHORT, engine=engine), start=scan.truth)
    assert max(found.residuals.values()) < DRIFT[engine]


def test_a_wrong_probe_is_mended_at_the_power_it_had(scan):
    y = np.arange(HEIGHT)[:, None] - HEIGHT // 2
    wrong = replace(scan, probe=scan.probe * np.exp(0.003j * y**2).astype(np.complex64))
    fixed, mended = (
        run(wrong, replace(SHORT, iterations=12, update_probe=update)) for update in (False, True)
    )
    np.testing.assert_allclose(fixed.probe, wrong.probe, rtol=1e-5)
    assert mended.residuals[12] < 0.5 * fixed.residuals[12]
    power = np.square(np.abs(wrong.probe)).sum()
    assert np.square(np.abs(mended.probe)).sum() == pytest.approx(power, rel=1e-4)


@pytest.mark.parametrize("engine", ["epie", "rpie"])
def test_one_batch_may_hold_every_overlapping_frame(scan, engine):
    found = run(scan, replace(SHORT, engine=engine, iterations=30, batch=len(scan.counts)))
    assert found.residuals[30] < 0.1 * found.residuals[0]


@pytest.mark.long
def test_positions_that_err_are_corrected(scan):
    rng = np.random.default_rng(3)
    wrong = replace(scan, corners=np.clip(scan.corners + rng.uniform(-0.6, 0.6, scan.corners.shape), 0, 64))
    settings = replace(SHORT, engine="least-squares", iterations=25, batch=16)
    kept, corrected = (
        run(wrong, replace(settings, correct_positions=correct), start=scan.truth)
        for correct in (False, True)
    )
    np.testing.assert_allclose(kept.top_left_px, wrong.corners, atol=1e-4)
    assert misplaced_px(corrected, scan) < 0.9 * misplaced_px(kept, scan)
    assert corrected.residuals[25] < 0.95 * kept.residuals[25]


def misplaced_px(found, scan):
    """Root mean square error of the positions, but for a shift of all of them."""
    error = found.top_left_px - scan.corners
    return np.sqrt(np.square(error - error.mean(axis=0)).mean())


def test_dead_pixels_say_nothing(scan):
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[3:6] = False
    spoiled = np.where(valid, scan.counts, 1e6)
    settings = replace(SHORT, engine="least-squares", iterations=20, batch=16)
    frames = frames_of(spoiled, scan.corners, scan.probe, object_shape=scan.truth.shape, valid=valid)
    assert iterate(frames, settings).residuals[20] < 0.2 * frames.residual(frames.start, frames.probe)


def test_the_order_of_the_frames_is_the_seeds(scan):
    once, again, other = (run(scan, replace(SHORT, seed=seed)).object for seed in (1, 1, 2))
    np.testing.assert_allclose(once, again, atol=1e-4)
    assert np.abs(once - other).max() > 1e-3


def test_time_and_progress_are_told(scan):
    done = []
    found = run(scan, SHORT, progress=done.append)
    assert done == [1, 2, 3]
    assert set(found.residuals) == {0, 1, 2, 3}
    assert 0 < found.seconds < 60
    assert found.seconds_per_frame == pytest.approx(found.seconds / len(scan.counts))


def test_the_smallest_object_that_holds_all_patches_is_the_default(scan):
    found = run(scan, SHORT, object_shape=None)
    assert found.object.shape == tuple(scan.corners.max(axis=0).astype(int) + np.array([HEIGHT, WIDTH]))
    assert np.array_equal(found.top_left_px, scan.corners)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_printed_and_torch_is_left_as_it_was(scan, engine, capfd, caplog):
    def state():
        log = logging.getLogger("ptychi")
        torchs = torch.get_default_device(), torch.get_default_dtype(), torch.random.get_rng_state().tolist()
        return torchs, log.level, list(logging.getLogger().handlers), np.random.get_state()[1].tolist()

    caplog.set_level(logging.INFO)
    torch.set_default_dtype(torch.float64)
    try:
        before = state()
        run(scan, replace(SHORT, engine=engine, iterations=1))
        assert state() == before
    finally:
        torch.set_default_dtype(torch.float32)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith(("root", "ptychi"))]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("counts", lambda counts: counts[0], "do not fit"),
        ("counts", lambda counts: counts[:0], "do not fit"),
        ("counts", lambda counts: counts - 1, "photons"),
        ("counts", lambda counts: 0 * counts, "dark"),
        ("counts", lambda counts: np.where(counts > 10, np.nan, counts), "masked"),
        ("corners", lambda corners: corners[1:], "do not fit"),
        ("corners", lambda corners: corners - 5, "top-left"),
        ("corners", lambda corners: 2 * corners, "top-left"),
        ("probe", lambda probe: probe[0], "modes, H, W"),
        ("probe", lambda probe: probe[:, 1:], "modes, H, W"),
        ("truth", lambda truth: truth[1:], "object's shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(scan, name, change, says):
    wrong = replace(scan, **{name: change(getattr(scan, name))})
    with pytest.raises(ValueError, match=says):
        run(wrong, SHORT, start=wrong.truth, object_shape=scan.truth.shape)


def test_a_probe_far_too_weak_for_the_counts_ends_with_a_word_on_its_power(scan):
    weak = replace(scan, probe=scan.probe * np.float32(1e-25))
    with pytest.raises(ValueError, match="power"):
        run(weak, replace(SHORT, engine="least-squares"))


@pytest.mark.parametrize("wrong", [{"engine": "raar"}, {"iterations": 0}, {"batch": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"engine|at least 1"):
        IterativeSettings(**wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no GPU"):
        IterativeSettings(device="cuda")


@pytest.mark.parametrize(
    ("says", "works"),
    [("pass", True), ("raise RuntimeError('operator torchvision::nms does not exist')", False)],
)
def test_a_torchvision_built_for_another_torch_counts_as_none(tmp_path, monkeypatch, says, works):
    install_torchvision(tmp_path, monkeypatch, says)
    assert torchvision_works() is works


def test_a_torchvision_that_fails_otherwise_is_told_of(tmp_path, monkeypatch):
    install_torchvision(tmp_path, monkeypatch, "raise RuntimeError('out of memory')")
    with pytest.raises(RuntimeError, match="out of memory"):
        torchvision_works()


def install_torchvision(folder, monkeypatch, source):
    """Put a package of that name, whose source is this line, before all others."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision/__init__.py").write_text(source)
    (folder / "torchvision/transforms.py").touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_without_pty_chi_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr("training.judging.ptychi_engine.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'ptycholive\[iterative\]'"):
        imported("ptychi.never_imported")
