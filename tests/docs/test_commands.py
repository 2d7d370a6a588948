"""What the documents tell people to type: commands that exist and take what they are given."""

import ast
import importlib
import re
import shlex
from itertools import chain
from pathlib import Path

import click
import documents
import pytest

from service.cli import cli

ROOT = documents.ROOT
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
]


OTHERS = {  # programs of others: why the lines that run them are only read
    "docker": "`make container` types it, with podman under that name",
    "kubectl": "no cluster; `make container` types what a client can do alone",
    "systemctl": "`make container` types it where systemd runs",
    "install": "changes /etc; `make container` types it",
    "ln": "changes /opt; `make container` types it",
    "useradd": "changes the machine's users; `make container` types it",
    "pip": "`make` installs in the same way",
    "python": "minutes: a measurement of docs/results.md",
    "python3": "`make` does the same",
    "ray": "several machines; tests/journey/test_cluster.py starts one's own",
    "cp": "nothing of ours",
    "mkdir": "nothing of ours",
    "echo": "nothing of ours",
}
MADE = {"deploy/ptycholive.toml", "deploy/grafana_password"}  # by lines of the documents themselves


def is_python(block):
    return bool(re.match(r"(import|from|def) ", block))


PYTHON = [block for block in chain.from_iterable(map(documents.blocks, DOCUMENTS)) if is_python(block)]


def typed(document):
    """Yield the words of each line for a shell: the program's bare name, and what follows."""
    for block in documents.blocks(document):
        for line in [] if is_python(block) or document.parent.name == "decisions" else block.splitlines():
            words = shlex.split(line.replace("…", ""), comments=True)
            while words and (words[0] in ("sudo", "export") or re.match(r"[A-Z_]+=", words[0])):
                del words[0]
            if words:
                yield [Path(words[0]).name, *words[1:]]


def documented(program):
    """Return the words after the program of every line that runs it, a parameter each."""
    return [
        pytest.param(words[1:], id=f"{document.name}: {' '.join(words[:6])}")
        for document in DOCUMENTS
        for words in typed(document)
        if words[0] == program
    ]


def parsed(command, words, name):
    """Return the values of a command's options and arguments as typed, once each is known to be legal."""
    context = click.Context(command, info_name=name)
    values, left, _ = command.make_parser(context).parse_args(list(words))
    if isinstance(command, click.Group):
        found, inner, rest = command.resolve_command(context, left)
        return parsed(inner, rest, found)
    assert not left
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice | click.IntRange | click.FloatRange | click.Tuple):
            parameter.type_cast_value(context, values.get(parameter.name))
    return values


@pytest.mark.parametrize("words", documented("ptycholive"))
def test_a_documented_command_takes_what_it_is_given(words):
    parsed(cli, words, "ptycholive")


@pytest.mark.parametrize("words", documented("make"))
def test_a_documented_target_is_in_the_makefile(words):
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(targets)


def test_every_command_is_documented():
    told = {words[0] for words in chain.from_iterable(p.values for p in documented("ptycholive")) if words}
    assert told >= set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_runs_only_programs_that_are_known(document):
    assert {words[0] for words in typed(document)} <= {"ptycholive", "make", *OTHERS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_files_of_the_repository_that_a_line_reads_are_there(document):
    ours = ("deploy/", "model/", "service/", "tests/")
    named = {word for word in chain.from_iterable(typed(document)) if word.startswith(ours)}
    assert {word for word in named if not (ROOT / word).exists()} <= MADE


@pytest.mark.parametrize("block", PYTHON)
def test_documented_python_is_python_and_what_it_takes_of_ours_is_there(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("service"):
            assert {name.name for name in node.names} <= set(dir(importlib.import_module(node.module)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", document.read_text("utf-8")):
        path = document.parent / target if target else document
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor[1:] in slugs
