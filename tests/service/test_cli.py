"""The command line as people call it: help with an example, and one line for whatever they can mend."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest
import zmq

from service.cli import cli, main
from service.wire import native

LOOPBACK = "tcp://127.0.0.1:*"
PATIENCE_S = 60


def ptycholive(*arguments, before="", **environment):
    """Run a command in a process of its own.

    Args:
        arguments: of the command line.
        before: Python to run before.
        environment: variables to set.
    """
    program = f"{before}\nfrom service.cli import main\nmain()"
    told = {name: value for name, value in os.environ.items() if not name.startswith("PTYCHOLIVE_")}
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True, text=True, timeout=PATIENCE_S, env=told | environment, check=False,
    )  # fmt: skip


def refused(*arguments, **options):
    """Return the one line that a command is refused with."""
    done = ptycholive(*arguments, **options)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ptycholive: ")
    return lines[0]


def found(path, group=cli):
    """Return the command that some words name, as the command line finds it."""
    _, command, _ = group.resolve_command(click.Context(group), list(path[:1]))
    return command if len(path) == 1 else found(path[1:], command)


def commands(group=cli, path=()):
    """Yield the words of every command and subcommand."""
    for name in group.list_commands(click.Context(group)):
        yield (*path, name)
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_shows_an_example(path):
    command = found(path)
    help_ = command.get_help(click.Context(command, info_name=" ".join(path)))
    assert re.search(r"Example:\n +ptycholive ", help_)


def test_the_commands_of_the_service_are_there():
    names = {" ".join(path) for path in commands()}
    assert names >= {"demo", "serve", "replay", "check", "bench", "model list", "model show", "model verify"}
    assert "model activate" in names


def test_help_and_version_need_no_engine():
    blocked = "import sys; sys.modules['onnxruntime'] = sys.modules['zmq'] = None"
    helped = ptycholive("--help", before=blocked)
    assert (helped.returncode, "Example:" in helped.stdout) == (0, True)
    assert ptycholive("--version", before=blocked).stdout.strip().endswith("0.1.0")


def test_a_flag_for_every_setting():
    flags = {option for parameter in found(("serve",)).params for option in parameter.opts}
    assert {"--images", "--images-bind", "--batch-deadline-s", "--token", "--config"} <= flags


NOTHING = "/nowhere/at/all"
SERVE = ["serve", "--bundle", "{bundle}", "--results", "{tmp}"]
BAD = {
    "unknown command": ["fly"],
    "unknown option": ["serve", "--fly"],
    "missing argument": ["replay", "--to", "tcp://127.0.0.1:1"],
    "missing option": ["replay", "scan.cxi"],
    "missing scan": ["replay", NOTHING, "--to", "tcp://127.0.0.1:1"],
    "a line break in a path": ["replay", "no\nscan.cxi", "--to", "tcp://127.0.0.1:1"],
    "a folder for a scan": ["replay", "/", "--to", "tcp://127.0.0.1:1"],
    "not HDF5": ["replay", __file__, "--to", "tcp://127.0.0.1:1"],
    "unknown format": ["replay", "{scan}", "--to", "tcp://127.0.0.1:1", "--format", "morse"],
    "bad faults": ["replay", "{scan}", "--to", "tcp://127.0.0.1:1", "--faults", "drop=2"],
    "unknown faults": ["replay", "{scan}", "--to", "tcp://127.0.0.1:1", "--faults", "explode=0.1"],
    "wrong endpoint": ["replay", "{scan}", "--to", "127.0.0.1:1"],
    "wrong positions": ["replay", "{scan}", "--to", "ipc://{tmp}/a", "--positions", "nowhere"],
    "no frames": ["replay", "{scan}", "--to", "ipc://{tmp}/a", "--frames", "0"],
    "no number": ["replay", "{scan}", "--to", "ipc://{tmp}/a", "--rate", "fast"],
    "negative rate": ["replay", "{scan}", "--to", "ipc://{tmp}/a", "--rate", "-1"],
    "replay to a port in use": ["replay", "{scan}", "--to", "{taken}", "--bind"],
    "serve: missing config": ["serve", "--config", NOTHING],
    "serve: unknown bundle": ["serve", "--bundle", NOTHING],
    "serve: corrupt bundle": ["serve", "--bundle", "{corrupt}"],
    "serve: wrong endpoint": [*SERVE, "--images", "nowhere"],
    "serve: port in use": [*SERVE, "--images", "{taken}", "--images-bind"],
    "serve: web port in use": [*SERVE, "--images", "ipc://{tmp}/a", "--port", "{port}"],
    "serve: tiles in use": [*SERVE, "--images", "ipc://{tmp}/a", "--tiles", "{taken}"],
    "serve: results in a file": ["serve", "--bundle", "{bundle}", "--results", __file__],
    "serve: open to all": [*SERVE, "--host", "0.0.0.0"],
    "serve: unknown format": ["serve", "--images-format", "morse"],
    "serve: no batch": ["serve", "--batch-frames", "0"],
    "check: no time": ["check", "--timeout", "0"],
    "check: not a time": ["check", "--timeout", "nan"],
    "check: missing config": ["check", "--config", NOTHING],
    "demo: no frames": ["demo", "--frames", "0"],
    "demo: port too high": ["demo", "--port", "70000"],
    "demo: unknown bundle": ["demo", "--once", "--bundle", NOTHING, "--out", "{tmp}"],
    "bench: nowhere to write": ["bench", "--json", f"{NOTHING}/bench.json"],
    "model list: no folder": ["model", "list", NOTHING],
    "model show: unknown": ["model", "show", NOTHING],
    "model verify: corrupt": ["model", "verify", "{corrupt}"],
    "model verify: does not run": ["model", "verify", "{one_size}"],
    "model activate: unknown": ["model", "activate", NOTHING],
    "model activate: no service": ["model", "activate", "{bundle}", "--url", "http://127.0.0.1:1"],
    "model activate: no address": ["model", "activate", "{bundle}", "--url", "127.0.0.1:8080"],
    "model activate: odd port": ["model", "activate", "{bundle}", "--url", "http://127.0.0.1:many"],
    "model activate: not a service": ["model", "activate", "{bundle}", "--url", "http://127.0.0.1:{web}"],
}  # fmt: skip


class SomebodyElse(BaseHTTPRequestHandler):
    """A web server that is not ours."""

    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def surroundings(tiny_bundle, tiny_scan, bundle_maker, tmp_path_factory):
    """What the bad commands name."""
    folder = tmp_path_factory.mktemp("cli")
    corrupt = bundle_maker(folder, "corrupt")
    (corrupt / "model.json").write_text("{")
    web = HTTPServer(("127.0.0.1", 0), SomebodyElse)
    serving = threading.Thread(target=web.serve_forever)
    serving.start()
    with zmq.Context() as context, context.socket(zmq.PULL) as taken:
        taken.bind(LOOPBACK)
        endpoint = taken.get_string(zmq.LAST_ENDPOINT)
        yield {
            "bundle": tiny_bundle, "scan": tiny_scan, "corrupt": corrupt, "taken": endpoint, "tmp": folder,
            "one_size": bundle_maker(folder, "one-size", batch=1), "port": endpoint.rpartition(":")[2],
            "web": web.server_port,
        }  # fmt: skip
    web.shutdown()
    serving.join()
    web.server_close()


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_what_the_user_can_mend_is_one_line_and_status_2(arguments, surroundings, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["ptycholive", *(text.format_map(surroundings) for text in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capfd.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith("ptycholive: ")
    assert len(line) < 400


@pytest.mark.parametrize("case", ["unknown command", "not HDF5", "serve: web port in use"])
def test_a_whole_process_says_no_more_than_that_line(case, surroundings):
    refused(*[text.format_map(surroundings) for text in BAD[case]])


def test_without_a_command_the_help_is_shown():
    done = ptycholive()
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


def test_an_unknown_key_in_the_environment_is_one_line():
    assert "typo" in refused("serve", PTYCHOLIVE_TYPO="1")


@pytest.mark.parametrize("setting", ["PTYCHOLIVE_BUNDLE", "PTYCHOLIVE_ENGINE"])
def test_the_demo_takes_model_and_engine_from_the_environment_as_the_service_does(setting, tmp_path):
    demo = ("demo", "--once", "--port", 0, "--out", tmp_path)
    assert "abacus" in refused(*demo, **{setting: "abacus"})


def test_a_broken_file_is_one_line(tmp_path):
    file = tmp_path / "ptycholive.toml"
    file.write_text("port = [\n\n")
    assert str(file) in refused("serve", "--config", file)


def test_a_missing_engine_is_told_with_what_to_install(tmp_path, tiny_bundle):
    line = refused(
        "serve",
        "--bundle",
        tiny_bundle,
        "--results",
        tmp_path,
        before="import sys; sys.modules['onnxruntime'] = None",
    )
    assert "pip install 'ptycholive[cpu]'" in line


@pytest.fixture
def offline(tmp_path):
    """Return the environment of an installation with an offline command that needs torch."""
    info = tmp_path / "site" / "offline-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offline\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ptycholive.commands]\nlearn = needs_torch:command\n")
    (tmp_path / "site/needs_torch.py").write_text(
        "import click, torch\ncommand = click.Command('learn', callback=lambda: print('learning'))\n"
    )
    paths = [str(tmp_path / "site"), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


NO_TORCH = "import sys; sys.modules['torch'] = None"
SOME_TORCH = "import sys, types; sys.modules['torch'] = types.ModuleType('torch')"


def test_an_offline_command_without_torch_tells_the_extra_to_install(offline):
    line = refused("learn", "--epochs", "3", "data.h5", before=NO_TORCH, **offline)
    assert "learn needs torch: pip install 'ptycholive[training]'" in line


def test_offline_commands_are_listed_without_torch_and_without_the_seconds_it_takes(offline):
    assert " learn " in ptycholive("--help", before=NO_TORCH, **offline).stdout
    assert "ptycholive[training]" in ptycholive("learn", "--help", before=NO_TORCH, **offline).stdout


def test_an_offline_command_runs_where_torch_is(offline):
    done = ptycholive("learn", before=SOME_TORCH, **offline)
    assert (done.returncode, done.stdout) == (0, "learning\n")


def test_shipped_bundles_can_be_listed_shown_and_verified(tiny_bundle, bundle_maker, tmp_path):
    bundle_maker(tmp_path, "good")
    (bundle_maker(tmp_path, "bad") / "probe.npy").unlink()
    bad, good = ptycholive("model", "list", tmp_path).stdout.splitlines()
    assert good == "good: test, 32² → 16², 10.00 nm"
    assert bad.startswith("bad: REFUSED")
    assert json.loads(ptycholive("model", "show", tiny_bundle).stdout)["name"] == "tiny"
    verified = ptycholive("model", "verify", tiny_bundle)
    assert (verified.returncode, verified.stdout.startswith("OK: tiny, sha256 ")) == (0, True)


def test_a_running_service_can_be_told_to_go_on_with_another_model(serve, bundle_maker, tmp_path):
    running = serve(token="secret")
    other = bundle_maker(tmp_path, "other")
    told = ("model", "activate", other, "--url", running.web.url + "/")
    assert (
        "401" not in (done := ptycholive(*told, "--token", "secret", http_proxy="http://127.0.0.1:1")).stderr
    )
    assert (done.returncode, done.stdout) == (0, "active: other\n")
    assert running.app.engine.bundle.description.name == "other"
    assert "the token is missing or wrong" in refused(*told)
    (other / "probe.npy").unlink()
    assert "refused" in refused(*told, "--token", "secret")


def test_a_scan_is_replayed_without_a_progress_bar_where_there_is_no_terminal(tiny_scan, tmp_path):
    endpoint, heard = f"ipc://{tmp_path}/detector", []

    def listen():
        with zmq.Context() as context, context.socket(zmq.PULL) as socket:
            socket.bind(endpoint)
            while socket.poll(PATIENCE_S * 1000) and b"end" not in (parts := socket.recv_multipart())[0]:
                heard.append(parts)

    listener = threading.Thread(target=listen)
    listener.start()
    done = ptycholive(
        "replay", tiny_scan, "--to", endpoint, "--format", "native", "--frames", "10", "--scan", "s"
    )
    listener.join(PATIENCE_S)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "sent 10 frames of s in 12 messages\n"
    assert len(heard) == 11
    assert native.NativeDecoder().decode(heard[0], 0)[0].scan == "s"


@pytest.mark.parametrize(("sends", "status", "verdict"), [(False, 1, "TIMEOUT"), (True, 0, "OK")])
def test_check_ends_with_0_only_if_all_is_well(tiny_bundle, tmp_path, sends, status, verdict):
    endpoint = f"ipc://{tmp_path}/detector"
    with zmq.Context() as context, context.socket(zmq.PUSH) as detector:
        detector.set(zmq.LINGER, 0)
        detector.connect(endpoint)
        if sends:
            detector.send_multipart(native.encode_end(native.ScanEnd("s", 1)))
        timeout_s = "20" if sends else "0.1"
        done = ptycholive(
            "check", "--bundle", tiny_bundle, "--timeout", timeout_s,
            "--images", endpoint, "--images-bind", "--images-format", "native",
        )  # fmt: skip
    assert done.returncode == status
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["OK", "OK", verdict]
    assert [line.split()[1] for line in lines] == ["bundle:", "engine:", "images:"]
