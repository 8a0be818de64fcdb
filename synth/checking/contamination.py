"""Battles that must not be trained on, since something is to be measured on them or on their
prompts; and battles that are there twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from judge.battles import iter_battles
from judge.comparing.marks import Marks, battle_marks, joined
from judge.comparing.near import Found, Kind, duplicates, find

_NAMED = 5


@dataclass(frozen=True)
class HeldOut:
    """The battles of held-out files.

    Attributes:
        marks: of each.
        names: of each, its file and its id there.
        files: how many files they are from.
    """

    marks: Marks
    names: list[tuple[str, str]]
    files: int


@dataclass(frozen=True)
class Contamination:
    """What of a set is elsewhere, or again.

    Attributes:
        held_out: battles in held-out files; 0 where none was named.
        exact, near: battles of the set that are among them, as they are and but for small edits.
        prompt: battles whose prompt is, with other responses.
        repeated, alike: battles that stand in the set before, as they are and but for small edits.
        first: ids of the first that are in held-out files.
    """

    held_out: int
    exact: int
    near: int
    prompt: int
    repeated: int
    alike: int
    first: tuple[str, ...]


def held_out_battles(files: Sequence[str | Path], chunk_rows: int = 4096) -> HeldOut:
    """Marks of all battles in files.

    Raises:
        InputError: a file cannot be read.
    """
    marks, names = [], []
    for file in files:
        with closing(iter_battles(file, chunk_rows=chunk_rows, labels=False)) as batches:  # type: ignore[type-var]
            for battles in batches:
                marks.append(battle_marks(battles))
                names += [(Path(file).name, name) for name in battles["id"].tolist()]
    return HeldOut(joined(marks), names, len(files))


def look_for(battles: pd.DataFrame, held_out: HeldOut) -> tuple[Contamination, Found, Found]:
    """What is found, how each battle is among the held-out ones, and among those before it."""
    marks = battle_marks(battles)
    there, again = find(marks, held_out.marks), duplicates(marks)
    first = np.flatnonzero(there.kinds >= Kind.NEAR)[:_NAMED].tolist()
    found = Contamination(
        len(held_out.names),
        _count(there, Kind.EXACT),
        _count(there, Kind.NEAR),
        _count(there, Kind.PROMPT),
        _count(again, Kind.EXACT),
        _count(again, Kind.NEAR),
        tuple(str(battles["id"].iloc[place]) for place in first),
    )
    return found, there, again


def _count(found: Found, kind: Kind) -> int:
    return int((found.kinds == kind).sum())
