"""What is known of every battle that may be drawn, while its text is let go: the first of the two
times that a plan reads its files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.battles import MODELS
from judge.comparing.facts import CATEGORY, LANGUAGE, battle_facts
from judge.comparing.marks import Marks, battle_marks, joined
from judge.metrics import entropy_rows
from judge.parallel import ordered_map
from synth.origins import Origin
from synth.tables import RENAMED

if TYPE_CHECKING:
    from judge.judges.base import Judge

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

LENGTH, TURNS, CLOSENESS, SOURCE = "length", "turns", "closeness", "source"
KNOWN = (CATEGORY, LENGTH, TURNS, LANGUAGE, CLOSENESS)
"""What battles can be drawn by, whatever their files have."""

_SIDES = ("response_a", "response_b")
# What a judge says may differ in its last bits from batch to batch, and a plan must not.
_DECIMALS = 4


@dataclass(frozen=True)
class Survey:
    """What is kept of N battles, in the order of the origins.

    Attributes:
        names: of the origins.
        origins: (N,) where each is from, a place among the names.
        rows: (N,) its number there, from 0.
        ids: what it is called there.
        marks: of its text; of what is to be written, of the model's name.
        facts: `length` (characters of all texts; those there are), `turns`, `language`, `category`
            (of the file, else code or other), and each further column that was asked for.
        closeness: (N,) how unsure a judge is, 0 to 1: the entropy of its probabilities over that
            of a third each; NaN for the unjudged.
        wordless: (N,) whether the prompt says nothing, or neither response does.
        alike: (N,) whether the responses are the same, but for white space around them, and not
            nothing.
        unwritten: (N,) whether a response is yet to be written.
        columns: all columns that the tables have.
    """

    names: tuple[str, ...]
    origins: npt.NDArray[np.int32]
    rows: Ints
    ids: list[str]
    marks: Marks
    facts: pd.DataFrame
    closeness: Floats
    wordless: Bools
    alike: Bools
    unwritten: Bools
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def survey(
    origins: Sequence[Origin],
    columns: Sequence[str] = (),
    judge: Judge | None = None,
    *,
    workers: int = 1,
    tick: Callable[[int], None] | None = None,
    stop: Callable[[], None] | None = None,
) -> Survey:
    """Looks at all battles once.

    Args:
        origins: where they are from.
        columns: of the files, to be kept beside the usual facts.
        judge: says which battles are close.
        workers: batches looked at once.
        tick: is told how many battles are done.
        stop: ends what the judge is at, when the rest is not wanted any more.

    Raises:
        InputError: a file cannot be read.
    """
    parts: list[_Part] = []
    for number, origin in enumerate(origins):
        look = partial(_look, number, origin.unwritten, tuple(columns), judge)
        with closing(_numbered(origin)) as batches:
            for part in ordered_map(look, batches, workers, stop):
                parts.append(part)
                if tick is not None:
                    tick(len(part.ids))
    return Survey(
        names=tuple(origin.name for origin in origins),
        origins=np.concatenate([np.full(len(part.ids), part.origin, np.int32) for part in parts]),
        rows=np.concatenate([np.arange(len(part.ids)) + part.first for part in parts]),
        ids=[name for part in parts for name in part.ids],
        marks=joined([part.marks for part in parts]),
        facts=pd.concat([part.facts for part in parts], ignore_index=True),
        closeness=np.concatenate([part.closeness for part in parts]),
        wordless=np.concatenate([part.wordless for part in parts]),
        alike=np.concatenate([part.alike for part in parts]),
        unwritten=np.concatenate([part.unwritten for part in parts]),
        columns=tuple(dict.fromkeys(name for part in parts for name in part.columns)),
    )


def marks_of(battles: pd.DataFrame, *, unwritten: bool = False) -> Marks:
    """The marks of battles. Turns that are to be written are known by who is to write them."""
    if unwritten:
        texts = {
            side: [
                tuple(turn or str(model) for turn in text) if side[-1] in write else text
                for text, model, write in zip(
                    battles[side], battles[name], battles["write"], strict=True
                )
            ]
            for side, name in zip(_SIDES, MODELS, strict=True)
        }
        battles = battles.assign(
            **{side: pd.Series(cells, battles.index, object) for side, cells in texts.items()}
        )
    return battle_marks(battles)


@dataclass(frozen=True)
class _Part:
    origin: int
    first: int
    ids: list[str]
    marks: Marks
    facts: pd.DataFrame
    closeness: Floats
    wordless: Bools
    alike: Bools
    unwritten: Bools
    columns: tuple[str, ...]


def _numbered(origin: Origin) -> Generator[tuple[int, pd.DataFrame], None, None]:
    """Its batches, each with the number of its first battle."""
    first = 0
    for battles in origin.tables():
        yield first, battles
        first += len(battles)


def _look(
    origin: int,
    unwritten: bool,
    columns: tuple[str, ...],
    judge: Judge | None,
    batch: tuple[int, pd.DataFrame],
) -> _Part:
    first, battles = batch
    missing = np.zeros(len(battles), dtype=bool)
    if unwritten:
        missing |= (battles["write"] != "").to_numpy(dtype=bool)
    prompts, ones, others = (
        [tuple(turn.strip() for turn in turns) for turns in battles[name]]
        for name in ("prompt", *_SIDES)
    )
    unasked = np.array([not any(turns) for turns in prompts], dtype=bool)
    silent = [not any((*one, *other)) for one, other in zip(ones, others, strict=True)]
    alike = [one == other for one, other in zip(ones, others, strict=True)]
    return _Part(
        origin,
        first,
        battles["id"].tolist(),
        marks_of(battles, unwritten=unwritten),
        _facts(battles, columns),
        _closeness(judge, battles, missing),
        unasked | (np.array(silent, dtype=bool) & ~missing),
        np.array(alike, dtype=bool) & ~np.array(silent, dtype=bool) & ~missing,
        missing,
        tuple(battles.columns),
    )


def _facts(battles: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    # A plan calls some columns of files otherwise: whoever names one as the plan does means it.
    wanted = {
        name: name if name in battles.columns else name.removeprefix(RENAMED) for name in columns
    }
    known = battle_facts(battles, list(wanted.values()))
    length = sum(known[f"{side}_characters"].to_numpy() for side in ("prompt", "a", "b"))
    code = np.where(known["code"], "code", "other")
    category = known[CATEGORY].to_numpy(object)
    facts = {
        LENGTH: np.asarray(length, dtype=np.int64),
        TURNS: known["turns"].to_numpy(),
        LANGUAGE: known[LANGUAGE].to_numpy(object),
        CATEGORY: np.where(category == None, code, category),  # noqa: E711 of each cell
    }
    facts |= {name: known[column].to_numpy() for name, column in wanted.items()}
    return pd.DataFrame(
        {name: pd.Series(cells, dtype=cells.dtype) for name, cells in facts.items()}
    )


def _closeness(judge: Judge | None, battles: pd.DataFrame, missing: Bools) -> Floats:
    """(N,) see `Survey`; what is not written yet is not judged."""
    found = np.full(len(battles), np.nan)
    rows = np.flatnonzero(~missing)
    if judge is None or not len(rows):
        return found
    proba = judge.predict_proba(battles if len(rows) == len(battles) else battles.iloc[rows])
    judged = ~np.isnan(proba).any(axis=1)
    found[rows[judged]] = entropy_rows(proba[judged]) / np.log(3)
    return np.asarray(np.round(np.clip(found, 0.0, 1.0), _DECIMALS))
