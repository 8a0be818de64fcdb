"""Everything the page asks about battles: their numbers in memory, their text on disk.

In memory a battle is its id, its label, three numbers for each predictions file and a few bytes for
each ballot; what else is known lies in temporary files (see `judge.view.spool`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.battles import ID, MODELS, labels
from judge.errors import InputError
from judge.files.turns import TEXTS
from judge.view.spool import SearchFile, Spool
from judge.view.unseen import visible

Floats = npt.NDArray[np.float64]

_SNIPPET = 160
_PROBA = ["winner_model_a", "winner_model_b", "winner_tie"]


@dataclass(frozen=True)
class Head:
    """What a list shows of a battle; safe to show as it is."""

    id: str
    models: tuple[str, str] | None
    snippet: str


class Texts:
    """The text of battles, added a table at a time."""

    def __init__(self) -> None:
        self._heads, self._bodies = Spool(), Spool()
        self._search = SearchFile()

    def add(self, battles: pd.DataFrame) -> None:
        """Adds a battle table."""
        models = [
            battles[name].tolist() if name in battles.columns else [None] * len(battles)
            for name in MODELS
        ]
        columns = [battles[name].tolist() for name in (ID, *TEXTS)]
        for battle, prompt, a, b, *names in zip(*columns, *models, strict=True):
            self._heads.add(json.dumps([battle, names, _snippet(prompt)]))
            self._bodies.add(json.dumps([prompt, a, b], ensure_ascii=False))
            named = [name for name in names if name]
            self._search.add([battle, *named, *prompt, *a, *b])

    def head(self, row: int) -> Head:
        battle, names, snippet = json.loads(self._heads[row])
        models = tuple(visible(name or "unnamed") for name in names)
        shown = (models[0], models[1]) if any(names) else None
        return Head(visible(battle), shown, visible(snippet))

    def turns(self, row: int) -> tuple[list[str], list[str], list[str]]:
        """The turns of the prompt and of the two responses."""
        prompt, a, b = json.loads(self._bodies[row])
        return prompt, a, b

    def find(self, query: str) -> npt.NDArray[np.bool_]:
        """(N,) see `judge.view.spool.SearchFile.find`; ids and models' names are searched, too."""
        return self._search.find(query)

    def close(self) -> None:
        for file in (self._heads, self._bodies, self._search):
            file.close()


@dataclass(frozen=True)
class Predictions:
    """One file of predictions, laid beside the battles.

    Attributes:
        name: what to call it.
        proba: (N, 3), NaN rows unjudged.
        reasons: why a battle is unjudged, by its row, as far as is known.
        extra: the file's other columns, one cell a prediction, and `places`, (N,) the prediction
            of each battle, -1 where there is none.
    """

    name: str
    proba: Floats
    reasons: dict[int, str]
    extra: dict[str, list[object]]
    places: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Index:
    """The battles: N of them, K predictions files.

    Attributes:
        file: the battles' file, for people.
        ids: N.
        repeated: ids that more than one battle has.
        labels: (N, 3), NaN rows unlabelled.
        predictions: K.
        texts: the text.
    """

    file: str
    ids: list[str]
    repeated: frozenset[str]
    labels: Floats
    predictions: tuple[Predictions, ...]
    texts: Texts

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def proba(self) -> Floats:
        """(K, N, 3)"""
        return np.stack([prediction.proba for prediction in self.predictions])


def read_texts(
    tables: Iterable[pd.DataFrame],
) -> tuple[list[str], Floats, Texts]:
    """The ids, the (N, 3) labels and the text of battle tables, read as they come."""
    ids: list[str] = []
    found: list[Floats] = []
    texts = Texts()
    for battles in tables:
        ids += battles[ID].tolist()
        given = labels(battles)
        found.append(np.full((len(battles), 3), np.nan) if given is None else given)
        texts.add(battles)
    return ids, np.concatenate(found), texts


def repeated(ids: Sequence[str]) -> frozenset[str]:
    """The ids that are there more than once."""
    values = pd.Series(ids, dtype=object)
    return frozenset(values[values.duplicated()])


def lay_beside(ids: Sequence[str], name: str, file: str | Path) -> Predictions:
    """Reads a file of predictions and finds each battle's.

    Raises:
        InputError: what cannot be read, or matched (see `judge.comparing.matching.align`).
    """
    from judge.comparing.matching import align
    from judge.predictions import COLUMNS, read_predictions

    table = read_predictions(file)
    proba = align(ids, table, file=file).proba
    given = table["id"].tolist()
    if given == list(ids):
        places = np.arange(len(ids))
    else:
        at = {name: place for place, name in enumerate(given)}
        places = np.array([at.get(battle, -1) for battle in ids], dtype=np.intp)
    extra = {
        str(column): table[column].tolist() for column in table.columns if column not in COLUMNS
    }
    reasons = {int(row): "the file has no prediction for it" for row in np.flatnonzero(places < 0)}
    return Predictions(name, proba, _reasons(ids, file) | reasons, extra, places)


def _reasons(ids: Sequence[str], file: str | Path) -> dict[int, str]:
    """From the list of unjudged battles that `arena-judge score` writes beside predictions."""
    from judge.files.rows import as_text, stream_rows

    beside = Path(f"{file}.unjudged.csv")
    if not beside.is_file():
        return {}
    reasons: dict[int, str] = {}
    try:
        for rows in stream_rows(beside, required=("id", "battle", "reason")):
            cells = (rows.columns[name] for name in ("id", "battle", "reason"))
            for battle, number, reason in zip(*cells, strict=True):
                row = int(number) - 1 if str(number).isdigit() else -1
                if 0 <= row < len(ids) and ids[row] == as_text(battle):
                    reasons[row] = str(reason)
    except InputError:
        return {}  # of an earlier version, or of another tool: the predictions stand without it
    return reasons


def _snippet(prompt: Sequence[str]) -> str:
    start = next((turn for turn in prompt if turn.strip()), "")[: 4 * _SNIPPET]
    line = " ".join(start.split())
    return line if len(line) <= _SNIPPET else f"{line[:_SNIPPET].rstrip()}…"


def cells(prediction: Predictions, row: int) -> dict[str, Any]:
    """The other columns of a battle's prediction, those that say something."""
    place = int(prediction.places[row])
    if place < 0:
        return {}
    found = {name: values[place] for name, values in prediction.extra.items()}
    return {name: cell for name, cell in found.items() if cell is not None and cell != ""}
