"""Progress bars: on a terminal, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import click

Advance = Callable[[int], None]
"""Told of how many more are done."""


@contextmanager
def shown(label: str, length: int) -> Iterator[Advance]:
    """Show how much of something long is done."""
    with click.progressbar(
        length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        yield bar.update


def shown_of(subject: str) -> Callable[[str, int], AbstractContextManager[Advance]]:
    """Return what shows how much of each of a subject's parts is done, given its name and length."""
    return lambda part, length: shown(f"{subject}: {part}", length)
