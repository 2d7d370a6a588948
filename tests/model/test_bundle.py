import hashlib
import json

import msgspec
import numpy as np
import pytest

from model import bundle as bundles
from model.bundle import BundleDescription, BundleError, ProbeDescription, find_bundle, load_bundle


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(folder, **changes):
    values = {
        "name": "star",
        "kind": "probe-informed",
        "onnx_sha256": sha256(folder / "model.onnx"),
        "frame_shape": (16, 16),
        "tile_shape": (8, 8),
        "counts_dtype": "uint16",
        "invalid_counts": 65535.0,
        "detector_saturation": 65534.0,
        "clip_level": 4095.0,
        "percentile": 99.5,
        "percentile_counts": 984.0,
        "gains": (3.5, 56.0),
        "object_pixel_m": 3e-8,
        "output_ranges": {"amplitude": (0.0, 1.5)},
        "probe": ProbeDescription(sha256=sha256(folder / "probe.npy"), modes=2),
        "parameters": 1,
        "training": {},
        "figures": {},
    }
    return BundleDescription(**values | changes)


@pytest.fixture
def folder(tmp_path, rng):
    (tmp_path / "model.onnx").write_bytes(b"not read here, only hashed")
    field = rng.normal(size=(2, 16, 16)) + 1j * rng.normal(size=(2, 16, 16))
    np.save(tmp_path / "probe.npy", field.astype(np.complex64))
    bundles.write_description(tmp_path, describe(tmp_path))
    return tmp_path


def rewrite(folder, **changes):
    """Change the description as a text editor would."""
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(values | changes))


def refusal(folder):
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bundle_is_read_back_as_it_was_written(folder):
    bundle = load_bundle(folder)
    assert bundle.description == describe(folder)
    assert bundle.onnx == folder / "model.onnx"
    np.testing.assert_array_equal(bundle.probe, np.load(folder / "probe.npy"))
    bundle.probe[0, 0, 0] = 1  # memory of its own


def test_the_description_is_for_people_to_read_too(folder):
    bundles.write_description(folder, describe(folder, name="étoile"))
    text = (folder / "model.json").read_text(encoding="utf-8")
    assert '  "name": "étoile",\n' in text


@pytest.mark.parametrize("file", ["model.json", "model.onnx", "probe.npy"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    assert file in refusal(folder)


def test_a_network_that_is_not_the_one_described_is_refused(folder):
    (folder / "model.onnx").write_bytes(b"another")
    assert "copied whole" in refusal(folder)


def test_a_probe_that_is_not_the_one_described_is_refused(folder):
    np.save(folder / "probe.npy", np.load(folder / "probe.npy") * 2)
    assert "not the probe" in refusal(folder)


@pytest.mark.parametrize(
    "probe",
    [
        np.ones((2, 8, 16), np.complex64),
        np.ones((1, 16, 16), np.complex64),
        np.ones((2, 16, 16), np.complex128),
    ],
)
def test_a_probe_of_another_shape_or_type_is_refused(folder, probe):
    np.save(folder / "probe.npy", probe)
    bundles.write_description(folder, describe(folder))
    assert "the description says complex64 (2, 16, 16)" in refusal(folder)


@pytest.mark.parametrize(
    "shape", ["(1000000000000, 16, 16)", "(1" + "0" * 40 + ",)", "(-1, 16)", "((", "[1", "x()"]
)
def test_a_forged_header_of_the_probe_takes_no_memory(folder, shape):
    header = f"{{'descr': '<c8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    forged = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    (folder / "probe.npy").write_bytes(forged)
    bundles.write_description(folder, describe(folder))
    assert "is not an array" in refusal(folder)


def test_pickled_objects_in_the_probe_are_not_loaded(folder):
    np.save(folder / "probe.npy", np.array([{}]), allow_pickle=True)
    bundles.write_description(folder, describe(folder))
    assert "is not an array" in refusal(folder)


@pytest.mark.parametrize(
    "file", ["../probe.npy", "/etc/passwd", "..", "", "a/b.npy", "a\0b", ".hidden", "a\n"]
)
def test_the_probes_file_cannot_lead_out_of_the_bundle(folder, file):
    np.save(folder.parent / "probe.npy", np.load(folder / "probe.npy"))
    probe = {"sha256": sha256(folder / "probe.npy"), "modes": 2, "file": file}
    rewrite(folder, probe=probe)
    assert "$.probe.file" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"colour": "red"}, "colour"),
        ({"frame_shape": [16]}, "frame_shape"),
        ({"tile_shape": [-8, 8]}, "tile_shape"),
        ({"format": 2}, "format"),
        ({"onnx_sha256": "no hash"}, "onnx_sha256"),
        ({"gains": "many"}, "gains"),
    ],
)
def test_an_unknown_key_or_a_wrong_value_is_named(folder, changes, where):
    rewrite(folder, **changes)
    assert where in refusal(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_what_is_not_a_description_is_refused(folder, text):
    (folder / "model.json").write_bytes(text)
    assert "not a bundle's description" in refusal(folder)


def test_a_description_too_large_to_be_one_is_not_read(folder):
    with (folder / "model.json").open("wb") as file:
        file.truncate(bundles.MAX_DESCRIPTION_BYTES + 1)
    assert "more than" in refusal(folder)


def test_a_description_nested_without_end_is_refused(folder):
    text = msgspec.json.encode(describe(folder)).replace(
        b'"training":{}', b'"training":{"a":' + b"[" * 500_000
    )
    (folder / "model.json").write_bytes(text)
    assert "not a bundle's description" in refusal(folder)


def test_a_folder_is_found_by_path_and_a_shipped_bundle_by_name(folder, monkeypatch):
    assert find_bundle(str(folder)) == folder
    monkeypatch.setattr(bundles, "BUNDLES", folder.parent)
    assert find_bundle(folder.name) == folder


@pytest.mark.parametrize("name", ["nowhere", "", "a" * 5000, "a\0b"])
def test_a_bundle_that_does_not_exist_is_refused_with_the_names_of_those_that_do(name, folder, monkeypatch):
    monkeypatch.setattr(bundles, "BUNDLES", folder.parent)
    with pytest.raises(BundleError, match=folder.name):
        find_bundle(name)


TRUST = {
    "residual": [0.1, 0.2], "error_rad": [[0.1, 0.2], [0.2, 0.2], [0.3, 0.5]], "frame_counts": [1e4, 2e4]
}  # fmt: skip


def test_a_bundle_tells_when_it_is_to_be_believed(folder):
    assert load_bundle(folder).description.trust is None
    rewrite(folder, trust=TRUST)
    trust = load_bundle(folder).description.trust
    assert trust.error_rad == ((0.1, 0.2), (0.2, 0.2), (0.3, 0.5))
    assert (trust.residual, trust.frame_counts) == ((0.1, 0.2), (1e4, 2e4))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"residual": [0.2, 0.1]}, "residual must not fall"),
        ({"residual": [0.0, 0.1]}, "residual must be finite and positive"),
        ({"frame_counts": [2e4, 1e4]}, "frame_counts must not fall"),
        ({"frame_counts": [-1, 1e4]}, "frame_counts must be finite and positive"),
        ({"error_rad": []}, "two at least"),
        ({"error_rad": [[0.1, 0.2]]}, "two at least"),
        ({"error_rad": [[0.2, 0.1], [0.2, 0.2]]}, "residuals of error_rad must rise"),
        ({"error_rad": [[0.1, 0.2], [0.2, 0.1]]}, "error_rad must not fall"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(folder, changes, reason):
    rewrite(folder, trust=TRUST | changes)
    assert reason in refusal(folder)
