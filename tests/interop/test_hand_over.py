"""Results reach programs that others wrote: a Tiled server, silx view, h5web and napari."""

import json
import os
import subprocess
import uuid
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("tiled.client", reason="the extra tiled is not installed")

import httpx
from tiled.client import from_uri

from model.bundle import find_bundle, load_bundle

READ = Path(__file__).with_name("read_result.py")
WATCH = Path(__file__).with_name("watch_in_napari.py")
KEY = "secret"

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def library(readers, processes, tmp_path_factory):
    """A Tiled server with an empty catalog."""
    endpoint = processes.free_endpoint()
    port, log = endpoint.rpartition(":")[2], tmp_path_factory.mktemp("tiled") / "tiled.log"
    readers.start("tiled", "serve", "catalog", "--temp", "--api-key", KEY, "--port", port, log=log)
    url = f"http://127.0.0.1:{port}"
    processes.until(lambda: answers(url), f"the Tiled server answers, see {log}")
    return url


def answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def root(library):
    """What Tiled's own client sees of the server."""
    root = from_uri(library, api_key=KEY)
    yield root
    root.context.http_client.close()


@pytest.fixture(scope="module")
def taken(library, serve):
    """A scan named by the run of a bluesky plan, and the service that sent its result on."""
    service = serve(images_format="auto", refine=True, tiled=library, tiled_key=KEY)
    run = str(uuid.uuid4())
    service.take(run, format="dectris-v2", frames=96)
    return service, run


def test_a_finished_scan_is_found_in_tiled_by_its_run_with_its_ledger_and_model(root, taken, processes):
    service, run = taken
    processes.until(lambda: run in root and "positions" in root[run])
    told = root[run].metadata
    assert (told["scan"], told["ledger"]["stitched"]) == (run, 96)
    assert told["model"]["onnx_sha256"] == load_bundle(find_bundle("siemens-star")).description.onnx_sha256
    np.testing.assert_array_equal(root[run]["phase"].read(), service.mosaic(run, "phase"))
    assert root[run]["positions"].shape == (96, 2)


def test_what_idle_time_makes_of_a_scan_is_added_in_tiled(root, taken, processes):
    _, run = taken
    container = root[run]
    processes.until(lambda: "refined_phase" in container)
    assert container["refined_phase"].read().std() > 0


def test_a_result_is_sent_again_by_hand_without_a_second_copy(library, root, taken, processes):
    service, run = taken
    (result,) = service.results.glob("*.h5")
    done = processes.run("tiled", result, "--url", library, "--key", KEY)
    assert done.returncode == 0, done.stderr
    assert [key for key in root if key.startswith(run)] == [run]


def test_another_scan_of_the_same_name_gets_a_place_of_its_own(library, root, taken, processes, tmp_path):
    service, run = taken
    (result,) = service.results.glob("*.h5")
    other = tmp_path / result.name
    other.write_bytes(result.read_bytes())
    with h5py.File(other, "r+") as file:
        report = json.loads(file["entry/report"][()])
        del file["entry/report"]
        file["entry/report"] = json.dumps({**report, "started": "2026-01-01T00:00:00.000+00:00"})
    assert processes.run("tiled", other, "--url", library, "--key", KEY).returncode == 0
    assert len([key for key in root if key.startswith(run)]) == 2


def test_a_server_that_refuses_costs_no_result_and_is_told_in_one_line(library, serve, processes):
    service = serve(images_format="auto", refine=False, tiled=library, tiled_key="wrong")
    service.take("refused", format="dectris-v2", frames=32)
    processes.until(lambda: any("Tiled" in line for line in service.get("/api/status")["warnings"]))
    assert len(list(service.results.glob("refused.h5"))) == 1


def test_silx_h5web_and_napari_show_the_phase_of_a_result_at_once(readers, taken):
    service, run = taken
    (result,) = service.results.glob("*.h5")
    done = subprocess.run(
        [readers.program("python"), READ, result], capture_output=True, text=True, check=True
    )
    shown = json.loads(done.stdout.splitlines()[-1])
    phase = service.mosaic(run, "phase")
    for reader in ("silx", "h5web", "napari"):
        assert shown[reader]["shape"] == list(phase.shape), reader
    assert shown["silx"]["axes"] == ["y (m)", "x (m)"]
    assert shown["silx"]["signal"] == "data (rad)"
    assert shown["h5web"]["title"] == run
    assert shown["h5web"]["greatest"] == pytest.approx(float(phase.max()))
    assert shown["h5web"]["sent_bytes"] == 4 * phase.size  # all of it
    assert shown["napari"]["pixels_nm"] == pytest.approx([30.17, 30.17], rel=1e-3)


def test_napari_shows_the_mosaic_of_a_running_service(readers, serve):
    service = serve(images_format="auto", refine=False)
    with subprocess.Popen(
        [readers.program("python"), WATCH, service.url],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as napari:
        for scan, frames in (("narrow", 32), ("wide", 128)):
            service.take(scan, format="native", frames=frames)
            napari.stdin.write(f"{scan}\n")
            shown = tuple(map(int, napari.stdout.readline().split()))
            assert shown == service.mosaic(scan, "phase").shape
        napari.stdin.close()
