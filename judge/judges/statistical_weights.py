"""The statistical judge's weights, and the file they are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from judge.ballots import CRITERIA
from judge.errors import InputError
from judge.features.extraction import extract, feature_names
from judge.trees import Forest

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """The judge's weights; see `finetune.statistical` for how they come about.

    Attributes:
        names: the features that the weights are for, criterion by criterion, then the setting's.
        scale: (K,) what the features' differences are divided by before they are bounded.
        linear: (K,) weights of the scaled differences.
        lexical: (2^b,) weights of n-grams, by the first b bits of their hash.
        forests: a forest for each criterion.
        context_mean, context_scale, context_weight: (m,) standardisation and tie weights of the
            setting's features.
        tie: (2,) the tie strength's constant and its weight for the distance sqrt(1 + d^2).
        odd: (3,) what is added where a response is empty or both are the same: to the strength of
            the response that is there, to the tie strength of such a battle, and to that of two
            identical responses.
        vote_scale: (5,) what a criterion's strength is multiplied by to cast its vote.
    """

    names: tuple[str, ...]
    scale: Floats
    linear: Floats
    lexical: npt.NDArray[np.float32]
    forests: Mapping[str, Forest]
    context_mean: Floats
    context_scale: Floats
    context_weight: Floats
    tie: Floats
    odd: Floats
    vote_scale: Floats


def write_weights(file: Path, weights: Weights) -> None:
    """Writes weights as a compressed npz without pickled objects."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "names": np.array(weights.names),
        "scale": weights.scale,
        "linear": weights.linear,
        "lexical": weights.lexical.astype(np.float16),
        "context_mean": weights.context_mean,
        "context_scale": weights.context_scale,
        "context_weight": weights.context_weight,
        "tie": weights.tie,
        "odd": weights.odd,
        "vote_scale": weights.vote_scale,
    }
    for criterion, forest in weights.forests.items():
        arrays |= {f"forest.{criterion}.{name}": a for name, a in forest.arrays().items()}
    np.savez_compressed(file, allow_pickle=False, **arrays)


def read_weights(file: Path) -> Weights:
    """The weights that `write_weights` wrote.

    Raises:
        InputError: the file is missing, damaged, or made for other features than this version's.
    """
    mend = "reinstall arena-judge, or make the weights again with scripts/train_statistical.py"
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        weights = _from_arrays(arrays)
    except FileNotFoundError:
        raise InputError("not found", file=file, mend=mend) from None
    except Exception as error:
        raise InputError(f"holds no usable weights ({error})", file=file, mend=mend) from None
    found = extract([("",)], [("",)], [("",)])
    expected = feature_names(found)
    if weights.names != expected:
        odd = sorted(set(weights.names) ^ set(expected))[:3]
        raise InputError(
            f"was made for other features than this version's ({', '.join(odd)})",
            file=file,
            mend=mend,
        )
    wrong = _misfit(weights, {c: len(part) for c, part in found.names.items()})
    if wrong:
        raise InputError(f"holds no usable weights ({wrong})", file=file, mend=mend)
    return weights


def _misfit(weights: Weights, widths: Mapping[str, int]) -> str | None:
    """Which array is not of the shape that the features ask for, or holds what is no number."""
    own, context = sum(widths.values()), len(weights.names) - sum(widths.values())
    shapes = {
        "scale": own,
        "linear": own,
        "context_mean": context,
        "context_scale": context,
        "context_weight": context,
        "tie": 2,
        "odd": 3,
        "vote_scale": len(CRITERIA),
    }
    for name, size in shapes.items():
        values = getattr(weights, name)
        if values.shape != (size,) or not np.isfinite(values).all():
            return f"{name} is not {size} numbers"
    size = weights.lexical.size
    if weights.lexical.ndim != 1 or size & (size - 1) or not np.isfinite(weights.lexical).all():
        return "lexical is not a power of two of numbers"
    for criterion, forest in weights.forests.items():
        if not forest.is_sound(widths[criterion] + context):
            return f"the forest of {criterion} is broken"
    return None


def _from_arrays(arrays: Mapping[str, npt.NDArray[np.generic]]) -> Weights:
    forests = {}
    for criterion in CRITERIA:
        prefix = f"forest.{criterion}."
        part = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        forests[criterion] = Forest.from_arrays(part)

    def floats(name: str) -> Floats:
        return arrays[name].astype(np.float64)

    return Weights(
        names=tuple(arrays["names"].tolist()),
        scale=floats("scale"),
        linear=floats("linear"),
        lexical=arrays["lexical"].astype(np.float32),
        forests=forests,
        context_mean=floats("context_mean"),
        context_scale=floats("context_scale"),
        context_weight=floats("context_weight"),
        tie=floats("tie"),
        odd=floats("odd"),
        vote_scale=floats("vote_scale"),
    )
