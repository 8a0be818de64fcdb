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
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from judge.errors import InputError

FILE = "train.yaml"
"""What the resolved config is called in a judge folder."""
PREFERENCE, VOTES = "preference", "votes"
EACH, MEAN = "each", "mean"
NONE = "none"
"""What is written for a leaf that can be empty and is to be."""


def _leaf(default: Any, about: str, **more: Any) -> Any:
    """A leaf of the tree. `more`: `choices`, `least`, `most`, `below`, `flag`."""
    return field(default=default, metadata={"about": about, **more})


@dataclass(frozen=True)
class DataConfig:
    """What is learned from."""

    battles: str | None = _leaf(None, "Labelled battles, or the ballots of --objective votes.")
    extra: tuple[str, ...] = _leaf((), "More battles; 0.5*FILE gives each half the weight.")
    dev: str | None = _leaf(None, "Battles to choose the best step on, in place of --dev-share.")
    dev_share: float = _leaf(
        0.1, "Share of BATTLES to choose the best step on, whole prompts.", least=0, below=1
    )
    held_out: tuple[str, ...] = _leaf(
        (), "Battles to measure the judge on; they and their prompts are not trained on."
    )
    dedupe: str = _leaf(
        "prompt", "Which repeated battles are left out.", choices=("prompt", "battle", "none")
    )
    near: bool = _leaf(False, "Leave out battles that are nearly another, too.")
    folds: str | None = _leaf(None, "Folds of BATTLES, as `finetune folds` writes them.")
    fold: int | None = _leaf(
        None, "Learn from the other folds, and measure on this one; from 0.", least=0
    )


@dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    base: str | None = _leaf(None, "The model to begin with: a folder or a name on the hub.")
    init: str | None = _leaf(
        None, "Go on from this folder: a judge, a reward model, or a LoRA adapter of the base."
    )
    form: str | None = _leaf(
        None,
        "pair: both responses in one sequence; single: one each.  [default: pair, or the --init's]",
        choices=("pair", "single"),
    )
    head: str | None = _leaf(
        None,
        "plain: three logits; symmetric: exact under swapping.  [default: plain for pair]",
        choices=("plain", "symmetric"),
    )
    width: int = _leaf(0, "Width of the head's hidden layer; 0 for none.", least=0)
    pooling: str | None = _leaf(
        None,
        "What the head sees of a sequence.  [default: last of causal models, else mean]",
        choices=("mean", "cls", "last"),
    )
    template: str | None = _leaf(None, "How battles are written.  [default: by the form]")
    max_length: int | None = _leaf(
        None, "Tokens of a sequence at most.  [default: 1024, or what the model reads]", least=8
    )
    policy: str = _leaf("proportional", "What is left out of longer battles.")
    dropout: float = _leaf(0.0, "Of what the head sees.", least=0, below=1)
    inner_dropout: float | None = _leaf(
        None, "Of the base's own layers.  [default: what the base says]", least=0, below=1
    )
    attention: str = _leaf(
        "auto", "Packed rows or padded ones.", choices=("auto", "packed", "padded")
    )
    quantize: str | None = _leaf(
        None, "Hold the base in 8 or 4 bits (QLoRA; needs bitsandbytes).", choices=("8bit", "4bit")
    )


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters in place of all weights."""

    lora: bool | None = _leaf(
        None, "Train adapters, or all weights.  [default: adapters for causal models]"
    )
    r: int = _leaf(16, "Their rank.", least=1, flag="lora-r")
    alpha: float = _leaf(32.0, "Their scale, divided by the rank.", least=0, flag="lora-alpha")
    dropout: float = _leaf(0.0, "Of what they see.", least=0, below=1, flag="lora-dropout")
    targets: tuple[str, ...] = _leaf(
        (), "Modules that get one, by their last name.  [default: by family]", flag="lora-target"
    )
    skip_layers: int = _leaf(0, "The first so many layers get none.", least=0)
    rslora: bool = _leaf(False, "Divide by the root of the rank instead.")
    dora: bool = _leaf(False, "Learn the length of weights apart (DoRA).")


@dataclass(frozen=True)
class OptimisationConfig:
    """How it is trained."""

    objective: str = _leaf(
        PREFERENCE, "What is learned: who won, or ballots.", choices=(PREFERENCE, VOTES)
    )
    orders: str = _leaf(
        "random",
        "Pairs in an order drawn anew each epoch, in both, or as they stand.",
        choices=("random", "both", "AB"),
    )
    smoothing: float = _leaf(0.0, "Share of each label spread evenly.", least=0, below=1)
    epochs: float = _leaf(1.0, "Times through the battles.", least=0)
    max_steps: int = _leaf(0, "End after so many steps; 0 for none.", least=0)
    step_tokens: int = _leaf(8192, "Tokens of a step, accumulated.", least=1)
    step_battles: int = _leaf(0, "Battles of a step, in place of tokens; 0 for none.", least=0)
    lr: float | None = _leaf(
        None, "Learning rate.  [default: 2e-4 with adapters, 3e-5 without]", least=0
    )
    head_lr: float = _leaf(10.0, "The head's, as a multiple of it.", least=0)
    layer_decay: float = _leaf(
        1.0, "Each layer's rate, as a share of the one's above.", least=0.1, most=1
    )
    warmup: float = _leaf(0.06, "Share of steps with a rising rate.", least=0, most=1)
    final_lr: float = _leaf(0.1, "Share of the rate at the end of the cosine.", least=0, most=1)
    weight_decay: float = _leaf(0.01, "Of matrices; not of biases and scales.", least=0)
    beta1: float = _leaf(0.9, "Of AdamW.", least=0, below=1)
    beta2: float = _leaf(0.98, "Of AdamW.", least=0, below=1)
    epsilon: float = _leaf(1e-8, "Of AdamW.", least=0)
    clip: float = _leaf(1.0, "Norm of the gradient at most; 0 for no bound.", least=0)
    ema: float = _leaf(0.0, "Decay of a running mean of the weights; 0 for none.", least=0, below=1)


@dataclass(frozen=True)
class DistillationConfig:
    """What teachers have to do with it (see `finetune.distilling`)."""

    teacher: tuple[str, ...] = _leaf((), "Tables of logits, as `finetune logits` writes them.")
    alpha: float = _leaf(
        0.7, "Weight of the teachers beside the labels, which have the rest.", least=0, most=1
    )
    temperature: float = _leaf(
        1.0, "What teachers' and student's logits are divided by.", least=0.05, most=1000
    )
    mse: float = _leaf(0.0, "Weight of the squared difference of probabilities.", least=0)
    cosine: float = _leaf(0.0, "Weight of the cosine distance of probabilities.", least=0)
    several: str = _leaf(
        EACH,
        "Several teachers: the mean of the losses by each, or one loss by their mean.",
        choices=(EACH, MEAN),
    )
    curriculum: float = _leaf(
        0.0, "Share of the epochs, the first, that learns from teachers alone.", least=0, most=1
    )
    in_fold: bool = _leaf(False, "Take teachers that have learned from what they label.")


@dataclass(frozen=True)
class RunConfig:
    """How it is run."""

    output: str | None = _leaf(None, "The judge folder to write.")
    name: str | None = _leaf(None, "What the judge is called in tables.")
    seed: int = _leaf(0, "Of split, order, head and dropout.", least=0)
    device: str | None = _leaf(None, "cpu, cuda, cuda:1 or mps.  [default: a GPU if there is one]")
    dtype: str = _leaf(
        "auto",
        "Numbers to compute in; weights that are trained stay in 32 bits.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    batch_tokens: int = _leaf(
        0, "Tokens worked through at once; 0 for what suits the device.", least=0
    )
    checkpointing: bool = _leaf(False, "Work layers through twice, for less memory.")
    fsdp: bool = _leaf(False, "Share weights among processes (torchrun), for less memory.")
    eval_every: int = _leaf(0, "Steps between looks at the dev battles; 0: ten in all.", least=0)
    patience: int = _leaf(0, "End after so many looks without gain; 0 for never.", least=0)
    save_every: int = _leaf(0, "Steps between checkpoints; 0: as the looks.", least=0)
    tensorboard: bool = _leaf(True, "Write the curve for TensorBoard too, where it is installed.")


@dataclass(frozen=True)
class Config:
    """Everything that a run is told."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    optimisation: OptimisationConfig = OptimisationConfig()
    distillation: DistillationConfig = DistillationConfig()
    run: RunConfig = RunConfig()


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


__all__ = ["Config", "Leaf", "leaves", "read_config", "to_tree", "to_yaml", "with_values"]
