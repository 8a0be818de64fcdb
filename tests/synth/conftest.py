"""Annotated sets made up for tests, with as much of each fault as a test asks for.

def test_it(annotated_set, rng):
    data = annotated_set(rng, battles=200, consistency=0.6)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from judge.ballots import CRITERIA, VOTES, ballot_table
from synth.data import REASONS, AnnotatedSet

Floats = npt.NDArray[np.float64]

_WORDS = (
    "amber",
    "bell",
    "cedar",
    "dune",
    "ember",
    "fern",
    "grove",
    "iris",
    "jade",
    "kelp",
    "moss",
)


@pytest.fixture
def rng() -> np.random.Generator:
    """Where a test draws from."""
    return np.random.default_rng(20250101)


@pytest.fixture(name="annotated_set", scope="session")
def _annotated_set() -> Callable[..., AnnotatedSet]:
    """Makes an annotated set; see below."""
    return annotated_set


@pytest.fixture(name="battle_table", scope="session")
def _battle_table() -> Callable[..., pd.DataFrame]:
    """Makes a battle table; see below."""
    return battle_table


def battle_table(
    rng: np.random.Generator,
    battles: int = 40,
    *,
    prompts: int | None = None,
    words: int = 30,
    labelled: bool = True,
) -> pd.DataFrame:
    """Battles about as many prompts; one response is longer than the other in most. What people
    prefer is drawn: A, B or a tie with the odds 2 to 2 to 1."""
    of = np.arange(battles) % (prompts or battles)
    texts = {
        name: [_text(rng, words) for _ in range(battles)] for name in ("response_a", "response_b")
    }
    asked = [_text(rng, 12) for _ in range(prompts or battles)]
    table = pd.DataFrame(
        {
            "id": [f"b{n}" for n in range(battles)],
            "prompt": [(f"Question {n}: {asked[n]}?",) for n in of.tolist()],
            "response_a": [(text,) for text in texts["response_a"]],
            "response_b": [(text,) for text in texts["response_b"]],
            "model_a": "one",
            "model_b": "two",
        }
    )
    if labelled:
        said = np.eye(3)[rng.choice(3, size=battles, p=[0.4, 0.4, 0.2])]
        for name, column in zip(("label_a", "label_b", "label_tie"), said.T, strict=True):
            table[name] = column
    return table


def annotated_set(
    rng: np.random.Generator,
    battles: int | pd.DataFrame = 40,
    *,
    consistency: float = 1.0,
    right: float = 0.8,
    halo: float = 0.5,
    unreadable: float = 0.0,
    annotators: Sequence[str] = ("teacher",),
    orders: Sequence[str] = ("AB", "BA"),
    samples: int = 1,
    sharpness: float | None = None,
    verdict: bool = True,
    reasons: bool = True,
    words: int = 30,
    manifest: dict[str, Any] | None = None,
) -> AnnotatedSet:
    """A set as `synth run` makes one.

    Args:
        rng: where everything is drawn from.
        battles: how many, or a table of them.
        consistency: share of the battles on which an annotator says the same in both orders; on
            the others it votes for what is shown first.
        right: share of the battles that an annotator sees as people do, where there are labels.
        halo: chance that a criterion's vote is the verdict's; else it is drawn.
        unreadable: share of the records without votes.
        annotators, orders, samples: who is asked, and how often.
        sharpness: the share that a vote's distribution gives to the vote; None for certainty.
        verdict: whether the whole is asked about; reasons: whether each vote has one.
        words: of a response, in the mean.
        manifest: what synth.yaml says.
    """
    table = battle_table(rng, battles, words=words) if isinstance(battles, int) else battles
    number = len(table)
    parts = []
    for name in annotators:
        seen = _seen(rng, table, right)
        steady = rng.random(number) < consistency
        for order in orders:
            first = 0 if order == "AB" else 1
            for sample in range(samples):
                whole = np.where(steady, seen, first)
                votes = np.where(
                    rng.random((number, 5)) < halo, whole[:, None], rng.integers(0, 4, (number, 5))
                )
                read = rng.random(number) >= unreadable
                parts.append(_records(table, name, order, sample, whole, votes, read, sharpness))
    said = pd.concat(parts, ignore_index=True)
    if not verdict:
        said = said.drop(columns=["verdict", *(f"verdict_{vote}" for vote in VOTES)])
    if not reasons:
        said = said.drop(columns=[*REASONS])
    return AnnotatedSet("set", table, said, manifest or {"annotators": list(annotators)})


def _seen(rng: np.random.Generator, table: pd.DataFrame, right: float) -> npt.NDArray[np.int64]:
    """(N,) what an annotator thinks of each battle: 0 for A, 1 for B, 2 for neither."""
    drawn = rng.choice(3, size=len(table), p=[0.4, 0.4, 0.2])
    if "label_a" not in table:
        return drawn
    human = table[["label_a", "label_b", "label_tie"]].to_numpy()
    known = ~np.isnan(human).any(axis=1)
    agrees = known & (rng.random(len(table)) < right)
    return np.where(agrees, np.where(known[:, None], human, 0.0).argmax(axis=1), drawn)


def _records(
    table: pd.DataFrame,
    annotator: str,
    order: str,
    sample: int,
    whole: npt.NDArray[np.int64],
    votes: npt.NDArray[np.int64],
    read: npt.NDArray[np.bool_],
    sharpness: float | None,
) -> pd.DataFrame:
    number = len(table)
    shares = np.where(read[:, None, None], _shares(votes, sharpness), np.nan)
    verdicts = np.where(read[:, None], _shares(whole, sharpness), np.nan)
    said = ballot_table(
        table["id"].tolist(),
        annotator,
        shares,
        order=order,
        sample=sample,
        reason=["" if one else "unreadable, asked once: no vote on clarity" for one in read],
    )
    said["verdict"] = [VOTES[v] if one else None for v, one in zip(whole, read, strict=True)]
    for place, vote in enumerate(VOTES):
        said[f"verdict_{vote}"] = verdicts[:, place]
    for column, name in enumerate(REASONS):
        said[name] = [
            f"On {CRITERIA[column]} of {i}, {VOTES[v]} it is, shown as {order} for the {sample}th"
            if one
            else None
            for i, v, one in zip(table["id"], votes[:, column], read, strict=True)
        ]
    for name in ("ballot_reason", "critique_a", "critique_b"):
        said[name] = ""
    replies = [
        json.dumps({"verdict": VOTES[v]}) if one else "?"
        for v, one in zip(whole, read, strict=True)
    ]
    return said.assign(
        reply=replies,
        finish="stop",
        attempts=1,
        model=annotator,
        prompt="annotated",
        prompt_version="1",
        prompt_digest="0" * 16,
        parameters="{}",
        time=1.7e9,
        seconds=1.5,
        prompt_tokens=900,
        cached_tokens=0,
        completion_tokens=260,
        cost=0.002 * np.ones(number),
    )


def _shares(votes: npt.NDArray[np.int64], sharpness: float | None) -> Floats:
    """(..., 4) distributions in which the vote has as much."""
    certain = np.eye(4)[votes]
    if sharpness is None:
        return certain
    rest = (1.0 - sharpness) / 3.0
    return certain * (sharpness - rest) + rest


def _text(rng: np.random.Generator, words: int) -> str:
    size = max(1, int(rng.poisson(words)))
    return " ".join(_WORDS[n] for n in rng.integers(0, len(_WORDS), size).tolist())
