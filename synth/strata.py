"""The strata that battles are drawn from: what each is like by category, length, turns, language
and closeness, and cells too small to be drawn from put together.

Each thing that battles are told apart by has a few values: bands of numbers, and the most frequent
words by name. A cell of their cross product that has too few battles is put together with the
others of its kind that are too small, leaving out what was named last first:
`code | long | fi | close` and `code | long | is | clear` become `code | long | others`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.comparing.slicing import NOT_SAID
from judge.errors import InputError
from synth.surveying import CLOSENESS, KNOWN, LENGTH, SOURCE, TURNS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

OTHER, OTHERS, ALL = "other", "others", "all"
_PARTED = " | "
# Characters of prompt and responses together.
_LENGTHS = ((1_000, "short"), (3_000, "medium"), (8_000, "long"))
_LONGEST = "very long"
_UNWRITTEN, _UNJUDGED = "unwritten", "not judged"
_CLEAR, _MIDDLE, _CLOSE = "clear", "middle", "close"
# So many words have a name of their own.
_NAMED = {"language": 8, "category": 16}
_NAMED_OTHERWISE = 12
_LEAST = 20
_SMALL_SHARE = 50


@dataclass(frozen=True)
class Aspect:
    """What N battles are told apart by.

    Attributes:
        name: such as `length`.
        values: what it may be, V of them.
        of: (N,) which of them each battle is.
    """

    name: str
    values: tuple[str, ...]
    of: Ints


@dataclass(frozen=True)
class Strata:
    """The strata of N battles.

    Attributes:
        aspects: what they differ in.
        names: of the strata, S of them.
        of: (N,) which each battle is of.
    """

    aspects: tuple[Aspect, ...]
    names: tuple[str, ...]
    of: Ints


def aspects_of(
    facts: pd.DataFrame,
    closeness: Floats,
    unwritten: Bools,
    sources: Sequence[str],
    by: Sequence[str] | None,
) -> tuple[Aspect, ...]:
    """What battles are told apart by.

    Args:
        facts: of N battles, see `synth.surveying.Survey`.
        closeness: (N,) NaN for the unjudged.
        unwritten: (N,) whether a response is yet to be written.
        sources: N names of where they are from.
        by: names of aspects; None for all of `KNOWN` in which battles differ.

    Raises:
        InputError: no battle says anything of one of them.
    """
    if by is None:
        every = (_aspect(name, facts, closeness, unwritten, sources) for name in KNOWN)
        return tuple(one for one in every if len(one.values) > 1)
    found = tuple(_aspect(name, facts, closeness, unwritten, sources) for name in by)
    for one in found:
        if one.values == (NOT_SAID,):
            raise InputError(
                f"no battle says anything of {one.name!r}, so none is drawn by it",
                mend=f"draw by {', '.join(KNOWN)}, {SOURCE}, or a column that the files have",
            )
    return found


def stratify(aspects: Sequence[Aspect], battles: int) -> Strata:
    """The cells of a cross product, those that are too small put together.

    Args:
        aspects: the one that matters most first.
        battles: N.
    """
    least = min(_LEAST, max(1, battles // _SMALL_SHARE))
    codes = np.column_stack([np.zeros(battles, np.int64), *(one.of for one in aspects)])
    cell = np.full(battles, -1, dtype=np.int64)
    names: list[str] = []
    rest = np.arange(battles)
    for depth in range(len(aspects), -1, -1):
        if not len(rest):
            break
        kinds, place = np.unique(codes[rest, : depth + 1], axis=0, return_inverse=True)
        large = (np.bincount(place) >= least) | (depth == 0)
        for number in np.flatnonzero(large).tolist():
            rows = rest[place == number]
            cell[rows] = len(names)
            names.append(_cell_name(aspects, codes[rows, 1:], kinds[number, 1:]))
        rest = rest[~large[place]]
    order = sorted(range(len(names)), key=lambda number: names[number])
    places = np.empty(len(names), dtype=np.int64)
    places[order] = np.arange(len(names))
    return Strata(tuple(aspects), tuple(names[number] for number in order), places[cell])


def closest(closeness: Floats) -> Bools:
    """(N,) the third of the judged battles that a judge is least sure of."""
    return np.asarray(_thirds(closeness) == 2)


def limits(closeness: Floats) -> tuple[float, float] | None:
    """What parts the thirds of the judged battles; None where none is judged."""
    judged = closeness[~np.isnan(closeness)]
    if not len(judged):
        return None
    low, high = np.quantile(judged, [1 / 3, 2 / 3], method="inverted_cdf").tolist()
    return low, high


def _thirds(closeness: Floats) -> Ints:
    """(N,) 0 to 2, the least sure highest; -1 for the unjudged. Equals are in one third,
    the surer one."""
    bounds = limits(closeness)
    if bounds is None:
        return np.full(len(closeness), -1)
    third = np.searchsorted(bounds, closeness, side="left")
    return np.where(np.isnan(closeness), -1, third)


def _cell_name(aspects: Sequence[Aspect], codes: Ints, shared: Ints) -> str:
    """What the battles of a cell are called. A single kind of battle has all of its name."""
    if (codes == codes[0]).all():
        shared = codes[0]
    words = [one.values[code] for one, code in zip(aspects, shared.tolist(), strict=False)]
    if len(words) < len(aspects):
        words.append(OTHERS)
    return _PARTED.join(words) or ALL


def _aspect(
    name: str, facts: pd.DataFrame, closeness: Floats, unwritten: Bools, sources: Sequence[str]
) -> Aspect:
    if name == LENGTH:
        bounds = [limit for limit, _ in _LENGTHS]
        codes = np.searchsorted(bounds, facts[LENGTH].to_numpy(), side="right")
        codes[unwritten] = len(bounds) + 1
        words: tuple[str, ...] = (*(word for _, word in _LENGTHS), _LONGEST, _UNWRITTEN)
        return _used(name, words, codes)
    if name == TURNS:
        return _used(name, ("1 turn", "more turns"), (facts[TURNS].to_numpy() > 1).astype(np.int64))
    if name == CLOSENESS:
        codes = _thirds(closeness) % 4
        return _used(name, (_CLEAR, _MIDDLE, _CLOSE, _UNJUDGED), codes)
    cells = pd.Series(sources, dtype=object) if name == SOURCE else facts[name]
    return _by_numbers(name, cells) or _by_words(name, cells)


def _used(name: str, values: Sequence[str], codes: Ints) -> Aspect:
    """An aspect with the values that there are."""
    there, of = np.unique(codes, return_inverse=True)
    return Aspect(name, tuple(values[code] for code in there.tolist()), of)


def _by_words(name: str, cells: pd.Series) -> Aspect:
    """The most frequent words by name, the rest together."""
    most = len(set(cells)) if name == SOURCE else _NAMED.get(name, _NAMED_OTHERWISE)
    counts = Counter(str(cell) for cell in cells.dropna())
    named = sorted(counts, key=lambda word: (-counts[word], word))
    named = [word for word in named if word != OTHER][:most]
    values = [*named, OTHER, NOT_SAID]
    place = {word: number for number, word in enumerate(named)}
    codes = [
        len(named) + 1 if cell is None or cell != cell else place.get(str(cell), len(named))
        for cell in cells.tolist()
    ]
    return _used(name, values, np.array(codes, dtype=np.int64))


def _by_numbers(name: str, cells: pd.Series) -> Aspect | None:
    """Quarters, where a column has more numbers than could have a name each; else None."""
    known = cells.notna().to_numpy()
    if name in (*KNOWN, SOURCE) or len(set(cells[known])) <= _NAMED_OTHERWISE:
        return None
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(numbers[known]).any() or np.isinf(numbers[known]).any():
        return None
    bounds = np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75], method="inverted_cdf"))
    shown = [f"{bound:.6g}" for bound in bounds.tolist()]
    values = [f"to {shown[0]}"]
    values += [f"{low} to {high}" for low, high in pairwise(shown)]
    values += [f"over {shown[-1]}", NOT_SAID]
    codes = np.full(len(cells), len(values) - 1, dtype=np.int64)
    codes[known] = np.searchsorted(bounds, numbers[known], side="left")
    return _used(name, values, codes)
