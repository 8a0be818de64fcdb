"""From a request's body to battles, in the shapes that the files have.

One battle is an object with `prompt`, `response_a` and `response_b`; many stand in a list under
`battles`. A text is a string, a list of turns or a list of messages, as in JSON lines. A string is
that text, whatever it looks like, unless `json_turns` says that strings are JSON lists of turns, as
in the Kaggle files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from judge.battles import ID, MODELS
from judge.errors import InputError
from judge.files.rows import Cells, Rows, as_text, decode_json, quoted
from judge.files.turns import TEXTS, read_turns
from judge.service.limits import Limits
from judge.service.refusals import Refused

BATTLES, BALLOTS, JSON_TURNS = "battles", "ballots", "json_turns"
REFERENCE = "reference"
# What a judge may look at beside the texts; a battle's other fields are not read.
EXTRA = (REFERENCE, *MODELS)

_OPTIONS = (BALLOTS, JSON_TURNS)
# A turn costs something even where it is empty: what parts it from the next.
_A_TURN = 2


@dataclass(frozen=True)
class Asked:
    """The battles of one request, N of them.

    Attributes:
        shown: (N,) their ids as they were sent, the battle's number as text where none was.
        ids: (N,) their ids as a file would have them, None where none was sent.
        columns: the battles' columns by name: turns of the three texts, and what there is of
            `EXTRA`, None where a battle has none.
        characters: of all texts together.
        ballots: whether the votes are wanted as well.
    """

    shown: list[object]
    ids: list[str | None]
    columns: Mapping[str, Sequence[object]]
    characters: int
    ballots: bool

    def __len__(self) -> int:
        return len(self.ids)


class _Posted(Rows):
    """Rows that came with a request: what is wrong with one is said by the battle's number."""

    def error(self, message: str, at: int, column: str, mend: str | None = None) -> InputError:
        return _BattleError(message, at, column, mend)


class _BattleError(InputError):
    def __init__(self, message: str, battle: int, field: str, mend: str | None) -> None:
        super().__init__(message)
        self.refused = Refused(
            422, "invalid_battle", message, battle=battle, field=field, mend=mend
        )


def read_request(body: bytes, limits: Limits) -> Asked:
    """The battles in a body.

    Raises:
        Refused: it is no JSON (400), no battles (422), or more than is taken (413).
    """
    try:
        return _asked(_decoded(body), limits)
    except _BattleError as error:
        raise error.refused from None
    except RecursionError:
        raise Refused(422, "invalid_request", "the body is nested too deep") from None


def _decoded(body: bytes) -> Any:
    try:
        return decode_json(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        message = f"the body is not UTF-8 (byte {error.start:,})"
    except ValueError as error:
        message = f"the body is not JSON ({error})"
    raise Refused(400, "invalid_json", message, mend="send a JSON object in UTF-8")


def _asked(value: Any, limits: Limits) -> Asked:
    if not isinstance(value, dict):
        _refuse(f"the body is {quoted(value)}, not an object", None, 'send {"battles": [...]}')
    battles = _battles(value)
    if len(battles) > limits.battles:
        message = f"{len(battles):,} battles in a request, and at most {limits.battles:,} are taken"
        mend = "send them in several requests"
        raise Refused(413, "too_many_battles", message, field=BATTLES, mend=mend)
    rows = _rows(battles)
    turns = read_turns(rows, dict.fromkeys(TEXTS, _flag(value, JSON_TURNS)))
    extra = {name: cells for name, cells in rows.columns.items() if name in EXTRA}
    for name in MODELS:
        if name in extra:
            extra[name] = list(map(as_text, extra[name]))
    for at, cell in enumerate(extra.get(REFERENCE, ())):
        _check_reference(at, cell)
    sent = [battle.get(ID) for battle in battles]
    for at, one in enumerate(sent):
        _check_id(at, one)
    return Asked(
        shown=[str(at) if name is None else name for at, name in enumerate(sent)],
        ids=[as_text(name) for name in sent],
        columns={**turns, **extra},
        characters=_characters(turns, limits),
        ballots=_flag(value, BALLOTS),
    )


def _battles(value: dict[str, Any]) -> list[dict[str, Any]]:
    if BATTLES not in value:
        if not any(name in value for name in TEXTS):
            _refuse("the request has no battles", BATTLES, f"give {BATTLES}, or one battle's texts")
        return [value]
    unknown = next((name for name in value if name not in (BATTLES, *_OPTIONS)), None)
    if unknown is not None:
        near = get_close_matches(unknown, _OPTIONS, n=1)
        mend = f"did you mean {near[0]}?" if near else "leave it out, or say it of each battle"
        _refuse(f"{quoted(unknown)} is no field of a request", None, mend)
    battles = value[BATTLES]
    if not isinstance(battles, list) or not battles:
        what = "has no battles" if battles == [] else f"is {quoted(battles)}, not a list"
        _refuse(what, BATTLES, "give a list of objects with prompt, response_a, response_b")
    for at, battle in enumerate(battles):
        if not isinstance(battle, dict):
            message = f"is {quoted(battle)}, not an object"
            mend = "write it as an object with prompt, response_a, response_b"
            raise Refused(422, "invalid_battle", message, battle=at, mend=mend)
    return battles


def _rows(battles: list[dict[str, Any]]) -> Rows:
    """The battles column by column."""
    for at, battle in enumerate(battles):
        missing = next((name for name in TEXTS if name not in battle), None)
        if missing is not None:
            near = get_close_matches(missing, set(battle) - set(TEXTS), n=1, cutoff=0.7)
            mend = f"rename {quoted(near[0])} to {missing!r}" if near else "add it"
            raise Refused(422, "invalid_battle", "is missing", battle=at, field=missing, mend=mend)
    extra = [name for name in EXTRA if any(battle.get(name) is not None for battle in battles)]
    columns: dict[str, Cells] = {
        name: [battle.get(name) for battle in battles] for name in (*TEXTS, *extra)
    }
    return _Posted("the request", columns, range(len(battles)), 0)


def _check_id(at: int, name: object) -> None:
    """An id is text or a number; JSON knows no other that could be sent back the same."""
    finite = math.isfinite(name) if isinstance(name, float) else isinstance(name, int | str | None)
    if isinstance(name, bool) or not finite:
        raise _BattleError(f"is {quoted(name)}, no id", at, ID, "give a string or a number")


def _check_reference(at: int, cell: object) -> None:
    turns = cell if isinstance(cell, list) else [cell]
    if not all(isinstance(turn, str | None) for turn in turns):
        message = f"is {quoted(cell)}, no reference answer"
        raise _BattleError(message, at, REFERENCE, "give a string or a list of turns")


def _characters(turns: Mapping[str, Sequence[tuple[str, ...]]], limits: Limits) -> int:
    total = 0
    for at, texts in enumerate(zip(*turns.values(), strict=True)):
        size = sum(sum(map(len, text)) + _A_TURN * (len(text) - 1) for text in texts)
        if size > limits.characters:
            message = f"has {size:,} characters, and at most {limits.characters:,} are taken"
            mend = "shorten it; `arena-judge score` takes battles of any length"
            raise Refused(413, "battle_too_long", message, battle=at, mend=mend)
        total += size
    return total


def _flag(value: dict[str, Any], name: str) -> bool:
    flag = value.get(name, False)
    if not isinstance(flag, bool):
        _refuse(f"is {quoted(flag)}, neither true nor false", name, "leave it out for false")
    return flag


def _refuse(message: str, field: str | None, mend: str) -> NoReturn:
    raise Refused(422, "invalid_request", message, field=field, mend=mend)
