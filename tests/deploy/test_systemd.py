"""The unit on a machine that systemd runs, a container, with the lines of docs/deploy.md typed there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import processes
import pytest
from podman import PROOF, TOP, Docker, documented_block

from service.handover.result import read_result

pytestmark = PROOF

IMAGES = TOP / "tests/deploy/images"
SITE = "LICENSE README.md pyproject.toml requirements.lock model service training"
SITE += " deploy/systemd deploy/ptycholive.example.toml"
# The unit's namespaces need SYS_ADMIN; the engine's own filter of calls would hide the unit's.
LIKE_A_MACHINE = (
    "--systemd=always --network none --add-host detector:127.0.0.1 --cap-add SYS_ADMIN,SYS_PTRACE "
    "--security-opt seccomp=unconfined --volume pip:/root/.cache/pip"
)
TOKEN = "change-me"  # of the example of settings
NEXT = "0.2.0"  # the version that the document upgrades to
ASK = (
    "import sys, urllib.request as r; asked = r.Request('http://127.0.0.1:8080' + sys.argv[1], "
    f"headers={{'Authorization': 'Bearer {TOKEN}'}}); print(r.urlopen(asked, timeout=5).read().decode())"
)


class Machine:
    """A machine whose first process is systemd; this machine's detector joins its network."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._detectors: list[subprocess.Popen[bytes]] = []
        docker("build", "--tag", "machine", "--file", IMAGES / "machine.Dockerfile", IMAGES)
        started = docker.type(f"docker run --detach --name machine {LIKE_A_MACHINE} {docker.lending} machine")
        assert started.returncode == 0, started.stderr
        self._init = int(docker.inspect("machine")["State"]["Pid"])
        processes.until(lambda: self.type("systemctl is-system-running") == "running", "systemd is up")
        copied = docker.type(
            f"tar -c --exclude=__pycache__ --exclude='*.so' {SITE} | "
            "docker exec --interactive machine tar -x --no-same-owner"
        )
        assert copied.returncode == 0, copied.stderr

    def type(self, line: str) -> str:
        """Run a line of a document as root; return what it said, also where it failed."""
        done = self._inside(line)
        return (done.stdout or done.stderr).strip()

    def _inside(self, line: str) -> subprocess.CompletedProcess[str]:
        return self._docker.type(f"docker exec machine bash -ec {shlex.quote(line)}")

    def must(self, line: str) -> str:
        """Run a line that has to succeed, on this machine's network: pip fetches."""
        inside = ["nsenter", f"--target={self._init}", "--mount", "--uts", "--ipc", "--pid", "--root"]
        done = subprocess.run(
            [*inside, "--wdns=/src", "timeout", "1200", "bash", "-ec", line],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout.strip()

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.must(f"systemctl show ptycholive --property {name} --value")

    def ask(self, path: str) -> Any:
        """Return what the API answers in there; None where nothing does."""
        answer = self.type(f'python3 -c "{ASK}" {path}')
        return json.loads(answer) if answer.startswith(("{", "[")) else None

    def is_ready(self) -> bool:
        return self._inside(f'python3 -c "{ASK}" /readyz').returncode == 0

    def settle(self) -> None:
        """Wait until the service is ready."""
        processes.until(self.is_ready, "the service is ready", timeout_s=120)

    def refusal(self, path: str) -> str:
        """Return why the service cannot write a file where it lives, "" where it can."""
        user = "setpriv --reuid=ptycholive --regid=ptycholive --clear-groups"
        return self.type(f"nsenter --target={self.show('MainPID')} --mount {user} touch {path}")

    def stream(self, scan: str, **more: str) -> subprocess.Popen[bytes]:
        """Begin to send the star as the detector of the example's settings."""
        told = {"to": "tcp://127.0.0.1:31001", "bind": True, "format": "dectris-v2", "scan": scan, **more}
        detector = [processes.COMMAND, "replay", processes.SCAN, *processes.flags(told)]
        sending = subprocess.Popen(
            ["nsenter", f"--target={self._init}", "--net", *map(str, detector)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._detectors.append(sending)
        return sending

    def finished(self, scan: str) -> dict[str, Any]:
        """Wait until a scan is finished; return its ledger."""
        processes.until(
            lambda: (self.ask(f"/api/scans/{scan}") or {}).get("finished"), f"{scan} ends", timeout_s=300
        )
        return dict(self.ask(f"/api/scans/{scan}")["ledger"])

    def result(self, scan: str, folder: Path) -> dict[str, Any]:
        """Return the ledger in a scan's result file."""
        self._docker("cp", f"machine:/var/lib/ptycholive/results/{scan}.h5", folder)
        return dict(read_result(folder / f"{scan}.h5").report["ledger"])

    def has_a_snapshot(self, scan: str) -> bool:
        return scan in self.type("ls /var/lib/ptycholive/results/.running")

    def stitched(self, scan: str) -> int:
        return int((self.ask(f"/api/scans/{scan}") or {"ledger": {"stitched": 0}})["ledger"]["stitched"])

    def close(self) -> None:
        for sending in self._detectors:
            sending.kill()
            sending.wait()
        self._docker("rm", "--force", "--time", 0, "--volumes", "machine")


@pytest.fixture(scope="module")
def machine(docker):
    """The machine, installed as the document says, the service ready."""
    docker.type("docker rm --force --time 0 machine")
    running = Machine(docker)
    try:
        for line in documented_block("useradd"):
            running.must(line)
        running.settle()
        yield running
    finally:
        running.close()


def test_the_unit_is_active_and_enabled(machine):
    assert machine.type("systemctl is-active ptycholive") == "active"
    assert machine.type("systemctl is-enabled ptycholive") == "enabled"
    assert "active (running)" in machine.must("systemctl status --no-pager ptycholive")


def test_the_service_is_nobody_and_may_nothing(machine):
    status = machine.type("cat /proc/$(systemctl show ptycholive --property MainPID --value)/status")
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(told["Uid"].split()) == {machine.type("id --user ptycholive")} != {"0"}
    assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("path", ["/etc/x", "/opt/ptycholive/x", "/usr/x", "/var/x", "/home/x"])
def test_the_system_cannot_be_written(machine, path):
    assert re.search("Read-only file system|Permission denied", machine.refusal(path))


@pytest.mark.parametrize("path", ["/var/lib/ptycholive/x", "/var/cache/ptycholive/x", "/tmp/x"])
def test_its_state_can_be_written_and_its_tmp_is_its_own(machine, path):
    assert machine.refusal(path) == ""
    assert not path.startswith("/tmp") or machine.type(f"ls {path}").startswith("ls:")


def test_a_drop_in_lets_it_record_elsewhere_and_a_star_is_stitched_whole(machine, tmp_path):
    machine.must("install -d -o ptycholive -g ptycholive /data/recordings")
    machine.must("echo PTYCHOLIVE_RECORD=/data/recordings > /etc/ptycholive/environment")
    machine.must("mkdir -p /etc/systemd/system/ptycholive.service.d")
    drop_in = "/etc/systemd/system/ptycholive.service.d/recordings.conf"
    machine.must(f"printf '[Service]\nReadWritePaths=/data/recordings\n' > {drop_in}")
    machine.must("systemctl daemon-reload && systemctl restart ptycholive")
    machine.settle()
    assert machine.stream("star").wait(120) == 0
    ledger = machine.finished("star")
    assert (ledger["expected"], ledger["stitched"], ledger["dropped"]) == (516, 516, {})
    assert machine.result("star", tmp_path)["stitched"] == 516
    assert re.search(r"^star\.\w+$", machine.type("ls /data/recordings"), re.MULTILINE)


def test_a_stop_within_a_scan_is_clean_and_writes_what_is_there(machine, tmp_path):
    detector = machine.stream("stopped", rate="30")
    processes.until(lambda: machine.stitched("stopped") > 20, "frames are stitched")
    machine.must("systemctl stop ptycholive")
    detector.kill()
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    assert machine.type("systemctl is-active ptycholive") == "inactive"
    ledger = machine.result("stopped", tmp_path)
    assert processes.balanced(ledger)
    assert 20 < ledger["stitched"] < 516
    machine.must("systemctl start ptycholive")
    machine.settle()


def test_a_service_that_is_killed_within_a_scan_starts_anew_and_goes_on_with_it(machine):
    restarts, killed = int(machine.show("NRestarts")), machine.show("MainPID")
    machine.stream("killed", rate="20")
    processes.until(lambda: machine.has_a_snapshot("killed"), "the scan is kept")
    machine.must(f"kill -9 {killed}")
    processes.until(lambda: int(machine.show("NRestarts")) == restarts + 1, "systemd starts it anew")
    machine.settle()
    assert machine.show("MainPID") not in (killed, "0")
    ledger = machine.finished("killed")
    assert processes.balanced(ledger)
    assert ledger["expected"] == 516
    # What the snapshot did not hold, and what was on its way to the one that was killed.
    assert set(ledger["dropped"]) <= {"service_down", "never_arrived"}
    assert ledger["stitched"] > 258


def test_the_upgrade_and_the_roll_back_change_the_version_that_runs(machine):
    before = machine.ask("/api/status")["version"]
    *upgrade, back = documented_block("python3 -m venv /opt/ptycholive-0.2.0")
    machine.must(f"sed -i 's/^version = .*/version = \"{NEXT}\"/' pyproject.toml")
    for line in upgrade:
        machine.must(line)
    machine.settle()
    assert machine.ask("/api/status")["version"] == NEXT != before
    machine.must(back)
    machine.settle()
    assert machine.ask("/api/status")["version"] == before
    assert "star.h5" in machine.type("ls /var/lib/ptycholive/results")
