"""Judgments that other tools have recorded, read as ballots.

| format | what it is |
| --- | --- |
| votes | a table `id, vote` and perhaps `judge`, `order`, `sample`, `reply` |
| alpaca_eval | AlpacaEval's annotations.json: `preference` from 1 (first output) to 2 |
| arena_hard | arena-hard-auto's judgments: `games` in both orders with verdicts A>>B ... B>>A |
| mt_bench | FastChat's pairwise judgments: `g1_winner` and `g2_winner` |

All of them give one verdict on a battle, which a ballot has under each of its five criteria. A
reply that could not be read is a ballot without votes, with the reason beside it; never a tie.

Votes in order BA speak of the battle as it was shown; on the ballot they are turned back. The
sides: AlpacaEval's `output_1` is A; arena-hard's baseline is A and its model B (the first game
shows them so, the second the other way round); MT-Bench's `model_1` is A.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from judge.ballot_files import likeliest
from judge.ballots import CRITERIA, VOTES, ballot_table
from judge.errors import InputError
from judge.files.rows import as_text, decode_json, quoted, stream_rows
from judge.files.sources import open_source

FORMATS = ("votes", "alpaca_eval", "arena_hard", "mt_bench")

Row = Mapping[str, object]
Shares = tuple[float, float, float, float]

_A: Shares = (1.0, 0.0, 0.0, 0.0)
_B: Shares = (0.0, 1.0, 0.0, 0.0)
_AB: Shares = (0.0, 0.0, 1.0, 0.0)
_NA: Shares = (0.0, 0.0, 0.0, 1.0)
_KNOWN_BY = {
    "mt_bench": "g1_winner",
    "arena_hard": "games",
    "alpaca_eval": "preference",
    "votes": "vote",
}
_IDS = {
    "arena_hard": "{question}:{model}",
    "mt_bench": "{question_id}:{turn}:{model_1}:{model_2}",
    "alpaca_eval": "{hash}",
    "votes": "{id}",
}
# Slightly better is three quarters of a vote; the rest says that they are alike.
_SLIGHT = 0.75
_GRADES: dict[str, Shares] = {
    "A>>B": _A,
    "A>B": (_SLIGHT, 0.0, 1.0 - _SLIGHT, 0.0),
    "A=B": _AB,
    "B>A": (0.0, _SLIGHT, 1.0 - _SLIGHT, 0.0),
    "B>>A": _B,
}
_GRADES |= {"A<B": _GRADES["B>A"], "A<<B": _B, "B<A": _GRADES["A>B"], "B<<A": _A, "B=A": _AB}
_WORDS: dict[str, Shares] = {
    "a": _A,
    "model_a": _A,
    "b": _B,
    "model_b": _B,
    **dict.fromkeys(("tie", "ab", "both", "draw", "equal"), _AB),
    # As the arena's people say that both are bad: on which is better, a tie.
    **dict.fromkeys(("tie (bothbad)", "bothbad", "both_bad"), _AB),
    **dict.fromkeys(("na", "n/a", "neither"), _NA),
}
_VERDICT = re.compile(r"\[\[([AB<>=]+)\]\]")
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class _Ballot:
    """One vote as the battle was shown; no `shares` is a reply that could not be read."""

    id: str
    judge: str
    order: str
    shares: Shares | None
    reason: str | None = None
    reply: str | None = None
    sample: int | None = None


@dataclass(frozen=True)
class _Place:
    """Where a row stands, for messages."""

    file: str
    row: int

    def error(self, message: str, column: str, mend: str | None = None) -> InputError:
        return InputError(message, file=self.file, row=self.row, column=column, mend=mend)


def read_judgments(
    path: str | Path,
    form: str = "auto",
    *,
    ids: str | None = None,
    judge: str | None = None,
    replies: bool = False,
) -> pd.DataFrame:
    """The ballots in a file of recorded judgments.

    Args:
        path: the file; JSON, JSON lines, CSV or Parquet, plain or compressed.
        form: one of `FORMATS`, or "auto" to tell it from the first row.
        ids: how a battle's id is made, with the row's fields in braces, `{question_id}-{turn}`;
            `{question}` is `uid` or `question_id`, `{hash}` a hash of the texts. By default as
            `docs/fit.md` says.
        judge: the judge's name where the rows have none.
        replies: keep the judges' replies in a column `reply`.

    Returns:
        A ballot table with `reason`, which says why a ballot has no votes. The repeated ballots of
        one judge on one battle in one order are its samples.

    Raises:
        InputError: the file cannot be read, is of no known format, or has a row that makes no
            sense, with the row.
    """
    name = str(path)
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise InputError("has no judgments", file=name)
    known = _format(first[1], name) if form == "auto" else form
    read = _READERS[known]
    found: list[_Ballot] = []
    for number, row in _chain(first, rows):
        place = _Place(name, number)
        if _KNOWN_BY[known] not in row:
            mend = f"say --format, or check that this is a file of {known}"
            raise place.error("is missing", _KNOWN_BY[known], mend)
        given = _judge(row, judge, place)
        found.extend(read(row, _identity(row, ids or _IDS[known], place), given, place))
    return _table(found, replies)


def read_alpaca_battles(path: str | Path, *, ids: str | None = None) -> pd.DataFrame:
    """The battles in AlpacaEval's annotations.json, one a pair of outputs, with the ids that
    `read_judgments` gives them: `id, model_a, model_b, prompt, response_a, response_b`, the
    texts as JSON lists of one turn."""
    rows = []
    for number, row in _rows(path):
        place = _Place(str(path), number)
        texts = [_text(row, name, place) for name in ("instruction", "output_1", "output_2")]
        rows.append(
            {
                "id": _identity(row, ids or _IDS["alpaca_eval"], place),
                "model_a": as_text(row.get("generator_1")),
                "model_b": as_text(row.get("generator_2")),
                **{
                    name: json.dumps([text], ensure_ascii=False)
                    for name, text in zip(
                        ("prompt", "response_a", "response_b"), texts, strict=True
                    )
                },
            }
        )
    return pd.DataFrame(rows).drop_duplicates("id", ignore_index=True)


# --- rows -----------------------------------------------------------------------------------------


def _chain(first: tuple[int, Row], rest: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    yield first
    yield from rest


def _rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Each row with its number from 1: a line's, a record's, or an element's of a JSON list."""
    if str(path) == "-":
        raise InputError("is read twice, so it cannot be standard input", mend="name a file")
    with open_source(path) as source:
        head = source.data.peek(64)[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
        listed = head.startswith(b"[")
        if listed:
            yield from _elements(source.data.read(), str(path))
    if not listed:
        for rows in stream_rows(path, required=()):
            names = list(rows.columns)
            cells = zip(*rows.columns.values(), strict=True)
            for number, row in zip(rows.numbers, cells, strict=True):
                yield number, dict(zip(names, row, strict=True))


def _elements(data: bytes, file: str) -> Iterator[tuple[int, Row]]:
    try:
        values = decode_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError("is not UTF-8", file=file, mend="save it as UTF-8") from None
    except ValueError as error:
        row = getattr(error, "lineno", None)
        reason = str(error).split(":")[0]
        raise InputError(f"is no JSON list ({reason})", file=file, row=row) from None
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise InputError("is no JSON object", file=file, row=number)
        yield number, value


def _format(row: Row, file: str) -> str:
    for name, column in _KNOWN_BY.items():
        if column in row:
            return name
    if CRITERIA[0] in row:
        raise InputError("is a ballot table already", file=file, mend="use it as it is")
    listed = ", ".join(quoted(name) for name in list(row)[:12])
    mend = f"one has {', '.join(_KNOWN_BY.values())}; these have {listed}"
    raise InputError("is of no format that is known", file=file, mend=mend)


def _judge(row: Row, given: str | None, place: _Place) -> str:
    stated = row.get("judge", row.get("annotator"))
    if isinstance(stated, list):  # FastChat: the model and the name of its prompt
        stated = stated[0] if stated else None
    if stated is not None and not isinstance(stated, str):
        raise place.error(f"is {quoted(stated)}, which is no name", "judge")
    return stated or given or "judge"


def _identity(row: Row, template: str, place: _Place) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name == "hash":
            texts = [_text(row, n, place) for n in ("instruction", "output_1", "output_2")]
            return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:16]
        if name == "question":
            name = "uid" if row.get("uid") is not None else "question_id"
        cell = row.get(name)
        if name == "turn" and cell is None:
            cell = 1
        text = None if isinstance(cell, list | dict) else as_text(cell)
        if text is None:
            raise place.error("is empty, and the battle's id is made of it", name, "see --id")
        return text

    return _FIELD.sub(value, template)


def _text(row: Row, name: str, place: _Place) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise place.error(f"is {quoted(value)}, not text", name)
    return value


# --- formats --------------------------------------------------------------------------------------


def _votes(row: Row, battle: str, judge: str, place: _Place) -> Iterator[_Ballot]:
    cell = row["vote"]
    word = "" if cell is None or cell != cell else str(cell).strip()
    reply = row.get("reply")
    shares = _WORDS.get(word.lower())
    reason = None
    if shares is None:
        kind, _, detail = word.partition(":")
        if word and kind.lower() not in ("invalid", "error"):
            mend = "write a, b, tie, na or invalid"
            raise place.error(f"is {quoted(cell)}, which is no vote", "vote", mend)
        reason = f"recorded as {word}" if detail else "recorded as unreadable"
    sample = row.get("sample")
    if sample is not None and not re.fullmatch(r"\d{1,9}", str(sample)):
        raise place.error(f"is {quoted(sample)}, which is no whole number from 0", "sample")
    order = str(row.get("order") or "AB").strip().upper()
    if order not in ("AB", "BA"):
        mend = "write ab or ba, or leave it empty for ab"
        raise place.error(f"is {quoted(row['order'])}, which is no order", "order", mend)
    text = reply if isinstance(reply, str) else None
    number = None if sample is None else int(str(sample))
    yield _Ballot(battle, judge, order, shares, reason, text, number)


def _alpaca_eval(row: Row, battle: str, judge: str, place: _Place) -> Iterator[_Ballot]:
    cell = row["preference"]
    reply = row.get("raw_completion")
    text = reply if isinstance(reply, str) else None
    # How the outputs were shown is drawn at random by the tool and not recorded.
    if cell is None or cell == "" or cell != cell:
        yield _Ballot(battle, judge, "", None, "recorded without a preference", text)
        return
    try:
        preference = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        preference = np.nan
    if preference in (0.0, 1.5):  # 0 was the draw of early versions
        yield _Ballot(battle, judge, "", _AB, None, text)
    elif 1.0 <= preference <= 2.0:
        shares = (2.0 - preference, preference - 1.0, 0.0, 0.0)
        yield _Ballot(battle, judge, "", shares, None, text)
    else:
        mend = "a preference is a number from 1 to 2, or null"
        raise place.error(f"is {quoted(cell)}, which is no preference", "preference", mend)


def _arena_hard(row: Row, battle: str, judge: str, place: _Place) -> Iterator[_Ballot]:
    games = row["games"]
    if not isinstance(games, list) or not 1 <= len(games) <= 2:
        mend = "it has one game or two, the second with the sides changed"
        raise place.error(f"is {quoted(games)}, no list of games", "games", mend)
    for order, game in zip(("AB", "BA"), games, strict=False):
        if game is not None and not isinstance(game, dict):
            raise place.error(f"holds {quoted(game)}, which is no game", "games")
        yield _game(game or {}, battle, judge, order)


def _game(game: Row, battle: str, judge: str, order: str) -> _Ballot:
    said = game.get("judgment")
    if isinstance(said, dict):
        said = said.get("answer")
    text = said if isinstance(said, str) else None
    score = game.get("score")
    if "score" not in game and text is not None:
        verdicts = set(_VERDICT.findall(text))
        score = verdicts.pop() if len(verdicts) == 1 else None
    if not isinstance(score, str) or not score:
        return _Ballot(battle, judge, order, None, "recorded without a verdict", text)
    shares = _GRADES.get(score)
    reason = None if shares else f"the verdict {quoted(score)} is not on the scale"
    return _Ballot(battle, judge, order, shares, reason, text)


def _mt_bench(row: Row, battle: str, judge: str, place: _Place) -> Iterator[_Ballot]:
    # Grades of each answer alone, compared: nothing was shown in an order.
    graded = "m1_score" in row and row["m1_score"] is not None
    games = (("g1", ""),) if graded else (("g1", "AB"), ("g2", "BA"))
    for game, order in games:
        winner, reply = row.get(f"{game}_winner"), row.get(f"{game}_judgment")
        text = reply if isinstance(reply, str) else None
        shares = {"model_1": _A, "model_2": _B, "tie": _AB}.get(str(winner))
        if shares is None and winner not in (None, "", "error"):
            mend = "write model_1, model_2, tie or error"
            raise place.error(f"is {quoted(winner)}, which is no winner", f"{game}_winner", mend)
        reason = None if shares else "recorded as an error"
        # The winners are names here, so they need no turning back: undo what the table will do.
        shown = _turned(shares) if shares and order == "BA" else shares
        yield _Ballot(battle, judge, order, shown, reason, text)


_READERS: dict[str, Callable[[Row, str, str, _Place], Iterator[_Ballot]]] = {
    "votes": _votes,
    "alpaca_eval": _alpaca_eval,
    "arena_hard": _arena_hard,
    "mt_bench": _mt_bench,
}


def _turned(shares: Shares) -> Shares:
    return shares[1], shares[0], shares[2], shares[3]


def _table(found: list[_Ballot], replies: bool) -> pd.DataFrame:
    shares = np.full((len(found), len(VOTES)), np.nan)
    for at, ballot in enumerate(found):
        if ballot.shares is not None:
            shares[at] = _turned(ballot.shares) if ballot.order == "BA" else ballot.shares
    votes = np.repeat(shares[:, None, :], len(CRITERIA), axis=1)
    table = ballot_table([ballot.id for ballot in found], "", votes)
    table["judge"] = [ballot.judge for ballot in found]
    table["order"] = [ballot.order for ballot in found]
    nth = table.groupby(["id", "judge", "order"]).cumcount()
    stated: list[Any] = [ballot.sample for ballot in found]
    table["sample"] = [n if s is None else s for n, s in zip(nth, stated, strict=True)]
    for c, criterion in enumerate(CRITERIA):
        table[criterion] = pd.Series(likeliest(votes[:, c]), dtype=object)
    table["reason"] = pd.Series([ballot.reason for ballot in found], dtype=object)
    if replies:
        table["reply"] = pd.Series([ballot.reply for ballot in found], dtype=object)
    return table
