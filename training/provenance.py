"""Where a result comes from: the command, the versions, the commit."""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

_LIBRARIES = ("torch", "lightning", "numpy")
_REPOSITORY = Path(__file__).resolve().parent.parent


def environment() -> dict[str, str | None]:
    """Return the versions of what computes here, and the git commit, None where it is not known."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **libraries, "commit": git_commit()}


def git_commit(repository: Path = _REPOSITORY) -> str | None:
    """Return the commit that is checked out, with "+" where files were changed since; None without one."""
    git = shutil.which("git")
    if git is None or not (repository / ".git").exists():
        return None
    commit = _answer(git, repository, "rev-parse", "--verify", "--quiet", "HEAD")
    changed = commit and _answer(git, repository, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+" if changed else commit or None


def _answer(git: str, repository: Path, *arguments: str) -> str:
    """Return what git says, empty where it fails."""
    done = subprocess.run(
        [git, "-C", str(repository), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def command_line(context: click.Context) -> str:
    """Return the command as a person would type it: what was given, not the defaults."""
    words = ["ptycholive", context.command.name or ""]
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name:
            words += _typed(parameter, context.params[parameter.name])
    return shlex.join(words)


def _typed(parameter: click.Parameter, value: Any) -> list[str]:
    """Return the words that give a parameter its value; --families, given as "a,b", has become a tuple."""
    name = max(parameter.opts, key=len)
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return [name if value else max(parameter.secondary_opts, key=len)]
    several = isinstance(value, tuple)
    spread = [str(part) for part in value] if several else [str(value)]
    values = spread if parameter.nargs != 1 or not several else [",".join(spread)]
    return values if isinstance(parameter, click.Argument) else [name, *values]
