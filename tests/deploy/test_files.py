"""The files of deploy/ are what the programs that read them expect, and say the same as the service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from service.config import load_settings

TOP = Path(__file__).parents[2]
DEPLOY = TOP / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())["groups"][0]["rules"]
ALERTS = [rule["alert"] for rule in RULES]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Run a program, and return what it said."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def composed(name: str) -> dict:
    """Return a compose file, its variables at their defaults."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / name).read_text())
    told = yaml.safe_load(text)  # merges what the anchors share
    PyCompose.from_yaml(yaml.safe_dump(told)).validate()
    return told


def manifests(name: str) -> list[dict]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def test_the_linter_has_nothing_against_the_dockerfile():
    linted = run(Path(sys.executable).with_name("hadolint"), TOP / "Dockerfile")
    assert (linted.returncode, linted.stdout) == (0, "")


def test_prometheus_takes_its_configuration(tool):
    checked = run(tool("promtool"), "check", "config", DEPLOY / "prometheus/prometheus.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_where_it_should_and_nowhere_else(tool):
    tested = run(tool("promtool"), "test", "rules", DEPLOY / "prometheus/rules_test.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_is_tried_and_is_explained():
    trials = yaml.safe_load((DEPLOY / "prometheus/rules_test.yaml").read_text())["tests"]
    fired = {one["alertname"] for trial in trials for one in trial["alert_rule_test"] if one["exp_alerts"]}
    assert fired == set(ALERTS)
    headings = re.findall(r"^### (\w+)$", (TOP / "docs/deploy.md").read_text(), re.MULTILINE)
    assert [name for name in headings if name.startswith("Ptycholive")] == ALERTS
    assert [rule["annotations"]["runbook"] for rule in RULES] == [
        f"docs/deploy.md#{name.lower()}" for name in ALERTS
    ]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_stack_is_one_that_compose_understands(name):
    assert "ptycholive" in composed(name)["services"]


def test_the_stack_publishes_on_loopback_only_and_writes_to_volumes_only():
    services = composed("compose.yaml")["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


def test_what_the_stack_mounts_from_here_is_here():
    stack = composed("compose.yaml")
    mounted = [
        volume.split(":")[0] for one in stack["services"].values() for volume in one.get("volumes", [])
    ]
    folders = [path for path in mounted if path.startswith("./") and path != "./bundles"]
    assert {"./prometheus", "./grafana/provisioning", "./grafana/dashboards"} == set(folders)
    assert all((DEPLOY / path).is_dir() for path in folders)


def test_the_example_of_settings_is_one_that_the_service_takes():
    assert load_settings({}, DEPLOY / "ptycholive.example.toml", {}).images == "tcp://detector:31001"


def test_the_dashboard_asks_the_data_source_that_is_provisioned():
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    board = json.loads((DEPLOY / "grafana/dashboards/ptycholive.json").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["datasources"][0]["uid"]}


@pytest.mark.parametrize("name", ["ptycholive.yaml", "gpu.yaml"])
def test_the_manifests_follow_the_schema_of_kubernetes(name):
    for manifest in manifests(name):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_pod_is_nobody_and_cannot_write_to_its_image():
    pod = next(one for one in manifests("ptycholive.yaml") if one["kind"] == "Deployment")["spec"][
        "template"
    ]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {"requests", "limits"} == set(container["resources"])
    assert {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("liveness", "readiness")} == {
        "/healthz",
        "/readyz",
    }


def test_the_settings_of_the_pod_are_some_that_the_service_takes():
    told = next(one for one in manifests("ptycholive.yaml") if one["kind"] == "ConfigMap")["data"]
    assert tomllib.loads(told["ptycholive.toml"]).keys() <= {"images", "images_format", "bundle"}


def test_the_pod_with_a_gpu_asks_for_one():
    container = manifests("gpu.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_systemd_takes_the_unit(tool, tmp_path):
    unit = (DEPLOY / "systemd/ptycholive.service").read_text()
    command = Path(sys.executable).with_name("ptycholive")
    here = tmp_path / "ptycholive.service"
    here.write_text(unit.replace("/opt/ptycholive/bin/ptycholive", os.fspath(command)))
    verified = run(tool("systemd-analyze"), "verify", here)
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = run(tool("systemd-analyze"), "security", "--offline=true", "--threshold=30", here)
    assert judged.returncode == 0, judged.stdout


def test_nothing_goes_to_the_builder_but_what_the_image_is_made_of():
    lines = (TOP / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (TOP / "Dockerfile").read_text(), re.MULTILINE)
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(" ".join(copied).split())
