"""What a run of training is told: one tree that is a YAML file and command-line options both.

    config = read_config(Path("train.yaml"))
    config = with_values(config, {"optimisation.lr": 2e-5})
    text = to_yaml(config)                       # every leaf with its value and what it is

Paths are from the folder that the command runs in, in a file as on the command line.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from finetune.settings.sections import (
    EACH,
    MEAN,
    PREFERENCE,
    VOTES,
    Config,
    DataConfig,
    DistillationConfig,
    LoraConfig,
    ModelConfig,
    OptimisationConfig,
    RunConfig,
)
from judge.errors import InputError

FILE = "train.yaml"
"""What the resolved config is called in a judge folder."""
NONE = "none"
"""What is written for a leaf that can be empty and is to be."""


@dataclass(frozen=True)
class Leaf:
    """One value of the tree.

    Attributes:
        path: where it is, such as `optimisation.lr`.
        kind: `str`, `int`, `float`, `bool`, or `tuple` of texts.
        optional: whether it can be empty.
    """

    path: str
    kind: type
    optional: bool
    default: Any
    about: str
    flag: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    below: float | None = None

    def checked(self, value: Any) -> Any:
        """A value as this leaf holds it.

        Raises:
            InputError: it is none.
        """
        if value is None or (self.optional and value == NONE):
            if self.optional:
                return None
            raise InputError(f"{self.path} cannot be empty")
        if self.kind is tuple:
            values = [value] if isinstance(value, str) else value
            if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
                raise InputError(f"{self.path} is a list of texts, and not {value!r}")
            return tuple(values)
        if self.kind is bool or isinstance(value, bool):
            if not (self.kind is bool and isinstance(value, bool)):
                raise InputError(f"{self.path} is {_WORDS[self.kind]}, and not {value!r}")
            return value
        return self._text(value) if self.kind is str else self._number(value)

    def _text(self, value: Any) -> str:
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            allowed = f"one of {', '.join(self.choices)}" if self.choices else "a text"
            raise InputError(f"{self.path} is {allowed}, and not {value!r}")
        return value

    def _number(self, value: Any) -> float | int:
        try:  # YAML takes 2e-5 for a text
            number = float(value)
            sound = math.isfinite(number) and (self.kind is float or number == int(number))
        except (TypeError, ValueError, OverflowError):
            sound = False
        if not sound:
            raise InputError(f"{self.path} is {_WORDS[self.kind]}, and not {value!r}")
        low = self.least is not None and number < self.least
        high = self.most is not None and number > self.most
        if low or high or (self.below is not None and number >= self.below):
            raise InputError(f"{self.path} is {self.range}, and not {value!r}")
        return int(number) if self.kind is int else number

    @property
    def range(self) -> str:
        """Which numbers it can be, in words."""
        parts = []
        if self.least is not None:
            parts.append(f"at least {self.least:g}")
        if self.most is not None:
            parts.append(f"at most {self.most:g}")
        if self.below is not None:
            parts.append(f"below {self.below:g}")
        return " and ".join(parts)


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@cache
def leaves() -> tuple[Leaf, ...]:
    """All leaves of the tree, in its order."""
    return tuple(_leaves())


def _leaves() -> Iterator[Leaf]:
    for section in fields(Config):
        kind: Any = type(section.default)
        hints = typing.get_type_hints(kind)
        for one in fields(kind):
            hint, optional = hints[one.name], False
            if isinstance(hint, types.UnionType):
                hint = next(part for part in typing.get_args(hint) if part is not type(None))
                optional = True
            more = dict(one.metadata)
            yield Leaf(
                f"{section.name}.{one.name}",
                typing.get_origin(hint) or hint,
                optional,
                one.default,
                more.pop("about"),
                "--" + more.pop("flag", one.name.replace("_", "-")),
                **more,
            )


def value_of(config: Config, path: str) -> Any:
    """The value at a path."""
    section, name = path.split(".")
    return getattr(getattr(config, section), name)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The same with other values, by their paths.

    Raises:
        InputError: a value that cannot be.
    """
    known = {leaf.path: leaf for leaf in leaves()}
    for path, value in values.items():
        section, name = path.split(".")
        changed = replace(getattr(config, section), **{name: known[path].checked(value)})
        config = replace(config, **{section: changed})
    return config


def read_config(file: str | Path, config: Config | None = None) -> Config:
    """What a file says, over another config.

    Raises:
        InputError: it cannot be read, or says what there is not.
    """
    import yaml

    try:
        said = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("not found", file=file) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", file=file) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or type(error).__name__
        row = None if mark is None else mark.line + 1
        raise InputError(f"is not YAML ({what})", file=file, row=row) from None
    try:
        return with_values(config or Config(), _flat({} if said is None else said))
    except InputError as error:
        raise InputError(str(error), file=file) from None


def _flat(said: object) -> dict[str, Any]:
    """The values by path."""
    sections = [section.name for section in fields(Config)]
    if not isinstance(said, Mapping):
        raise InputError("is no config", mend=f"it has {', '.join(sections)}")
    paths = [leaf.path for leaf in leaves()]
    found: dict[str, Any] = {}
    for section, values in said.items():
        if section not in sections:
            raise _unknown(str(section), sections, paths)
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise InputError(f"{section} holds no names and values")
        for name, value in values.items():
            path = f"{section}.{name}"
            if path not in paths:
                raise _unknown(path, paths, paths)
            found[path] = value
    return found


def _unknown(name: str, allowed: list[str], paths: list[str]) -> InputError:
    """What is said of a name that there is not; the nearest one may be in another section."""
    last = name.rpartition(".")[2]
    same = [path for path in paths if path.partition(".")[2] == last]
    close = same or get_close_matches(name, allowed, n=1) or get_close_matches(name, paths, n=1)
    if not close:
        ends = {path.partition(".")[2]: path for path in paths}
        close = [ends[one] for one in get_close_matches(last, list(ends), n=1)]
    mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(allowed)}"
    return InputError(f"knows no {name}", mend=mend)


def to_tree(config: Config) -> dict[str, dict[str, Any]]:
    """The values as YAML and JSON hold them."""
    tree: dict[str, dict[str, Any]] = {}
    for leaf in leaves():
        section, name = leaf.path.split(".")
        value = value_of(config, leaf.path)
        tree.setdefault(section, {})[name] = list(value) if isinstance(value, tuple) else value
    return tree


def to_yaml(config: Config) -> str:
    """The whole tree as a file that `read_config` reads, with what each leaf is beside it."""
    import yaml

    lines: list[str] = []
    about = {leaf.path: leaf.about.split("  [")[0] for leaf in leaves()}
    for section, values in to_tree(config).items():
        lines.append(f"{section}:")
        for name, value in values.items():
            text = yaml.safe_dump({name: value}, allow_unicode=True, width=1000, sort_keys=False)
            first, *others = text.rstrip("\n").split("\n")
            lines.append(f"  {first}  # {about[f'{section}.{name}']}")
            lines += [f"  {line}" for line in others]
    return "\n".join(lines) + "\n"


__all__ = [
    "EACH",
    "MEAN",
    "PREFERENCE",
    "VOTES",
    "Config",
    "DataConfig",
    "DistillationConfig",
    "Leaf",
    "LoraConfig",
    "ModelConfig",
    "OptimisationConfig",
    "RunConfig",
    "leaves",
    "read_config",
    "to_tree",
    "to_yaml",
    "value_of",
    "with_values",
]
