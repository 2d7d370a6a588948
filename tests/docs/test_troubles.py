"""The operator's guide has an entry for whatever the service complains about, and none for what it cannot."""

from __future__ import annotations

import ast
import re

import documents
import pytest

from service.alarm import Trust

GUIDE = (documents.ROOT / "docs/operate.md").read_text("utf-8")
TELLS = {"_failed", "_lost", "_warn", "Notice", "stray", "warn"}  # the last argument is the operator's line
IN_WORDS = {  # functions that give back such lines
    "_cause", "_exposure_in_words", "_late_begin", "_missed_in_words", "_no_access", "_no_common_mechanism",
    "_no_handshake", "_residual_in_words", "news_of_peers", "pixel_warning", "refuse", "scan_pixel_m",
    "why_without_position",
}  # fmt: skip


def modules(*floors):
    """Yield the syntax of every module of some floors."""
    for floor in floors:
        for path in sorted((documents.ROOT / floor).rglob("*.py")):
            yield ast.parse(path.read_text("utf-8"))


def template(node):
    """Return a literal text, "…" where it takes a value; for what is no text "…"."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(template, parts))
    return "…"


def texts(module, node):
    """Return the sentences that a value may be: itself, or what the module assigns to its name."""
    match node:
        case ast.Name(id=name):
            assigned = (a for a in ast.walk(module) if isinstance(a, ast.Assign))
            values = [a.value for a in assigned if name in {getattr(to, "id", None) for to in a.targets}]
            return [text for value in values for text in texts(module, value)]
        case ast.Tuple(elts=items):
            return [text for item in items for text in texts(module, item)]
    return [text for text in (template(node),) if " " in text]


def lines_of(module):
    """Yield the lines for the operator of one module."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[*_, last]) if (
                name in TELLS
            ):
                yield from texts(module, last)
            case ast.FunctionDef(name=name) if name in IN_WORDS:
                for given in ast.walk(node):
                    if isinstance(given, ast.Return | ast.Yield):
                        yield from texts(module, given.value)


LINES = sorted({line for module in modules("service") for line in lines_of(module)})


def section(heading):
    """Return what stands below a heading of the guide."""
    return GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def entries(heading):
    """Return the first column of the table below a heading."""
    return re.findall(r"^\| (.*?) \| ", section(heading), re.MULTILINE)[1:]


def is_of(entry, line):
    """Whether an entry is of a line: one of its beginnings, between semicolons, "…" for any words."""
    beginnings = (re.escape(told.strip()).replace("…", ".*") for told in entry.split(";"))
    return any(re.match(beginning, line) for beginning in beginnings)


WARNINGS = entries("What a warning asks you to check")


@pytest.mark.parametrize("line", LINES)
def test_the_guide_says_what_a_warning_asks_to_check(line):
    assert any(is_of(entry, line) for entry in WARNINGS)


@pytest.mark.parametrize("entry", WARNINGS)
def test_a_warning_of_the_guide_is_one_that_can_come(entry):
    assert any(is_of(entry, line) for line in LINES)


def test_the_lines_looked_for_are_found_where_they_are_said():
    defined = {
        node.name
        for module in modules("service")
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef)
    }
    assert defined >= IN_WORDS
    assert any("exposure is" in line for line in LINES)


def test_each_kind_of_error_has_an_entry():
    raised = {
        node.name
        for module in modules("service", "model", "training")
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }
    told = entries("What an error asks you to check")
    assert {name for entry in told for name in re.findall(r"`(\w+)`", entry)} == raised


@pytest.mark.parametrize("state", Trust)
def test_the_guide_says_what_a_state_of_the_model_means(state):
    assert f"`{state}`" in section("What a warning asks you to check")
