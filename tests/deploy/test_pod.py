"""The pod of deploy/kubernetes, run by podman, and what of docs/deploy.md a client can do alone.

There is no cluster: nobody schedules. Podman does not understand the probes: the tests ask what they ask.
"""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import processes
import pytest
import yaml
from podman import PROOF, TOP, Docker, documented, send_star, stitched_in

pytestmark = PROOF

MANIFEST = TOP / "deploy/kubernetes/ptycholive.yaml"
POD, CONTAINER = "ptycholive-pod-0", "ptycholive-pod-0-ptycholive"
UID, GIB = "10001", 1 << 30


def deployment(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one for one in manifests if one["kind"] == "Deployment")


class Pod:
    """What podman makes of the manifest, published on a free port, in a network of its own."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._docker = docker
        self._folder = folder
        host, _, port = processes.free_endpoint().removeprefix("tcp://").rpartition(":")
        self._manifests = list(yaml.safe_load_all(MANIFEST.read_text()))
        told = deployment(self._manifests)["spec"]["template"]["spec"]
        self.container, self.grace_s = told["containers"][0], told["terminationGracePeriodSeconds"]
        self.container["ports"][0] |= {"hostIP": host, "hostPort": int(port)}
        self.http = httpx.Client(base_url=f"http://{host}:{port}", trust_env=False)

    def make_secret(self, kubectl: str) -> None:
        """Let kubectl make the secret as it would for a cluster, and hand it to podman."""
        line = documented("kubectl create secret").replace("kubectl", kubectl, 1)
        made = self._docker.type(f"{line} --dry-run=client --output=jsonpath={{.data}}")
        assert made.returncode == 0, made.stderr
        token = base64.b64decode(json.loads(made.stdout)["token"]).decode()
        self.http.headers["Authorization"] = f"Bearer {token}"
        handed = self._docker.type(f"echo {shlex.quote(made.stdout)} | docker secret create ptycholive -")
        assert handed.returncode == 0, handed.stderr

    def apply(self, *without: str) -> None:
        """Bring up the manifests but for some kinds, in the place of a pod that is there."""
        manifest = self._folder / "manifest.yaml"
        manifest.write_text(yaml.safe_dump_all(one for one in self._manifests if one["kind"] not in without))
        self._docker("kube", "play", "--replace", "--network", "cluster", manifest)
        processes.until(lambda: self.answers("/readyz"), "the pod is ready", timeout_s=120)

    def answers(self, path: str) -> bool:
        try:
            return self.http.get(path).is_success
        except httpx.TransportError:
            return False

    def inspect(self) -> dict[str, Any]:
        return self._docker.inspect(CONTAINER)

    def finished(self, scan: str) -> dict[str, Any]:
        """Wait until a scan is finished; return its ledger."""
        processes.until(lambda: self.report(scan)["finished"], f"{scan} ends", timeout_s=300)
        return dict(self.report(scan)["ledger"])

    def report(self, scan: str) -> dict[str, Any]:
        return dict(self.http.get(f"/api/scans/{scan}").raise_for_status().json())

    def kept(self, scan: str) -> int:
        """Return how many frames the result in the claimed volume holds."""
        return stitched_in(self._docker, "ptycholive-results", scan)


def clear(docker: Docker) -> None:
    """Remove what the pod left, also that of a run that was cut off."""
    for line in (
        f"docker pod rm --force --time 0 {POD}",
        "docker network rm --force cluster",
        "docker secret rm ptycholive",
        "docker volume rm --force ptycholive ptycholive-results recordings tmp",
    ):
        docker.type(line)


@pytest.fixture(scope="module")
def pod(image, docker, tool, tmp_path_factory):
    """The pod, ready, in a network where the detector will be."""
    running = Pod(docker, tmp_path_factory.mktemp("pod"))
    clear(docker)
    try:
        docker("network", "create", "cluster")
        running.make_secret(tool("kubectl"))
        running.apply()
        yield running
    finally:
        running.http.close()
        clear(docker)


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_what_the_probes_ask_is_answered_without_a_token(pod, probe):
    path = pod.container[probe]["httpGet"]["path"]
    assert httpx.get(pod.http.base_url.join(path), trust_env=False).is_success


def test_the_secret_guards_the_rest(pod):
    assert pod.answers("/api/status")
    assert httpx.get(pod.http.base_url.join("/api/status"), trust_env=False).status_code == 401


def test_the_pod_is_nobody_may_nothing_and_has_the_limits_of_the_manifest(pod):
    told = pod.inspect()
    assert told["Config"]["User"].split(":")[0] == UID
    assert told["HostConfig"]["ReadonlyRootfs"]
    assert not told["EffectiveCaps"]
    assert told["HostConfig"]["Memory"] == 4 * GIB
    assert told["HostConfig"]["NanoCpus"] == 4e9
    status = Path(f"/proc/{told['State']['Pid']}/status").read_text()
    assert "NoNewPrivs:\t1" in status


def test_a_star_is_stitched_and_outlives_the_pod_in_its_claim(pod, docker):
    send_star(docker, "cluster", "star")
    ledger = pod.finished("star")
    assert (ledger["expected"], ledger["stitched"], ledger["dropped"]) == (516, 516, {})
    docker("pod", "stop", "--time", pod.grace_s, POD)
    assert pod.inspect()["State"]["ExitCode"] == 0
    pod.apply("PersistentVolumeClaim")  # podman would make it anew; a cluster leaves it as it is
    assert pod.kept("star") == 516


def test_the_patch_for_the_gpu_changes_image_and_resources_and_nothing_else(docker, tool, tmp_path):
    before = deployment(list(yaml.safe_load_all(MANIFEST.read_text())))
    path = tmp_path / "deployment.yaml"
    path.write_text(yaml.safe_dump(before))
    line = documented("kubectl patch").replace("kubectl", tool("kubectl"), 1)
    local = line.replace("deployment ptycholive", f"--local --filename {path} --output yaml")
    after = yaml.safe_load(docker.type(local).stdout)
    kubernetes_validate.validate(after, "1.31", strict=True)
    patched, plain = (one["spec"]["template"]["spec"] for one in (after, before))
    container = patched["containers"][0]
    assert container["image"] == "ptycholive:gpu"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {**container, "image": 0, "resources": 0} == {**plain["containers"][0], "image": 0, "resources": 0}
    assert patched["volumes"] == plain["volumes"]
