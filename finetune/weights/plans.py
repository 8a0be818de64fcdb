"""Which judges have a mean: those of one base and shape, that learned in the same places.

    plan = planned([read_judge_folder(path) for path in opened(["teachers/minilm"])], how=DELTAS)

The mean itself is in `finetune.weights.averaging`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.settings.config import FILE as CONFIG
from finetune.weights.folders import ADAPTER, ADAPTER_CONFIG, JudgeFolder
from judge.errors import InputError
from judge.judges.recipes import FILE as RECIPE

if TYPE_CHECKING:
    from torch import Tensor

DELTAS, FACTORS = HOW = ("deltas", "factors")
EXACT = "exact"
A, B = ".lora_A.weight", ".lora_B.weight"
_STRANGERS = 0.2
"""Adapters that began alike are more alike than this: A hardly moves in training."""


@dataclass(frozen=True)
class Plan:
    """Judges that can be averaged, and how.

    Attributes:
        judges: one or more, of one base and one shape.
        how: `deltas` or `factors`; of judges without adapters no matter.
        rank: of the result; None for the first judge's. No matter without adapters.
        notes: what there is to say of them.
    """

    judges: tuple[JudgeFolder, ...]
    how: str
    rank: int | None
    notes: tuple[str, ...]

    @property
    def adapted(self) -> bool:
        """Whether they have adapters."""
        return self.judges[0].adapted


def planned(
    judges: Sequence[JudgeFolder], *, how: str = DELTAS, rank: int | str | None = None
) -> Plan:
    """Sees to it that judges have a mean.

    Args:
        judges: of one base and one shape.
        how: `deltas` or `factors`.
        rank: of the result; None for the largest among them, `exact` for all that the mean has.

    Raises:
        InputError: they are of different bases or shapes, or did not begin alike where they must.
    """
    if not judges:
        raise InputError("no judge to average")
    first = judges[0]
    for other in judges[1:]:
        _same(first, other)
    if not first.adapted:
        if rank is not None or how != DELTAS:
            raise InputError(
                "has no adapter: all its weights are averaged",
                file=first.path,
                mend="leave out --how and --rank",
            )
        return Plan(tuple(judges), how, None, _beginnings(judges, strict=_hidden(first)))
    configs = [config_of(one) for one in judges]
    _alike(judges, configs)
    ranks = [int(config["r"]) for config in configs]
    if how == FACTORS:
        if len({(scale_of(config), config["r"]) for config in configs}) > 1:
            raise InputError(
                "has an adapter of another rank or alpha than others, so their factors have no "
                "mean",
                file=judges[-1].path,
                mend="take --how deltas",
            )
        if rank is not None:
            raise InputError("factors keep their rank", mend="leave out --rank")
        return Plan(tuple(judges), how, ranks[0], _beginnings(judges, strict=True))
    if any(config.get("use_dora") for config in configs) and len(judges) > 1:
        raise InputError(
            "has a DoRA adapter, whose change of the weights is no product of two thin matrices",
            file=first.path,
            mend="merge the judges first (arena-judge finetune merge), whose mean is exact, or "
            "take --how factors",
        )
    wanted = max(ranks) if rank is None else sum(ranks) if rank == EXACT else int(rank)
    if rank == EXACT and _identical(judges):
        wanted = max(ranks)  # they are their own mean
    return Plan(tuple(judges), how, wanted, _beginnings(judges, strict=_hidden(first)))


# --- what fits together ---------------------------------------------------------------------------


def _same(first: JudgeFolder, other: JudgeFolder) -> None:
    """Sees to it that two judges are one network with other weights."""
    if other.settings["kind"] != first.settings["kind"] or other.adapted != first.adapted:
        one, two = (
            "has an adapter" if judge.adapted else "has all its weights" for judge in (first, other)
        )
        if first.settings["kind"] != other.settings["kind"]:
            one, two = (
                "says who won" if judge.classifies else "writes ballots" for judge in (first, other)
            )
        raise InputError(f"{two} and {first.path} {one}", file=other.path, mend="average like ones")
    # Where all weights are there, the base's place may be one on another machine.
    bases = [one.base if first.adapted else Path(one.base).name for one in (first, other)]
    if bases[0] != bases[1]:
        raise InputError(
            f"is of the base {bases[1]} and {first.path} of {bases[0]}",
            file=other.path,
            mend="average judges of one base",
        )
    if not first.classifies:
        asked = [judge.settings.get("asking", {}).get("prompt") for judge in (first, other)]
        if asked[0] != asked[1]:
            raise InputError(f"answers {asked[1]} and {first.path} {asked[0]}", file=other.path)
        return
    from judge.classifier.shape import Shape, shape_of

    shapes = [shape_of(judge.settings, judge.path / RECIPE) for judge in (first, other)]
    for field in fields(Shape):
        if field.name in ("base", "dropout"):
            continue
        one, two = (getattr(shape, field.name) for shape in shapes)
        if one != two:
            what = f"has {field.name} {two} and {first.path} has {one}"
            raise InputError(what, file=other.path / RECIPE, mend="average judges of one shape")


def _hidden(judge: JudgeFolder) -> bool:
    """Whether the head has a hidden layer, whose units mean nothing across beginnings."""
    return judge.classifies and bool(judge.settings.get("width"))


def config_of(judge: JudgeFolder) -> dict[str, Any]:
    """An adapter's configuration.

    Raises:
        InputError: it is none of LoRA's, or has what no mean can be taken of.
    """
    file = judge.weights / ADAPTER_CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise InputError("cannot be read", file=file, mend="make the judge anew") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise InputError("is of another kind than LoRA", file=file)
    sound = all(
        isinstance(config.get(name), int | float) and config[name] > 0
        for name in ("r", "lora_alpha")
    )
    if not sound:
        raise InputError("says no rank and alpha", file=file)
    odd = [name for name in ("rank_pattern", "alpha_pattern") if config.get(name)]
    odd += ["bias"] if config.get("bias", "none") != "none" else []
    odd += ["modules_to_save"] if config.get("modules_to_save") else []
    if odd:
        raise InputError(
            f"has {odd[0]}, and adapters with it cannot be averaged",
            file=file,
            mend="merge the judges first (arena-judge finetune merge)",
        )
    return config


def scale_of(config: Mapping[str, Any]) -> float:
    """What B A is multiplied by: alpha / r, with rsLoRA alpha / sqrt(r) (D. Kalajdzievski 2023)."""
    rank = float(config["r"])
    return float(config["lora_alpha"]) / (rank**0.5 if config.get("use_rslora") else rank)


def alpha_of(config: Mapping[str, Any], rank: int) -> float:
    """The alpha with which another rank has the same scale."""
    return scale_of(config) * (rank**0.5 if config.get("use_rslora") else rank)


def _alike(judges: Sequence[JudgeFolder], configs: Sequence[Mapping[str, Any]]) -> None:
    """Sees to it that adapters are of one kind."""
    for name in ("use_dora", "use_rslora", "fan_in_fan_out"):
        values = [bool(config.get(name)) for config in configs]
        if len(set(values)) > 1:
            odd = judges[values.index(not values[0])]
            raise InputError(
                f"has {name} {not values[0]} and {judges[0].path} has {values[0]}",
                file=odd.weights / ADAPTER_CONFIG,
                mend="average adapters of one kind",
            )


def _identical(judges: Sequence[JudgeFolder]) -> bool:
    first = (judges[0].weights / ADAPTER).read_bytes()
    return all((one.weights / ADAPTER).read_bytes() == first for one in judges[1:])


def _beginnings(judges: Sequence[JudgeFolder], *, strict: bool) -> tuple[str, ...]:
    """Sees to it that judges began alike, where their means make no sense otherwise.

    Args:
        judges: two of which may have begun otherwise.
        strict: whether that is a fault, or only to be said.

    Raises:
        InputError: they did not, and it is one.
    """
    if len(judges) < 2:
        return ()
    stated = [_beginning(one) for one in judges]
    known = [one for one in stated if one is not None]
    differ = len({json.dumps(one, sort_keys=True) for one in known}) > 1
    why = "their train.yaml have other seeds or settings of the model"
    if not differ and judges[0].adapted:
        factors = [_first_factors(one) for one in judges]
        from finetune.weights.low_rank import likeness

        try:
            pairs = [likeness(one, two) for one, two in combinations(factors, 2)]
        except (ValueError, RuntimeError):
            pairs = []  # of other ranks
        differ = bool(pairs) and min(pairs) < _STRANGERS
        why = f"their factors A are next to unrelated (cosine {min(pairs, default=1.0):.2f})"
    if not differ:
        return ()
    if strict:
        raise InputError(
            f"the judges did not begin alike ({why}), and the mean of such factors or heads means "
            "nothing",
            mend="train them with one --seed, or take --how deltas and a head without --width",
        )
    return (f"the judges did not begin alike: {why}",)


def _beginning(judge: JudgeFolder) -> dict[str, Any] | None:
    """What a judge's weights were before training, as its train.yaml says it."""
    import yaml

    file = judge.path / CONFIG
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        lora = tree.get("lora") or {}
        run, model = tree.get("run") or {}, tree.get("model") or {}
        kept = {name: lora.get(name) for name in ("r", "targets", "skip_layers", "dora")}
        return {"seed": run.get("seed"), "init": model.get("init"), "lora": kept}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, RecursionError):
        return None


def _first_factors(judge: JudgeFolder) -> list[Tensor]:
    from judge.classifier.storing import read_tensors

    tensors = read_tensors(judge.weights / ADAPTER)
    return [tensors[name] for name in sorted(tensors) if name.endswith(A)]
