"""What the command line says of an iterative engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, get_args

import click

from training.judging.ptychi_engine import Device, Engine, IterativeSettings
from training.progress import shown

Command = TypeVar("Command", bound=Callable[..., Any])

_ONE_OR_MORE: Final = click.IntRange(min=1)
_OPTIONS: Final = (
    click.option(
        "--probe",
        help="To start from: a bundle, by folder or name; a scan file with a reference; or a .npy.  "
        "[default: the scan's own reference]",
    ),
    click.option(
        "--engine",
        type=click.Choice(get_args(Engine)),
        default="least-squares",
        show_default=True,
        help="Of pty-chi.",
    ),
    click.option(
        "--iterations", type=_ONE_OR_MORE, default=100, show_default=True, help="Passes over all frames."
    ),
    click.option("--batch", type=_ONE_OR_MORE, default=64, show_default=True, help="Frames taken at once."),
    click.option(
        "--modes",
        type=_ONE_OR_MORE,
        help="Of the probe; faint ones are added to those it has.  [default: its own]",
    ),
    click.option(
        "--keep-probe", is_flag=True, help="Reconstruct the object only, with the probe as it is given."
    ),
    click.option(
        "--correct-positions",
        is_flag=True,
        help="Move frames by fractions of a pixel to where they fit best.",
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the frames' order."
    ),
    click.option(
        "--device",
        type=click.Choice(get_args(Device)),
        default="auto",
        show_default=True,
        help="auto: the GPU where there is one.",
    ),
)


def engine_options(command: Command) -> Command:
    """Give a command the options of an engine, and `--probe` and `--modes` that it starts from."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings_of(options: dict[str, Any]) -> IterativeSettings:
    """Return the engine's settings that the options make; those that are not of it are left alone.

    Raises:
        ValueError: the engine cannot do that, or there is no GPU.
    """
    return IterativeSettings(
        engine=options["engine"],
        iterations=options["iterations"],
        batch=options["batch"],
        update_probe=not options["keep_probe"],
        correct_positions=options["correct_positions"],
        seed=options["seed"],
        device=options["device"],
    )


@contextmanager
def counted(label: str, iterations: int) -> Iterator[Callable[[int], None]]:
    """Show iterations done on a terminal; the context's function is told of each."""
    with shown(label, iterations) as advance:
        yield lambda _: advance(1)
