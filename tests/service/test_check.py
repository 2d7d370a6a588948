"""`check`: OK, TIMEOUT or ERROR of each stream, the engine and the bundle."""

import threading

import pytest
import zmq

from service.check import check_all
from service.config import Settings
from service.outlets import Destination
from service.replay import ReplayPlan, run_replay

LOOPBACK = "tcp://127.0.0.1:*"
QUIET_S = 0.05


@pytest.fixture
def found(tiny_bundle):
    """Return what checks and gives verdict and detail by part."""

    def check(timeout_s=QUIET_S, **settings):
        told = Settings(
            **{"bundle": str(tiny_bundle), "threads": 1, "images": LOOPBACK, "images_bind": True} | settings
        )
        return {finding.what: (finding.verdict, finding.detail) for finding in check_all(told, timeout_s)}

    return check


@pytest.fixture
def detector(tiny_file, tmp_path):
    """Return what replays the small scan at an endpoint of its own, and gives that."""
    stop = threading.Event()
    threads = []

    def start(**plan):
        endpoint = f"ipc://{tmp_path}/detector-{len(threads)}"
        told = ReplayPlan(**{"scan": "tiny", "rate_hz": 100, **plan})
        args = (tiny_file, told, Destination(endpoint, bind=True), None, stop)
        threads.append(threading.Thread(target=run_replay, args=args))
        threads[-1].start()
        return endpoint

    yield start
    stop.set()
    for thread in threads:
        thread.join(10)


def test_bundle_and_engine_are_ok_and_a_quiet_stream_times_out(found):
    parts = found()
    assert list(parts) == ["bundle", "engine", "images"]
    assert parts["bundle"] == ("OK", parts["bundle"][1])
    assert "tiny, frames (32, 32), sha256 " in parts["bundle"][1]
    assert parts["engine"][0] == "OK"
    assert "onnxruntime on cpu" in parts["engine"][1]
    assert parts["images"][0] == "TIMEOUT"
    assert "armed" in parts["images"][1]


@pytest.mark.parametrize("format_", ["native", "dectris-v2"])
def test_a_stream_that_speaks_is_ok(found, detector, format_):
    endpoint = detector(format=format_)
    verdict, detail = found(10.0, images=endpoint, images_bind=False, images_format=format_)["images"]
    assert (verdict, "ScanStart" in detail) == ("OK", True)


def test_a_stream_of_another_format_is_an_error_that_names_both(found, detector):
    endpoint = detector(format="native")
    verdict, detail = found(10.0, images=endpoint, images_bind=False)["images"]
    assert verdict == "ERROR"
    assert "does not speak dectris-v2" in detail
    assert "\n" not in detail


def test_positions_are_looked_at_where_they_have_a_stream_of_their_own(found, detector, tmp_path):
    endpoint = detector(format="native")
    native = {"images": endpoint, "images_bind": False, "images_format": "native"}
    assert found(0.5, positions=f"ipc://{tmp_path}/nobody", **native)["positions"][0] == "TIMEOUT"
    assert found(0.5, positions=detector(format="native"), **native)["positions"][0] == "OK"


@pytest.mark.parametrize("images", ["http://127.0.0.1:80", "tcp://0.0.0.0:5000", "tcp://127.0.0.1:99999"])
def test_an_endpoint_that_cannot_be_is_an_error(found, images):
    assert found(images=images)["images"][0] == "ERROR"


def test_an_endpoint_that_another_program_has_is_an_error(found):
    with zmq.Context() as context, context.socket(zmq.PULL) as taken:
        taken.bind(LOOPBACK)
        verdict, detail = found(images=taken.get_string(zmq.LAST_ENDPOINT))["images"]
    assert verdict == "ERROR"
    assert "another program" in detail


def test_an_unknown_bundle_is_an_error_and_the_streams_are_looked_at_all_the_same(found):
    parts = found(bundle="no-such-bundle")
    assert parts["bundle"][0] == "ERROR"
    assert "engine" not in parts
    assert parts["images"][0] == "TIMEOUT"


def test_a_damaged_bundle_is_an_error(found, bundle_maker, tmp_path):
    path = bundle_maker(tmp_path)
    with (path / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert found(bundle=str(path))["bundle"][0] == "ERROR"


@pytest.mark.parametrize(
    "odd", [{"batch": 1}, {"object_pixel_m": 0.0}], ids=["one size of batch", "no pixel"]
)
def test_a_bundle_that_cannot_be_used_is_an_error_of_the_engine(found, bundle_maker, tmp_path, odd):
    parts = found(bundle=str(bundle_maker(tmp_path, **odd)))
    assert (parts["bundle"][0], parts["engine"][0]) == ("OK", "ERROR")
