"""Battles with soft labels: what classifiers, calibrators and aggregators learn from.

The file is a battle file as `judge.battles` reads it: every command takes it. Beside what a battle
has, a row says whose word its label is (`label_from`), how many readable ballots the annotators'
word is made of (`ballots`), and what people said, where they did (`human_a`, `human_b`,
`human_tie`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.files.labelling import LABEL_COLUMNS, PROBABILITIES
from judge.files.turns import TEXTS
from synth.data import AnnotatedSet
from synth.exporting.counts import Tally
from synth.exporting.files import NUMBER, TEXT, TURNS, WHOLE, Kinds, column_kind, rows_file
from synth.exporting.labels import TrainingLabels

ENDINGS = (".parquet", ".jsonl", ".csv")
COLUMNS = ("id", *TEXTS, *PROBABILITIES, "label_from", "ballots")
HUMAN = ("human_a", "human_b", "human_tie")
_CHUNK = 512

Places = npt.NDArray[np.int64]


def write_preferences(path: Path, data: AnnotatedSet, labels: TrainingLabels) -> Tally:
    """Writes the battles that have a label, in their order."""
    tally = Tally()
    kept = labelled_places(data, labels, tally)
    with rows_file(path, battle_kinds(data, labels)) as file:
        for columns in battle_columns(data, labels, kept):
            file.append(columns)
        tally.rows = tally.battles = file.rows
        tally.check(data.name)
    return tally


def labelled_places(data: AnnotatedSet, labels: TrainingLabels, tally: Tally) -> Places:
    """Where the battles stand that have a label; the others are counted."""
    without = np.isnan(labels.proba[:, 0])
    ids = data.battles["id"].to_numpy(dtype=object)
    ballots = labels.soft.ballots
    for place in np.flatnonzero(without).tolist():
        why = "whose ballots say nothing" if ballots[place] else "that nobody could judge"
        tally.leave("battle", why, str(ids[place]))
    return np.flatnonzero(~without).astype(np.int64)


def battle_kinds(data: AnnotatedSet, labels: TrainingLabels) -> Kinds:
    """The columns of battles with their labels."""
    kinds = dict.fromkeys(COLUMNS, TEXT)
    kinds |= dict.fromkeys(TEXTS, TURNS) | dict.fromkeys(PROBABILITIES, NUMBER)
    kinds |= {"ballots": WHOLE}
    if labels.of_people:
        kinds |= dict.fromkeys(HUMAN, NUMBER)
    for name in data.battles.columns:
        # A column in which nothing stands says nothing.
        if name not in kinds and name not in LABEL_COLUMNS and not _empty(data.battles[name]):
            kinds[str(name)] = column_kind(data.battles[name])
    return kinds


def battle_columns(
    data: AnnotatedSet, labels: TrainingLabels, kept: Places
) -> Iterator[dict[str, Sequence[object]]]:
    """The battles at these places with their labels, some at a time, as columns."""
    names = [name for name in battle_kinds(data, labels) if name in data.battles.columns]
    for start in range(0, len(kept), _CHUNK):
        places = kept[start : start + _CHUNK]
        battles = data.battles.iloc[places]
        columns: dict[str, Sequence[object]] = {name: battles[name].tolist() for name in names}
        columns |= dict(zip(PROBABILITIES, labels.proba[places].T.tolist(), strict=True))
        if labels.of_people:
            columns |= dict(zip(HUMAN, labels.human[places].T.tolist(), strict=True))
        columns["label_from"] = [labels.origin[place] for place in places.tolist()]
        columns["ballots"] = labels.soft.ballots[places].tolist()
        yield columns


def _empty(cells: pd.Series[str]) -> bool:
    return bool((cells.isna() | (cells == "")).all())
