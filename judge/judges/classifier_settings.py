"""How fine-tuned judges are run: what the user may say, and what a judge.yaml may.

    judge = load_judge("judges/phi3", running=ClassifierSettings(lengths=(1024, 2048)))
    judge = make_classifier("hf:some/checkpoint")

A judge.yaml says the same under `running`; what the user says goes before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from judge.errors import InputError

if TYPE_CHECKING:
    from judge.judges.base import Judge

HF = "hf:"


@dataclass(frozen=True)
class ClassifierSettings:
    """Everything that may be said about how a fine-tuned judge is run.

    Attributes:
        device: where: `cpu`, `cuda:0`, `mps`; several share the work, the same one twice too. By
            default all GPUs, or the processor.
        dtype: `auto` for what the device is fast in, `float32`, `bfloat16` or `float16`.
        quantize: `8bit` or `4bit`, through bitsandbytes.
        lengths: the most tokens of a sequence; what the judge says with each is averaged. By
            default the length that it was trained with.
        orders: the orders that battles are shown in; a judge with a symmetric head has no use for
            them.
        batch_tokens: tokens of a batch; by default what suits the device.
        share_prompt: whether what both orders begin with is worked through once, where the model
            allows; None for where it pays.
        attention: `packed`, `padded`, or `auto`, which packs where the family allows.
        template: how battles are put; for judges that came from elsewhere (`hf:`), since others
            keep what they were trained with.
        policy: what to keep of battles that are too long; by default as the judge was trained.
        said: what goes before a judge's own settings even where it is the default.
    """

    device: tuple[str, ...] = ()
    dtype: str = "auto"
    quantize: str | None = None
    lengths: tuple[int, ...] = ()
    orders: tuple[str, ...] = ("AB", "BA")
    batch_tokens: int | None = None
    share_prompt: bool | None = None
    attention: str = "auto"
    template: str | None = None
    policy: str | None = None
    said: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """
        Raises:
            InputError: a value that cannot be.
        """
        if any(length < 1 for length in self.lengths) or len(set(self.lengths)) < len(self.lengths):
            raise InputError(f"lengths are {self.lengths}", mend="give each length once, above 0")
        known = {"AB", "BA"}
        if (
            not self.orders
            or not set(self.orders) <= known
            or len(set(self.orders)) < len(self.orders)
        ):
            raise InputError(f"orders are {self.orders}", mend="give AB, BA or both")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise InputError(f"batch_tokens is {self.batch_tokens}", mend="give a number above 0")


DEFAULT = ClassifierSettings()

_KEPT = ("quantize", "lengths", "orders", "template", "policy")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "dtype": str,
    "quantize": (str, NoneType),
    "lengths": tuple,
    "orders": tuple,
    "batch_tokens": int,
    "share_prompt": bool,
    "attention": str,
    "template": str,
    "policy": str,
}
_MEMBERS: dict[str, type] = {"lengths": int, "orders": str}


def is_classifier(spec: str) -> bool:
    """Whether a judge's name asks for a checkpoint of transformers."""
    return spec.startswith(HF)


def make_classifier(spec: str, running: ClassifierSettings = DEFAULT) -> Judge:
    """The judge that `hf:MODEL_OR_FOLDER` names.

    Raises:
        ArenaJudgeError: it cannot be had or used, or a package is missing.
    """
    name = spec.removeprefix(HF)
    if not name.strip():
        raise InputError(f"{spec} names no model", mend=f"write {HF}MODEL_OR_FOLDER")
    from judge.judges.classifier import ClassifierJudge

    return ClassifierJudge.borrowed(name, running)


def as_run(running: ClassifierSettings, kept: object, file: Path) -> ClassifierSettings:
    """Settings with what a recipe says under `running` in place of defaults; what the user said
    goes before.

    Raises:
        InputError: it says something that is no such setting.
    """
    if kept is None:
        return running
    if not isinstance(kept, dict) or set(kept) - set(_TYPES):
        raise InputError("running cannot be read", file=file, mend=f"it has {', '.join(_TYPES)}")
    values: dict[str, Any] = {}
    for field in fields(ClassifierSettings):
        if field.name not in kept or _is_said(running, field.name):
            continue
        value = kept[field.name]
        value = tuple(value) if isinstance(value, list) else value
        members = _MEMBERS.get(field.name)
        sound = isinstance(value, _TYPES[field.name])
        sound &= isinstance(value, bool) == (field.name == "share_prompt")
        if members is not None and sound:
            sound = all(isinstance(one, members) and not isinstance(one, bool) for one in value)
        if not sound:
            raise InputError(f"running has a {field.name} that cannot be", file=file)
        values[field.name] = value
    try:
        return replace(running, **values, said=running.said | values.keys())
    except InputError as error:
        raise InputError(str(error), file=file) from None


def _is_said(running: ClassifierSettings, name: str) -> bool:
    return name in running.said or getattr(running, name) != getattr(DEFAULT, name)


def to_keep(running: ClassifierSettings) -> dict[str, object]:
    """How a judge was run, for the judge.yaml of one that is made of it: what its probabilities
    depend on, machines aside, as far as it was said."""
    kept: dict[str, object] = {}
    for name in _KEPT:
        value = getattr(running, name)
        if _is_said(running, name):
            kept[name] = list(value) if isinstance(value, tuple) else value
    return kept
