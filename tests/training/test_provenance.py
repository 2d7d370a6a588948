import shutil
import subprocess

import click
import pytest
import torch
from click.testing import CliRunner

from training.provenance import command_line, environment, git_commit


def git(folder, *words):
    identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "init", "-q")
    return tmp_path


def test_a_repository_without_a_commit_has_none(repository):
    assert git_commit(repository) is None


def test_a_changed_file_marks_the_commit(repository):
    (repository / "a").write_text("1")
    git(repository, "add", "a")
    git(repository, "commit", "-qm", "first")
    commit = git_commit(repository)
    assert len(commit) == 40
    (repository / "a").write_text("2")
    assert git_commit(repository) == f"{commit}+"


def test_what_is_not_a_checkout_has_no_commit(tmp_path):
    assert git_commit(tmp_path) is None


def test_the_environment_names_what_computes():
    assert environment()["torch"] == torch.__version__


def test_the_command_line_holds_what_was_given_and_not_the_defaults():
    @click.command("train")
    @click.argument("file")
    @click.option("--out", "-o")
    @click.option("--seed", default=1)
    @click.option("--tile", "tile_px", default=80)
    @click.pass_context
    def command(context, **_):
        click.echo(command_line(context))

    done = CliRunner().invoke(command, ["a b.cxi", "-o", "x", "--tile", "40"])
    assert done.output == "ptycholive train 'a b.cxi' --out x --tile 40\n"


def test_switches_and_ranges_are_told_as_they_were_typed():
    @click.command("train")
    @click.option("--absolute/--relative", default=True)
    @click.option("--exposure", type=(float, float))
    @click.option("--families", callback=lambda *given: tuple(given[2].split(",")))
    @click.pass_context
    def command(context, **_):
        click.echo(command_line(context))

    typed = ["--relative", "--exposure", "0.5", "2.0", "--families", "bars,cells"]
    assert CliRunner().invoke(command, typed).output == f"ptycholive train {' '.join(typed)}\n"
