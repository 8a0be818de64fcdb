"""Responses that models write for battles, and reference answers to hold responses against.

A response is written as a conversation: each turn is asked for with the answers that the same
model has given so far. A prompt that came with answers to earlier turns keeps them. So is a
reference: the best conversation that its writer can have with this user, an answer a turn. What
both responses share in a turn before the last, because it was given with the prompt, is given to
the writer too, and has no reference of its own. Who writes a reference never sees the responses.

What is the same is asked once: a model's response to a prompt serves every battle of a table that
it stands in, and every table where there is a ledger. A model that meets itself writes two samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from judge.engines.base import Engine, Parameters
from judge.errors import InputError
from synth.conversations import CUT, Conversation, Said, converse
from synth.writing_prompts import WritingPrompt

REFERENCE = "reference"
SIDES = ("a", "b")

RECORDS = (
    *("id", "what", "turn", "model", "sample", "prompt", "prompt_version", "prompt_digest"),
    *("parameters", "text", "reply", "finish", "note", "reason", "time", "seconds"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "cost", "shared"),
)
"""The columns of `Written.records`."""

_NUMBERS = ("time", "seconds", "cost")
_WHOLE = ("turn", "sample", "prompt_tokens", "cached_tokens", "completion_tokens", "shared")


@dataclass(frozen=True)
class Written:
    """What models have written.

    Attributes:
        battles: the battles with it; `write` says which responses are still missing.
        records: a row for each reply and each place it went to: `what` it is (response_a,
            response_b, reference), of which `turn` from 1, by which model, how it was asked, `text`
            without what was thought aloud in `reply`, `finish`, a `note` where it was cut, the
            `reason` where it could not be used, what it took. `shared` is 1 where the same reply
            went to another place of this table before: its tokens and cost are counted there.
        failed: why a battle lacks what was to be written, by its place in the table from 0.
    """

    battles: pd.DataFrame
    records: pd.DataFrame
    failed: dict[int, str]


def write_responses(
    battles: pd.DataFrame,
    engines: Mapping[str, tuple[Engine, Parameters]],
    prompt: WritingPrompt,
    tick: Callable[[], None] | None = None,
) -> Written:
    """Has the responses written that `write` asks for.

    Args:
        battles: a battle table, with `model_a`, `model_b` and `write` where any is to be written.
        engines: by the models' names in the battles, who writes and how.
        prompt: how models are asked; parameters may well be its own.
        tick: called after each reply, in any thread.

    Raises:
        InputError: a model has no engine, or meets itself without a temperature.
        ArenaJudgeError: no call of an engine can succeed.
    """
    conversations = responses_to_write(battles, engines)
    converse(conversations, prompt, tick)
    ends = _ends(conversations)
    columns: dict[str, list[object]] = {}
    for side in SIDES:
        name = f"response_{side}"
        columns[name] = [
            tuple(end.answers) if (end := ends.get((place, name))) and end.done else response
            for place, response in enumerate(battles[name])
        ]
    if "write" in battles.columns:
        columns["write"] = [
            "".join(
                side
                for side in SIDES
                if (end := ends.get((place, f"response_{side}"))) and not end.done
            )
            for place in range(len(battles))
        ]
    return _written(battles, columns, conversations, prompt)


def write_references(
    battles: pd.DataFrame,
    engine: Engine,
    parameters: Parameters,
    prompt: WritingPrompt,
    tick: Callable[[], None] | None = None,
) -> Written:
    """Has a reference answer written for each battle that has none in `reference`.

    Args:
        battles: a battle table.
        engine, parameters: who writes, and how.
        prompt: how the model is asked.
        tick: called after each reply, in any thread.

    Raises:
        ArenaJudgeError: no call of the engine can succeed.
    """
    conversations = references_to_write(battles, engine, parameters)
    converse(conversations, prompt, tick)
    ends = _ends(conversations)
    there = battles[REFERENCE].tolist() if REFERENCE in battles.columns else [None] * len(battles)
    cells: list[object] = []
    for place, cell in enumerate(there):
        end = ends.get((place, REFERENCE))
        if end is None:
            cells.append(cell)
        elif end.done:
            given = end.given
            cells.append(
                tuple(
                    "" if kept.strip() else text
                    for kept, text in zip(given, end.answers, strict=True)
                )
            )
        else:
            cells.append(None)
    return _written(battles, {REFERENCE: cells}, conversations, prompt)


def responses_to_write(
    battles: pd.DataFrame, engines: Mapping[str, tuple[Engine, Parameters]]
) -> list[Conversation]:
    """The conversations that `write` asks for, each once, with the places they go to.

    Raises:
        InputError: see `write_responses`.
    """
    found: dict[object, Conversation] = {}
    if "write" not in battles.columns:
        return []
    nobody = pd.Series(None, battles.index, dtype=object)  # battles of files may name no models
    columns = ("id", "prompt", "write", "response_a", "response_b", "model_a", "model_b")
    rows = zip(*(battles.get(name, nobody) for name in columns), strict=True)
    for place, (name, turns, write, *rest) in enumerate(rows):
        wanted = _sides(write, name)
        responses, models = rest[:2], rest[2:]
        itself = wanted == SIDES and models[0] == models[1]
        for side in wanted:
            at = SIDES.index(side)
            engine, parameters = _writer(engines, models[at], name)
            sample = at if itself else 0
            if itself and parameters.temperature == 0:
                what = f"battle {name!r} has {models[at]} meet itself at temperature 0"
                raise InputError(what, mend="give it a temperature, or name a second model")
            key = (models[at], turns, responses[at], sample)
            if key not in found:
                found[key] = Conversation(engine, parameters, turns, responses[at], sample)
            found[key].uses.append((place, f"response_{side}"))
    return list(found.values())


def references_to_write(
    battles: pd.DataFrame, engine: Engine, parameters: Parameters
) -> list[Conversation]:
    """The conversations that give battles without a reference one, each once."""
    found: dict[object, Conversation] = {}
    there = battles[REFERENCE].tolist() if REFERENCE in battles.columns else [None] * len(battles)
    columns = (battles[name] for name in ("prompt", "response_a", "response_b"))
    rows = zip(*columns, there, strict=True)
    for place, (turns, one, other, reference) in enumerate(rows):
        if _says_something(reference):
            continue
        shared = [a if a == b else "" for a, b in zip(one[:-1], other[:-1], strict=True)]
        given = (*shared, "")
        if (turns, given) not in found:
            found[turns, given] = Conversation(engine, parameters, turns, given)
        found[turns, given].uses.append((place, REFERENCE))
    return list(found.values())


def _sides(write: object, name: str) -> tuple[str, ...]:
    if not isinstance(write, str):
        return ()
    if set(write) - set(SIDES):
        what = f"battle {name!r} has {write!r} to be written"
        raise InputError(what, column="write", mend="write a, b, ab or nothing")
    return tuple(side for side in SIDES if side in write)


def _writer(
    engines: Mapping[str, tuple[Engine, Parameters]], model: str, name: str
) -> tuple[Engine, Parameters]:
    if model not in engines:
        what = f"battle {name!r} waits for a response of {model}, and nobody can ask that"
        raise InputError(what, mend="name the model among the writers")
    return engines[model]


def _says_something(reference: object) -> bool:
    if isinstance(reference, str):
        return bool(reference.strip())
    if isinstance(reference, Sequence | np.ndarray):
        return any(isinstance(turn, str) and turn.strip() for turn in reference)
    return False


# --- what has been written ------------------------------------------------------------------------


def _ends(conversations: Iterable[Conversation]) -> dict[tuple[int, str], Conversation]:
    return {use: one for one in conversations for use in one.uses}


def _written(
    battles: pd.DataFrame,
    columns: Mapping[str, list[object]],
    conversations: Sequence[Conversation],
    prompt: WritingPrompt,
) -> Written:
    filled = {
        name: pd.Series(cells, battles.index, dtype=object) for name, cells in columns.items()
    }
    failed: dict[int, str] = {}
    for (place, what), end in sorted(_ends(conversations).items(), key=lambda item: item[0]):
        if not end.done:
            failed.setdefault(place, f"{what}: {end.error or 'no reply came'}")
    ids = battles["id"].tolist()
    return Written(battles.assign(**filled), _records(ids, conversations, prompt), failed)


def _records(
    ids: Sequence[str], conversations: Iterable[Conversation], prompt: WritingPrompt
) -> pd.DataFrame:
    rows = [
        (place, what, _record(ids[place], what, one, said, prompt, shared=number > 0))
        for one in conversations
        for number, (place, what) in enumerate(one.uses)
        for said in one.said
    ]
    rows.sort(key=lambda row: row[:2])  # a stable sort: turns stay in order
    columns = {name: [row[2][name] for row in rows] for name in RECORDS}
    return pd.DataFrame(
        {name: pd.Series(cells, dtype=_dtype(name)) for name, cells in columns.items()}
    )


def _record(
    name: str, what: str, one: Conversation, said: Said, prompt: WritingPrompt, *, shared: bool
) -> dict[str, Any]:
    reply, parameters = said.reply, one.parameters
    drawn: dict[str, object] = {
        "temperature": parameters.temperature,
        "max_tokens": parameters.max_tokens,
    }
    drawn |= {} if parameters.seed is None else {"seed": parameters.seed}
    usable = bool(said.text.strip())
    return {
        "id": name,
        "what": what,
        "turn": said.turn + 1,
        "model": parameters.model,
        "sample": one.sample,
        "prompt": prompt.name,
        "prompt_version": prompt.version,
        "prompt_digest": prompt.digest,
        "parameters": json.dumps(drawn),
        "text": said.text,
        "reply": reply.text,
        "finish": reply.finish,
        "note": "cut at max_tokens" if usable and reply.finish in CUT else "",
        "reason": "" if usable else one.error or "",
        "time": reply.time or np.nan,
        "seconds": reply.seconds,
        "prompt_tokens": reply.usage.prompt,
        "cached_tokens": reply.usage.cached,
        "completion_tokens": reply.usage.completion,
        "cost": reply.cost,
        "shared": int(shared),
    }


def _dtype(name: str) -> Any:
    if name in _NUMBERS:
        return np.float64
    return np.int64 if name in _WHOLE else "str"
