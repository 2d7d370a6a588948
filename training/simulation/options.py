"""What the command line says of the simulated frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

import click

from training.simulation.camera import CameraRecipe
from training.simulation.factory import SimulationRecipe
from training.simulation.objects import FAMILIES, HELD_OUT
from training.simulation.transmission import ObjectRecipe

Command = TypeVar("Command", bound=Callable[..., Any])
Part = TypeVar("Part", ObjectRecipe, CameraRecipe, SimulationRecipe)

_DEFAULT: Final = SimulationRecipe()
_SHARE: Final = click.FloatRange(0, 1)


def _names(_: click.Context, __: click.Parameter, words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(","))


_OPTIONS: Final = (
    click.option(
        "--families",
        metavar="NAME,…",
        callback=_names,
        default=",".join(FAMILIES),
        show_default=True,
        help=f"Of random objects. Kept out of training by default, to judge on: {', '.join(HELD_OUT)}.",
    ),
    click.option(
        "--known",
        type=click.Path(exists=True, dir_okay=False),
        help="Scan file with a reference, or .npy, of an object that is known: others like it are expected, "
        "so windows of it teach beside the random ones. Do not judge on it.",
    ),
    click.option(
        "--known-share",
        type=_SHARE,
        default=_DEFAULT.objects.known_share,
        show_default=True,
        help="Share of objects that are windows of --known.",
    ),
    click.option(
        "--phase-span",
        "phase_span_rad",
        type=(float, float),
        metavar="LOW HIGH",
        default=_DEFAULT.objects.phase_span_rad,
        show_default=True,
        help="Phase over an ordinary object, radians; some are weaker, some go over several turns.",
    ),
    click.option(
        "--several-turns",
        "turns_share",
        type=_SHARE,
        default=_DEFAULT.objects.turns_share,
        show_default=True,
        help="Share of objects whose phase spans up to three turns.",
    ),
    click.option(
        "--exposure",
        type=(float, float),
        metavar="LOW HIGH",
        default=_DEFAULT.camera.exposure,
        show_default=True,
        help="Least and greatest exposure, in units of the probe's.",
    ),
    click.option(
        "--readout",
        "readout_counts",
        type=click.FloatRange(min=0),
        default=_DEFAULT.camera.readout_counts,
        show_default=True,
        help="Standard deviation of the detector's readout noise, counts; 0 where it counts photons.",
    ),
    click.option(
        "--saturation",
        type=click.FloatRange(min=1),
        default=_DEFAULT.camera.saturation,
        show_default=True,
        help="Greatest count that the detector tells.",
    ),
    click.option(
        "--gaps",
        "flawed_share",
        type=_SHARE,
        default=_DEFAULT.camera.flawed_share,
        show_default=True,
        help="Share of frames with a module gap and dead pixels.",
    ),
    click.option(
        "--object-size",
        type=click.IntRange(min=1),
        default=_DEFAULT.object_size,
        show_default=True,
        help="Edge of the random objects, pixels.",
    ),
    click.option(
        "--tiles-per-object",
        type=click.IntRange(min=1),
        default=_DEFAULT.tiles_per_object,
        show_default=True,
        help="Frames taken of an object before it makes room; more is faster, fewer is more varied.",
    ),
)

RECIPE_OPTIONS: Final = (
    "families",
    "known",
    "known_share",
    "phase_span_rad",
    "turns_share",
    "exposure",
    "readout_counts",
    "saturation",
    "flawed_share",
    "object_size",
    "tiles_per_object",
)


def recipe_options(command: Command) -> Command:
    """Give a command the options of `RECIPE_OPTIONS`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def recipe_of_options(options: dict[str, Any]) -> SimulationRecipe:
    """Return the recipe that the options make; those that are not of it are left alone.

    Raises:
        ValueError: a family that nobody knows, a range out of order.
    """
    whole = _changed(_DEFAULT, options)
    return replace(whole, objects=_changed(whole.objects, options), camera=_changed(whole.camera, options))


def _changed(part: Part, options: dict[str, Any]) -> Part:
    names = {field.name for field in fields(part)} & set(RECIPE_OPTIONS)
    return replace(part, **{name: options[name] for name in names})
