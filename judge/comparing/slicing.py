"""Which slices battles fall into: by turns, length, language, model, or a column of their file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.errors import InputError

Bools = npt.NDArray[np.bool_]

NOT_SAID = "not said"


@dataclass(frozen=True)
class Part:
    """A slice of N battles.

    Attributes:
        by: what the battles are sliced by.
        name: of the slice.
        rows: (N,) which battles are in it. Slices by model overlap: a battle has two.
        pooled: the names of the slices that were too small and went together into this one.
    """

    by: str
    name: str
    rows: Bools
    pooled: tuple[str, ...] = ()


def slicings() -> list[str]:
    """What battles can be sliced by, whatever their file has."""
    return list(_SLICINGS)


def columns_wanted(by: Sequence[str]) -> list[str]:
    """The columns of the file that must be kept for it beside the usual facts."""
    return [name for name in by if name not in _SLICINGS]


def parts(facts: pd.DataFrame, by: str, least: int) -> list[Part]:
    """The slices of battles by one thing; each battle is in one, or by model in two.

    Args:
        facts: of N battles, see `judge.comparing.facts`; a column for each thing that is not usual.
        by: one of `slicings()`, or a column.
        least: slices of fewer battles are pooled; one alone stays what it is.

    Returns:
        The slices, those of a number in its order and others by falling size, what is pooled last.

    Raises:
        InputError: the battles say nothing of it.
    """
    found = _SLICINGS[by](facts) if by in _SLICINGS else _by_words(facts[by])
    if not found:
        raise InputError(
            f"no battle says anything of {by!r}, so there are no slices by it",
            mend=f"slice by {', '.join(_SLICINGS)}, or by a column that the file has",
        )
    large = [Part(by, name, rows) for name, rows in found if rows.sum() >= least]
    small = [(name, rows) for name, rows in found if rows.sum() < least]
    if len(small) == 1:  # there is nothing to pool it with
        large.append(Part(by, *small[0]))
    elif small:
        rows = np.logical_or.reduce([rows for _, rows in small])
        names = tuple(name for name, _ in small)
        large.append(Part(by, f"others ({len(small)})", rows, names))
    return large


Named = list[tuple[str, Bools]]


def _by_turns(facts: pd.DataFrame) -> Named:
    turns = facts["turns"].to_numpy()
    found = [("1", turns <= 1), ("2-3", (turns > 1) & (turns <= 3)), ("4 and more", turns > 3)]
    return [(name, rows) for name, rows in found if rows.any()]


def _by_length(facts: pd.DataFrame) -> Named:
    """Both responses together."""
    length = (facts["a_characters"] + facts["b_characters"]).to_numpy(dtype=np.float64)
    return _thirds(length, lambda edge: f"{edge:,.0f}", "characters")


def _by_length_difference(facts: pd.DataFrame) -> Named:
    """How many times as long the longer response is, an empty one counted as one character."""
    times = np.exp(facts["length_difference"].abs().to_numpy(dtype=np.float64))
    return _thirds(times, lambda edge: f"{edge:.2g}", "times as long")


def _thirds(values: npt.NDArray[np.float64], show: Callable[[float], str], unit: str) -> Named:
    """Equal parts as far as equal values let them be; each is named by what parts it from the
    next."""
    edges = np.unique(np.quantile(values, [1 / 3, 2 / 3], method="inverted_cdf"))
    edges = edges[edges < values.max()]
    place = np.searchsorted(edges, values, side="left")
    shown = [show(float(edge)) for edge in edges]
    if not shown:
        return [(f"all {unit}" if unit == "characters" else "all", np.ones(len(values), bool))]
    names = [f"to {shown[0]} {unit}"]
    names += [f"{low} to {high}" for low, high in pairwise(shown)]
    names.append(f"over {shown[-1]}")
    return [(name, place == number) for number, name in enumerate(names)]


def _by_code(facts: pd.DataFrame) -> Named:
    code = facts["code"].to_numpy(dtype=bool)
    return [(name, rows) for name, rows in (("code", code), ("no code", ~code)) if rows.any()]


def _by_language(facts: pd.DataFrame) -> Named:
    return _by_words(facts["language"])


def _by_category(facts: pd.DataFrame) -> Named:
    return _by_words(facts["category"])


def _by_model(facts: pd.DataFrame) -> Named:
    """The battles of each model, on whichever side; none without names."""
    sides = [_by_words(facts[column]) for column in ("model_a", "model_b")]
    found: dict[str, Bools] = {}
    for name, rows in (pair for side in sides for pair in side):
        found[name] = found[name] | rows if name in found else rows
    found.pop(NOT_SAID, None)
    return sorted(found.items(), key=lambda one: (-int(one[1].sum()), one[0]))


def _by_words(cells: pd.Series) -> Named:
    """By each word that a column has, by falling size; nothing if it has none."""
    codes, words = pd.factorize(cells)
    if not len(words):
        return []
    sizes = np.bincount(codes[codes >= 0], minlength=len(words))
    order = sorted(range(len(words)), key=lambda place: (-int(sizes[place]), str(words[place])))
    found: Named = [(str(words[place]), codes == place) for place in order]
    return [*found, (NOT_SAID, codes < 0)] if (codes < 0).any() else found


_SLICINGS: dict[str, Callable[[pd.DataFrame], Named]] = {
    "turns": _by_turns,
    "length": _by_length,
    "length-difference": _by_length_difference,
    "language": _by_language,
    "code": _by_code,
    "category": _by_category,
    "model": _by_model,
}
