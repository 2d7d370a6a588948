"""A folder of bundles, each under its hash, and which of them is in use."""

import hashlib
import json

import msgspec
import numpy as np
import pytest

from model.bundle import BUNDLES, BundleError, load_bundle, write_description
from training.registry import Activation, Lineage, Registry, RegistryError

DATE = "2026-01-02T03:04:05+00:00"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "bundles")


@pytest.fixture
def bundle(tmp_path):
    """Make a bundle whose network is the given bytes: a registry reads hashes, it runs nothing."""

    def made(network, name="today"):
        folder = tmp_path / f"outside-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(network)
        np.save(folder / "probe.npy", np.ones((2, 8, 8), np.complex64))
        told = load_bundle(BUNDLES / "siemens-star").description
        probe = msgspec.structs.replace(
            told.probe, file="probe.npy", sha256=sha256((folder / "probe.npy").read_bytes()), modes=2
        )
        write_description(
            folder,
            msgspec.structs.replace(
                told,
                name=name,
                onnx_sha256=sha256(network),
                frame_shape=(8, 8),
                tile_shape=(4, 4),
                probe=probe,
            ),
        )
        return load_bundle(folder)

    return made


@pytest.fixture
def three(registry, bundle):
    return [registry.adopt(bundle(network), DATE) for network in (b"first", b"second", b"third")]


def test_a_bundle_lies_under_its_name_and_hash_and_can_be_served_from_there(registry, bundle):
    entry = registry.adopt(bundle(b"network", "star"), DATE)
    assert entry.name == f"star-{sha256(b'network')[:12]}"
    assert load_bundle(entry.path).description.name == "star"
    assert registry.entries() == [entry]
    assert registry.find(sha256(b"network")) == entry
    assert registry.find(sha256(b"another")) is None
    assert (entry.lineage().date, entry.lineage().parent_sha256, entry.checkpoint) == (DATE, None, None)


def test_the_same_network_is_entered_once_and_keeps_its_first_record(registry, bundle):
    first = registry.adopt(bundle(b"network"), DATE)
    assert registry.adopt(bundle(b"network"), "2027-01-01T00:00:00+00:00") == first
    assert first.lineage().date == DATE
    assert len(registry.entries()) == 1


def test_the_one_in_use_is_a_link_that_a_service_can_start_from(registry, three):
    assert registry.active() is None
    registry.activate(three[0], "adopted", DATE)
    registry.activate(three[1], "retrained", DATE)
    assert registry.active() == three[1]
    assert load_bundle(registry.folder / "active").description.onnx_sha256 == sha256(b"second")


def test_rolling_back_goes_down_step_by_step_to_the_first(registry, three):
    for entry in three:
        registry.activate(entry, "retrained", DATE)
    for expected in (three[1], three[0]):
        registry.activate(registry.before(), "rolled back", DATE)
        assert registry.active() == expected
    with pytest.raises(RegistryError, match="first that was in use"):
        registry.before()


def test_the_history_tells_what_replaced_what_and_why(registry, three):
    registry.activate(three[0], "adopted", DATE)
    registry.activate(three[0], "adopted", DATE)
    registry.activate(three[2], "retrained", DATE)
    lines = (registry.folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["bundle"] for line in lines] == [three[0].name, three[2].name]
    assert registry.history()[-1] == Activation(three[2].name, three[0].name, DATE, "retrained")


def test_with_nothing_in_use_there_is_nothing_to_go_back_to(registry):
    with pytest.raises(RegistryError, match="no bundle is in use"):
        registry.before()


def test_what_is_not_admitted_leaves_nothing_behind(registry):
    with registry.stage() as staged:
        (staged / "model.onnx").write_bytes(b"half")
        with pytest.raises(BundleError):
            registry.admit(staged, Lineage(name="x", onnx_sha256="0", probe_sha256="0", date=DATE))
    assert list(registry.folder.iterdir()) == []


def test_the_lineage_of_another_network_is_refused(registry, bundle):
    whole = bundle(b"network")
    with registry.stage() as staged:
        for file in whole.path.iterdir():
            (staged / file.name).write_bytes(file.read_bytes())
        with pytest.raises(RegistryError, match="another network"):
            registry.admit(staged, Lineage(name="x", onnx_sha256="0", probe_sha256="0", date=DATE))


@pytest.mark.parametrize("text", ["", "{", '{"name": "x"}'])
def test_a_damaged_lineage_is_told(registry, three, text):
    (three[0].path / "lineage.json").write_text(text)
    with pytest.raises(RegistryError, match="not a registry's record"):
        three[0].lineage()


def test_a_link_to_a_bundle_that_is_gone_is_told(registry, three):
    registry.activate(three[0], "adopted", DATE)
    three[0].path.rename(registry.folder.parent / "elsewhere")
    with pytest.raises(RegistryError, match="holds no bundle"):
        registry.active()
