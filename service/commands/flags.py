"""What the commands have in common: examples, a flag for every setting, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from service.config import Setting, all_settings, load_settings

Command = Callable[..., Any]
SHIPPED_SCAN = Path(__file__).parents[1] / "data" / "siemens_star_aps.cxi"


def example(*lines: str) -> str:
    """Return the epilog that shows how a command is called."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def with_settings(command: Command) -> Command:
    """Add `--config` and a flag for every setting; the command is given the `Settings`."""

    @wraps(command)
    def call(config: Path | None, **values: Any) -> Any:
        names = {setting.name for setting in all_settings()}
        flags = {name: value for name, value in values.items() if name in names}
        others = {name: value for name, value in values.items() if name not in names}
        return command(settings=load_settings(flags, config), **others)

    flagged: Command = call
    for setting in reversed(all_settings()):
        flagged = _flag(setting)(flagged)
    return click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")(flagged)


def _flag(setting: Setting) -> Callable[[Command], Command]:
    name = setting.name.replace("_", "-")
    told = f"{setting.description}  [default: {'none' if setting.default is None else setting.default}]"
    if setting.kind is bool:
        return click.option(f"--{name}/--no-{name}", setting.name, default=None, help=told)
    kind = click.Choice(setting.choices) if setting.choices else setting.kind
    return click.option(f"--{name}", setting.name, type=kind, default=None, help=told)


class progress_bar:  # noqa: N801 - used like a function
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        hidden = not sys.stderr.isatty()
        self._bar = click.progressbar(length=total, label="streaming", file=sys.stderr, hidden=hidden)

    def __enter__(self) -> Callable[[int, int], None]:
        self._bar.__enter__()
        return lambda done, _total: self._bar.update(done - self._bar.pos)

    def __exit__(self, *error: object) -> None:
        self._bar.render_finish()
