"""The config tree as command-line options: one a leaf, so that nothing has to be said in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from finetune.settings.config import Config, Leaf, leaves, read_config, with_values
from judge.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])

_SHORT = {"run.output": "-o"}
_METAVARS = {
    "data.extra": "[WEIGHT*]FILE",
    "data.dev": "FILE",
    "data.held_out": "FILE",
    "data.folds": "FOLDER",
    "distillation.teacher": "GLOB",
    "model.base": "MODEL",
    "model.init": "FOLDER",
    "run.output": "FOLDER",
}
DISTILLATION = tuple(leaf.path for leaf in leaves() if leaf.path.startswith("distillation."))
"""What only a student is told."""
_KINDS = {str: "TEXT", int: "N", float: "X", tuple: "TEXT"}


def config_options(*, without: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Adds an option for each leaf; what is said arrives by `said`.

    Args:
        without: leaves that the command takes otherwise, such as an argument.
    """

    def added(command: Command) -> Command:
        for leaf in reversed(leaves()):
            if leaf.path not in without:
                command = _option(leaf)(command)
        return command

    return added


def resolved(file: str | None, values: Mapping[str, Any]) -> Config:
    """The config: what options say, else what the file says, else the defaults.

    Args:
        file: a YAML file, if there is one.
        values: what click found, by `variable`; None and () are not said.

    Raises:
        InputError: something that there is not, or that cannot be.
    """
    config = Config() if file is None else read_config(file)
    for leaf in leaves():
        value = values.get(variable(leaf))
        if value is not None and value != ():
            try:
                config = with_values(config, {leaf.path: value})
            except InputError as error:
                said = str(error).replace(leaf.path, leaf.flag, 1)
                raise click.UsageError(said) from None
    return config


def variable(leaf: Leaf) -> str:
    """What click calls a leaf's value."""
    return leaf.path.replace(".", "_")


def _option(leaf: Leaf) -> Callable[[Any], Any]:
    names = [variable(leaf), *([_SHORT[leaf.path]] if leaf.path in _SHORT else [])]
    if leaf.kind is bool:
        return click.option(
            *names, f"{leaf.flag}/--no-{leaf.flag[2:]}", default=None, help=_help(leaf)
        )
    metavar = _METAVARS.get(leaf.path, "|".join(leaf.choices) or _KINDS[leaf.kind])
    several = leaf.kind is tuple
    return click.option(
        *names,
        leaf.flag,
        multiple=several,
        default=() if several else None,
        metavar=metavar,
        help=_help(leaf),
    )


def _help(leaf: Leaf) -> str:
    if "[default" in leaf.about or leaf.default in (None, ()):
        return leaf.about
    shown = leaf.default
    if isinstance(shown, bool):
        shown = "on" if shown else "off"
    elif isinstance(shown, float):
        shown = f"{shown:g}"
    return f"{leaf.about}  [default: {shown}]"
