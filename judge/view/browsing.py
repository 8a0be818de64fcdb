"""What the page asks, answered from the index: windows of a list, one battle, more of a text.

Everything here is plain dictionaries of numbers and of text that is safe to show: `html` is
sanitised HTML, all other text has its unseen characters made visible.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError
from judge.view.index import Index, cells
from judge.view.label_file import LabelFile, OwnLabel
from judge.view.queries import (
    CLASSES,
    NONE,
    Query,
    classes,
    contested,
    ranking,
    select,
    surprise,
    uncertainty,
)
from judge.view.rendering import LONGEST, as_plain, render, whole
from judge.view.unseen import visible
from judge.view.votes import Votes

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

SIDES = ("prompt", "a", "b")
# Turns of a conversation at a time, and about how many of their characters are rendered at once.
TURNS = 20
_RENDERED = 240_000
_SHORTEST = 500
_MORE = 100_000
_KEPT_LISTS = 8
_LONGEST_CELL = 300


class UnknownBattleError(ArenaJudgeError):
    """There is no such battle, turn or judge."""


class Browser:
    """Answers for one index, one file of own labels and perhaps votes.

    Args:
        index: the battles.
        own: the file of one's own labels.
        votes: the ballots, if there are any.
    """

    def __init__(self, index: Index, own: LabelFile, votes: Votes | None = None) -> None:
        self._index, self._own, self._votes = index, own, votes
        self._proba = index.proba
        self._rows = {battle: row for row, battle in enumerate(index.ids)}
        self._lists: OrderedDict[tuple[Query, str], tuple[Rows, Floats | None]] = OrderedDict()
        self._lock = threading.Lock()
        self.given = 0

    def about(self) -> dict[str, Any]:
        """What there is: battles, judges, how many of each kind."""
        labelled = ~np.isnan(self._index.labels).any(axis=1)
        judged = ~np.isnan(self._proba).any(axis=2)
        return {
            "file": visible(self._index.file),
            "battles": len(self._index),
            "labelled": int(labelled.sum()),
            "judges": [visible(prediction.name) for prediction in self._index.predictions],
            "unjudged": int((~judged).any(axis=0).sum()),
            "contested": int(contested(self._proba).sum()),
            "ballots": self._votes is not None,
            "labels_file": visible(str(self._own.path)),
            "mine": len(self._own),
        }

    # --- the list ---------------------------------------------------------------------------------

    def window(self, query: Query, stamp: str, start: int, count: int) -> dict[str, Any]:
        """Some rows of a list.

        A list is made once for each `stamp`, so that it stays as it is while one labels what is in
        it, whichever rows are asked for.
        """
        if not 0 <= query.judge < len(self._proba):
            raise UnknownBattleError(f"there is no judge {query.judge}")
        rows, values = self._list(query, stamp)
        window = slice(start, start + count)
        sorted_by = [None] * len(rows[window]) if values is None else values[window].tolist()
        lines = zip(rows[window].tolist(), sorted_by, strict=True)
        return {
            "total": len(rows),
            "start": start,
            "rows": [self._line(row, query.judge, value) for row, value in lines],
        }

    def _list(self, query: Query, stamp: str) -> tuple[Rows, Floats | None]:
        """The rows of a list, and what each is sorted by."""
        with self._lock:
            known = self._lists.get((query, stamp))
        if known is not None:
            return known
        found = self._index.texts.find(query.search) if query.search.strip() else None
        labels, mine = self._labels()
        rows = select(query, labels, self._proba, mine, found)
        order = ranking(query.show, labels, self._proba[query.judge], self._proba)
        made = (rows, None if order is None else order[rows])
        with self._lock:
            self._lists[query, stamp] = made
            while len(self._lists) > _KEPT_LISTS:
                self._lists.popitem(last=False)
        return made

    def _labels(self) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """(N, 3) the labels, one's own where there is no other; (N,) what one has labelled."""
        labels, mine = self._index.labels.copy(), np.zeros(len(self._index), dtype=np.bool_)
        for battle in self._own.labelled():
            row = self._rows.get(battle)
            if row is not None:
                mine[row] = True
                if np.isnan(labels[row]).any():
                    labels[row] = np.eye(3)[CLASSES.index(self._own.get(battle).choice or "")]
        return labels, mine

    def _line(self, row: int, judge: int, value: float | None) -> dict[str, Any]:
        head = self._index.texts.head(row)
        return {
            "row": row,
            "id": head.id,
            "snippet": head.snippet,
            "proba": _finite(self._proba[judge, row]),
            "label": _class(self._index.labels[row]),
            "mine": self._own.get(self._index.ids[row]).choice,
            "value": value,
        }

    # --- one battle -------------------------------------------------------------------------------

    def battle(self, row: int, *, plain: bool = False, first: int = 0) -> dict[str, Any]:
        """All about one battle, `TURNS` turns of it from the `first` on."""
        self._check(row)
        battle, head = self._index.ids[row], self._index.texts.head(row)
        label = self._index.labels[row]
        own = self._own.get(battle)
        return {
            "row": row,
            "id": head.id,
            "models": head.models,
            "alone": battle not in self._index.repeated,
            "label": _finite(label),
            "chosen": _class(label),
            "mine": own.choice,
            "note": own.note,
            "judges": [self._judged(place, row) for place in range(len(self._proba))],
            "votes": None if self._votes is None else self._votes.of(battle),
            "conversation": self._conversation(row, plain, first),
        }

    def _judged(self, judge: int, row: int) -> dict[str, Any]:
        prediction = self._index.predictions[judge]
        proba = self._proba[judge, row]
        also = {visible(name): _said(cell) for name, cell in cells(prediction, row).items()}
        return {
            "name": visible(prediction.name),
            "proba": _finite(proba),
            "choice": _class(proba),
            "surprise": _number(surprise(self._index.labels[row][None], proba[None])[0]),
            "uncertainty": _number(uncertainty(proba)),
            "reason": visible(prediction.reasons.get(row, ""))[:_LONGEST_CELL],
            "also": also,
        }

    def _conversation(self, row: int, plain: bool, first: int) -> dict[str, Any]:
        sides = self._index.texts.turns(row)
        total = len(sides[0])
        if not 0 <= first < total:
            raise UnknownBattleError(f"there is no turn {first}")
        numbers = range(first, min(first + TURNS, total))
        turns, room = [], _RENDERED
        for number in numbers:
            texts = [turns_of_side[number] for turns_of_side in sides]
            # The three are cut alike, so that neither response looks shorter than it is.
            longest = max(_SHORTEST, min(LONGEST, room // len(SIDES)))
            shown = [_rendered(text, plain, longest) for text in texts]
            room -= sum(text["shown"] for text in shown)
            turns.append({"turn": number, **dict(zip(SIDES, shown, strict=True))})
        return {"first": first, "total": total, "turns": turns}

    def more_text(self, row: int, side: str, turn: int, start: int) -> dict[str, Any]:
        """The next piece of a text that was cut, as it is written."""
        self._check(row)
        turns = self._index.texts.turns(row)[SIDES.index(side)]
        if not (0 <= turn < len(turns) and 0 <= start <= len(turns[turn])):
            raise UnknownBattleError("there is no such text")
        rest = turns[turn][start : start + 2 * _MORE]
        end = whole(rest, _MORE)
        return {"html": as_plain(rest[:end]), "shown": start + end, "length": len(turns[turn])}

    # --- one's own labels -------------------------------------------------------------------------

    def give(self, row: int, label: OwnLabel) -> dict[str, Any]:
        """Saves one's own label of a battle.

        Raises:
            ArenaJudgeError: the file cannot be written, or the battle's id is not its own.
        """
        self._check(row)
        battle = self._index.ids[row]
        if battle in self._index.repeated:
            message = "other battles have the same id, and labels are kept by id"
            raise ArenaJudgeError(f"{message}; give every battle an id of its own")
        self._own.put(battle, label)
        with self._lock:
            self.given += 1
        return {"mine": label.choice, "note": label.note, "count": len(self._own)}

    def _check(self, row: int) -> None:
        if not 0 <= row < len(self._index):
            raise UnknownBattleError(f"there is no battle {row}")


def _rendered(text: str, plain: bool, longest: int) -> dict[str, Any]:
    html, shown = render(text, plain=plain, longest=longest)
    return {"html": html, "shown": shown, "length": len(text)}


def _class(distribution: Floats) -> str | None:
    code = int(classes(distribution))
    return None if code == NONE else CLASSES[code]


def _finite(distribution: Floats) -> list[float] | None:
    return None if np.isnan(distribution).any() else distribution.tolist()


def _number(value: float | np.floating[Any] | Floats) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _said(cell: object) -> str:
    text = cell if isinstance(cell, str) else json.dumps(cell, default=str, ensure_ascii=False)
    return visible(text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…")
