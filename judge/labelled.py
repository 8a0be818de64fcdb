"""Labelled battles, read once, with what judges say of them: what fitting and comparing start from.

The text is let go batch by batch, so it may be larger than memory; what is kept is ids, labels, a
number for each prompt and the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.battles import iter_battles, labels
from judge.errors import InputError
from judge.parallel import ordered_map

if TYPE_CHECKING:
    from judge.judges.base import Judge

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """What is kept of N battles.

    Attributes:
        ids: N of them.
        labels: (N, 3) shares of A, B and tie; NaN rows are unlabelled.
        prompts: (N,) a number for each prompt, from 0 in order of appearance.
        proba: what each judge said, (N, 3) in the order A, B, tie; NaN rows are unjudged.
        facts: a table of N rows of what else was asked of each batch; None if nothing was.
        seconds: how long each judge took, over all batches; those judged at once count apiece.
        reasons: for each judge why a battle is unjudged, by its place, as far as it said.
    """

    ids: list[str]
    labels: Floats
    prompts: npt.NDArray[np.intp]
    proba: dict[str, Floats]
    facts: pd.DataFrame | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, dict[int, str]] = field(default_factory=dict)


def read_labelled(
    source: str,
    judges: Mapping[str, Judge] | None = None,
    *,
    facts: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    chunk_rows: int = 4096,
    workers: int = 1,
    tick: Callable[[int], None] | None = None,
    unlabelled: bool = False,
) -> Labelled:
    """Reads a file of battles and has every judge judge them, in one pass.

    Args:
        source: a file of battles.
        judges: by name.
        facts: what else is to be kept of a batch: a table with a row a battle.
        chunk_rows: battles a batch.
        workers: batches judged at once; 1 where a judge asks a model.
        tick: is told how many battles are done.
        unlabelled: whether a file without labels will do; its labels are all NaN.

    Raises:
        InputError: the file cannot be read, or has no labels.
    """
    one = partial(_judged, source, judges or {}, facts, unlabelled)
    parts: list[_Part] = []
    with closing(iter_battles(source, chunk_rows=chunk_rows)) as batches:  # type: ignore[type-var]
        for part in ordered_map(one, batches, workers):
            parts.append(part)
            if tick is not None:
                tick(len(part.ids))
    codes = pd.factorize(np.concatenate([part.prompts for part in parts]))[0]
    tables = [part.facts for part in parts if part.facts is not None]
    return Labelled(
        [name for part in parts for name in part.ids],
        np.concatenate([part.labels for part in parts]),
        np.asarray(codes, dtype=np.intp),
        {name: np.concatenate([part.proba[name] for part in parts]) for name in judges or {}},
        pd.concat(tables, ignore_index=True) if tables else None,
        {name: sum(part.seconds[name] for part in parts) for name in judges or {}},
        {name: _reasons(parts, name) for name in judges or {}},
    )


def _reasons(parts: list[_Part], name: str) -> dict[int, str]:
    """What a judge said of each batch, by the places of the whole."""
    found: dict[int, str] = {}
    before = 0
    for part in parts:
        found |= {before + place: reason for place, reason in part.reasons[name].items()}
        before += len(part.ids)
    return found


def prompt_mark(turns: tuple[str, ...]) -> int:
    """A number that prompts share only if they are the same: 63 bits, alike on every machine."""
    text = "\0".join(turns).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest()) >> 1


@dataclass(frozen=True)
class _Part:
    """A batch of them; its prompts are still marks."""

    ids: list[str]
    labels: Floats
    prompts: npt.NDArray[np.int64]
    proba: dict[str, Floats]
    facts: pd.DataFrame | None
    seconds: dict[str, float]
    reasons: dict[str, Mapping[int, str]]


def _judged(
    source: str,
    judges: Mapping[str, Judge],
    facts: Callable[[pd.DataFrame], pd.DataFrame] | None,
    unlabelled: bool,
    battles: pd.DataFrame,
) -> _Part:
    found = labels(battles)
    if found is None and unlabelled:
        found = np.full((len(battles), 3), np.nan)
    if found is None:
        mend = "add winner_model_a, winner_model_b and winner_tie, or winner"
        raise InputError("has no labels, and they are what this is about", file=source, mend=mend)
    proba, seconds, reasons = {}, {}, {}
    for name, judge in judges.items():
        started = perf_counter()
        said = judge.judge(battles)
        seconds[name] = perf_counter() - started
        proba[name], reasons[name] = said.proba, said.reasons
    return _Part(
        battles["id"].tolist(),
        found,
        np.array([prompt_mark(turns) for turns in battles["prompt"]], dtype=np.int64),
        proba,
        None if facts is None else facts(battles),
        seconds,
        reasons,
    )
