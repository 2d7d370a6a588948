"""The documents' commands, run in the order in which a reader meets them, in a folder with what they name.

What would take hours is made short by further options; hosts and folders of a beamline have stand-ins here.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import documents
import numpy as np
import processes
import pytest

from training.simulation.probes import read_probe

DOCUMENTS = ("README.md", "docs/your_beamline.md", "docs/operate.md", "docs/security.md")
STAR = documents.ROOT / "service/data/siemens_star_aps.cxi"

SMALL_NETWORK = "--tile 24 --width 8"  # where a new one is made
SHORTER = {
    "train": "--samples 640 --batch 16 --validations 1 --learning-rate 0.003 --devices 1",
    "export": "--tiles 4",
    "evaluate": "--limit 16",
    "label": "--iterations 2",
    "refine": "--iterations 2",
    "simulate": "--frames 100",
    "check": "--timeout 1",
}
ELSEWHERE = {  # why a line is not run here
    r"--tiled|^tiled": "tests/interop/test_hand_over.py has the Tiled server",
    r"^ablate|--data": "tests/training/studies has the paper's chart, small",
    r"^bench": "tests/service/benchmarking",
    r"^watch": "tests/journey/test_commands.py stops it",
    r"--cluster": "tests/journey/test_cluster.py",
    r"panda": "tests/interop/test_panda_interop.py",
    r"^retrain|model activate": "tests/training/test_retraining_loop.py has a service to activate in",
    r"^serve|^record|^replay": "tests/journey stops them",
    r"^check --orient$": "tests/journey has live streams",
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def documented(document):
    """Return the `ptycholive` lines of a document, without the program's name, in their order."""
    told = []
    for line in documents.lines(documents.ROOT / document):
        words = shlex.split(line, comments=True)
        if words[:1] == ["ptycholive"]:
            told.append(" ".join(map(shlex.quote, words[1:])))
    return told


def shorter(line):
    """Return the options that make a command quick."""
    options = SHORTER.get(line.split()[0], "")
    return f"{options} {SMALL_NETWORK}" if line.startswith("train") and "--from" not in line else options


def runs_elsewhere(line):
    return any(re.search(pattern, line.replace("'", "")) for pattern in ELSEWHERE)


@pytest.fixture(scope="module")
def world(tmp_path_factory, serve):
    """A folder with a scan, its probe and the result that a service made of it."""
    folder = tmp_path_factory.mktemp("world")
    run(folder, f"simulate --probe {STAR} --out your_scan.cxi --frames 100")
    for name in ("scan.cxi", "scan7.h5"):
        shutil.copy(folder / "your_scan.cxi", folder / name)
    np.save(folder / "rough_probe.npy", read_probe(STAR))
    service = serve(images_format="auto", refine=False)
    run(folder, f"replay your_scan.cxi --to {service.endpoints()[0]} --format native --scan scan7")
    service.finished("scan7")
    shutil.copytree(service.results, folder / "results")
    return folder


def run(folder, line):
    """Run a command to its end."""
    done = subprocess.run(
        [processes.COMMAND, *shlex.split(line)],
        cwd=folder, capture_output=True, text=True, timeout=300, env=processes.environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"ptycholive {line}: {done.stderr or done.stdout}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_reader_can_type_a_document_from_beginning_to_end(world, document):
    for line in documented(document):
        if not runs_elsewhere(line) and "--images" not in line:
            here = re.sub("/data/bundles/today|bundles/active", "siemens-star", line)
            run(world, f"{here} {shorter(line)}")


def test_check_says_what_it_finds_at_an_endpoint_where_nothing_is_yet(world):
    line = next(line for line in documented("README.md") if line.startswith("check --images"))
    here = line.replace("tcp://detector:31001", processes.free_endpoint())
    done = processes.run(*shlex.split(here), "--timeout", 1)
    assert "TIMEOUT" in done.stdout
    assert done.returncode == 1


def test_what_is_not_run_here_is_tested_where_it_is_said_to_be():
    assert all((documents.ROOT / told.split()[0]).exists() for told in ELSEWHERE.values())
