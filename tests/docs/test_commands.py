"""What the documents tell people to type: commands that exist and take what they are given."""

import re
import shlex
from itertools import chain

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


def documented(program):
    """Return the words after the program of every line that runs it, a parameter each."""
    told = []
    for document in DOCUMENTS:
        for line in documents.lines(document):
            words = shlex.split(line.replace("…", ""), comments=True)
            words = words[1:] if words[:1] == ["sudo"] else words
            if words[:1] == [program]:
                told.append(pytest.param(words[1:], id=f"{document.name}: {' '.join(words[:6])}"))
    return told


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
def test_links_between_documents_lead_somewhere(document):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", document.read_text("utf-8")):
        path = document.parent / target if target else document
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor[1:] in slugs
