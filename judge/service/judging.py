"""What is done with a batch of requests: their battles to tables, tables to judgments, judgments to
replies.

Whatever shares a batch must not show in a reply. So battles go into one table only where none has
another's id (judges may join ballots by it) and the same columns, and a table that fails is judged
again request by request, so that only the one that is at fault is told.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from judge import __version__
from judge.ballots import CRITERIA, VOTES
from judge.battles import ID
from judge.errors import ArenaJudgeError, InputError
from judge.judges.base import Judge, Judgments
from judge.predictions import distributions
from judge.service.refusals import Refused
from judge.service.requests import Asked

_log = logging.getLogger(__name__)

# Columns of a ballot table that are passed on as they are, where the table has them.
_BALLOT = ("judge", "order", "sample", "part", "weight", "cut", "reason", "reply")


@dataclass(frozen=True)
class Answer:
    """A reply that is ready to be sent.

    Attributes:
        body: the JSON.
        battles, unjudged: how many battles it speaks of, and how many of them have no answer.
    """

    body: bytes
    battles: int
    unjudged: int


Outcome = Answer | Refused


class _Place(NamedTuple):
    """A battle by its request's place in the batch and its own place in the request."""

    request: int
    battle: int


@dataclass(frozen=True)
class _Judged:
    """What is said of one battle."""

    proba: list[float | None]
    reason: str | None
    ballots: list[dict[str, object]] | None


def judge_batch(judge: Judge, requests: Sequence[Asked]) -> list[Outcome]:
    """An outcome for each request, in their order; raises nothing but what ends the process."""
    judged: dict[_Place, _Judged] = {}
    refused: dict[int, Refused] = {}
    for places in _tables(requests):
        _judge_table(judge, requests, places, judged, refused)
    return [
        refused[at] if at in refused else _outcome(judge, at, asked, judged)
        for at, asked in enumerate(requests)
    ]


def _tables(requests: Sequence[Asked]) -> list[list[_Place]]:
    """Which battles may stand in one table."""
    tables: dict[tuple[bool, tuple[str, ...], int], list[_Place]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for at, asked in enumerate(requests):
        columns = tuple(asked.columns)
        for number, name in enumerate(asked.ids):
            before = 0
            if name is not None:
                before = seen[name]
                seen[name] += 1
            tables[asked.ballots, columns, before].append(_Place(at, number))
    return list(tables.values())


def _judge_table(
    judge: Judge,
    requests: Sequence[Asked],
    places: list[_Place],
    judged: dict[_Place, _Judged],
    refused: dict[int, Refused],
) -> None:
    """Puts what is said of these battles into `judged`, and who cannot be answered into
    `refused`."""
    try:
        judged |= _said(judge, requests, places)
    except Exception as error:
        among = sorted({place.request for place in places})
        if len(among) == 1:
            refused[among[0]] = _refusal(judge, error)
            return
        for at in among:
            own = [place for place in places if place.request == at]
            _judge_table(judge, requests, own, judged, refused)


def _refusal(judge: Judge, error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, InputError):
        return Refused(422, "cannot_be_judged", str(error), field=error.column, mend=error.mend)
    _log.error("the judge failed", exc_info=None if isinstance(error, ArenaJudgeError) else error)
    return Refused(500, "judge_failed", f"{judge.name} failed: {_named(error)}")


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, ArenaJudgeError) else type(error).__name__


def _said(judge: Judge, requests: Sequence[Asked], places: list[_Place]) -> dict[_Place, _Judged]:
    """The judge's word on battles that may stand in one table."""
    ids = _ids(requests, places)
    ballots = requests[places[0].request].ballots
    found = judge.judge(_table(requests, places, ids), ballots=ballots)
    if found.proba.shape != (len(places), 3):
        shape = found.proba.shape
        raise ArenaJudgeError(f"probabilities {shape} for {len(places)} battles")
    votes = _ballots(judge, found, ids) if ballots else None
    rows = distributions(ids, found.proba).tolist()
    return {
        place: _judged(row, found.reasons.get(at), None if votes is None else votes[name])
        for at, (place, row, name) in enumerate(zip(places, rows, ids, strict=True))
    }


def _judged(
    row: list[float], reason: str | None, ballots: list[dict[str, object]] | None
) -> _Judged:
    if row[0] == row[0]:
        return _Judged(list(row), None, ballots)
    return _Judged([None, None, None], reason or "no reason given", ballots)


def _ids(requests: Sequence[Asked], places: list[_Place]) -> list[str]:
    """Ids that no two of them share; those without one get what nobody is likely to have sent."""
    sent = [requests[place.request].ids[place.battle] for place in places]
    taken = set(sent)
    ids = []
    for at, name in enumerate(sent):
        made = f"\0{at}"
        while name is None and made in taken:
            made += "\0"
        ids.append(made if name is None else name)
    return ids


def _table(requests: Sequence[Asked], places: list[_Place], ids: list[str]) -> pd.DataFrame:
    """A battle table (see `judge.battles`)."""
    columns: dict[str, list[Any]] = {ID: list(ids)}
    for name in requests[places[0].request].columns:
        columns[name] = [requests[at].columns[name][number] for at, number in places]
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})


def _outcome(judge: Judge, at: int, asked: Asked, judged: Mapping[_Place, _Judged]) -> Outcome:
    try:
        return _answer(judge, at, asked, judged)
    except Exception as error:  # a judge that says what JSON cannot
        return _refusal(judge, error)


def _answer(judge: Judge, at: int, asked: Asked, judged: Mapping[_Place, _Judged]) -> Answer:
    said = [judged[_Place(at, number)] for number in range(len(asked))]
    reply: dict[str, object] = {
        "judge": {"name": judge.name, "version": __version__},
        "judgments": [
            {
                "id": name,
                "winner_model_a": one.proba[0],
                "winner_model_b": one.proba[1],
                "winner_tie": one.proba[2],
                "reason": one.reason,
            }
            | ({"ballots": one.ballots} if asked.ballots else {})
            for name, one in zip(asked.shown, said, strict=True)
        ],
    }
    unjudged = sum(one.reason is not None for one in said)
    return Answer(json.dumps(reply, allow_nan=False).encode(), len(said), unjudged)


# --- ballots --------------------------------------------------------------------------------------


def _ballots(
    judge: Judge, found: Judgments, ids: Sequence[str]
) -> dict[str, list[dict[str, object]]]:
    """The ballots of each battle, by its id."""
    if found.ballots is None:
        message = f"{judge.name} fills in no ballots"
        raise Refused(422, "no_ballots", message, field="ballots", mend="leave it out")
    ballots: dict[str, list[dict[str, object]]] = {name: [] for name in ids}
    table = found.ballots
    plain = [name for name in _BALLOT if name in table.columns]
    shares = [f"{criterion}_{vote}" for criterion in CRITERIA for vote in VOTES]
    cells = {name: _plain(table[name]) for name in (*plain, *CRITERIA, *shares)}
    for row, name in enumerate(table[ID].tolist()):
        ballot: dict[str, object] = {column: cells[column][row] for column in plain}
        ballot["votes"] = {
            criterion: {"vote": cells[criterion][row]}
            | {vote: cells[f"{criterion}_{vote}"][row] for vote in VOTES}
            for criterion in CRITERIA
        }
        ballots[name].append(ballot)
    return ballots


def _plain(column: pd.Series[Any]) -> list[object]:
    """What JSON can say; null for what is not known."""
    return [None if cell is None or cell != cell else cell for cell in column.tolist()]
