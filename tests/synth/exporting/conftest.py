"""Annotated sets with whole replies, as models write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from judge.ballots import CRITERIA, VOTES, ballot_table
from judge.prompt_files import load_prompt
from judge.prompting import CRITIQUES
from judge.replies import read_texts
from synth.data import BALLOT_REASON, REASONS, AnnotatedSet

TURN = {"A": "B", "B": "A", "AB": "AB", "NA": "NA"}
Said = Mapping[str, Any]


def said(
    battle: str,
    votes: Sequence[str] | str,
    *,
    order: str = "AB",
    verdict: str | None = None,
    judge: str = "teacher",
    sample: int = 0,
    reasons: Sequence[str] | str | None = "It is.",
    critiques: Sequence[str] | None = None,
    reason: str | None = None,
    prompt: str = "annotated",
    reply: str | None = None,
) -> Said:
    """A record; votes, verdict and critiques are given as they are of the battle in the file."""
    five = [votes] * 5 if isinstance(votes, str) else list(votes)
    return {
        "battle": battle,
        "votes": five,
        "order": order,
        "verdict": verdict,
        "judge": judge,
        "sample": sample,
        "reasons": [reasons] * 5 if isinstance(reasons, str) else reasons,
        "critiques": critiques,
        "reason": reason,
        "prompt": prompt,
        "reply": reply,
    }


def replied(record: Said) -> str:
    """What the model wrote, as the battle was shown to it."""
    turn = (lambda vote: TURN[vote]) if record["order"] == "BA" else (lambda vote: vote)
    members: dict[str, Any] = {}
    if record["critiques"] is not None:
        critiques = list(record["critiques"])
        members |= zip(CRITIQUES, critiques[:: -1 if record["order"] == "BA" else 1], strict=True)
    if record["reason"] is not None:
        members["reason"] = record["reason"]
    for place, (name, vote) in enumerate(zip(CRITERIA, record["votes"], strict=True)):
        if record["reasons"] is None:
            members[name] = turn(vote)
        else:
            members[name] = {"reason": record["reasons"][place], "vote": turn(vote)}
    if record["verdict"] is not None:
        members["verdict"] = turn(record["verdict"])
    return json.dumps(members, ensure_ascii=False)


def make_set(
    records: Sequence[Said],
    battles: pd.DataFrame | None = None,
    manifest: dict[str, Any] | None = None,
) -> AnnotatedSet:
    """A set as `synth run` makes one, of these records."""
    ids = list(dict.fromkeys(record["battle"] for record in records))
    table = battles if battles is not None else battles_called(ids)
    shares = [
        np.array([_certain(vote) for vote in record["votes"]], dtype=np.float64)
        for record in records
    ]
    verdicts = None
    if any(record["verdict"] for record in records):
        verdicts = [_certain(record["verdict"]) for record in records]
    found = ballot_table(
        [record["battle"] for record in records],
        [record["judge"] for record in records],
        shares,
        order=[record["order"] for record in records],
        sample=[record["sample"] for record in records],
        reply=[replied(one) if one["reply"] is None else one["reply"] for one in records],
        verdict=verdicts,
    )
    texts = [read_texts(reply) for reply in found["reply"]]
    for name, column in zip(CRITERIA, REASONS, strict=True):
        found[column] = [text.reasons.get(name, "") for text in texts]
    found[BALLOT_REASON] = [text.reason for text in texts]
    for place, name in enumerate(CRITIQUES):
        found[name] = [(record["critiques"] or ("", ""))[place] for record in records]
    known = {name: load_prompt(name) for name in {record["prompt"] for record in records}}
    prompts = [known[record["prompt"]] for record in records]
    found = found.assign(
        model=found["judge"],
        prompt=[prompt.name for prompt in prompts],
        prompt_version=[prompt.version for prompt in prompts],
        prompt_digest=[prompt.digest for prompt in prompts],
        parameters='{"temperature": 0.7, "max_tokens": 768}',
        finish="stop",
        attempts=1,
        time=1.7e9,
        seconds=1.5,
        cost=0.002,
        prompt_tokens=900,
        cached_tokens=0,
        completion_tokens=260,
    )
    return AnnotatedSet("set", table, found, manifest or {})


def battles_called(ids: Sequence[str]) -> pd.DataFrame:
    """A battle table; one in three has two turns."""
    turns = [1 + (n % 3 == 2) for n in range(len(ids))]
    return pd.DataFrame(
        {
            "id": pd.Series(list(ids), dtype=object),
            **{
                name: [tuple(f"{name} of {i}, turn {t}" for t in range(n)) for i, n in both]
                for name, both in (
                    (name, list(zip(ids, turns, strict=True)))
                    for name in ("prompt", "response_a", "response_b")
                )
            },
            "model_a": "one",
            "model_b": "two",
        }
    )


def _certain(vote: str | None) -> Any:
    if vote is None:
        return np.full(len(VOTES), np.nan)
    return np.eye(len(VOTES))[VOTES.index(vote)]


@pytest.fixture(scope="session", name="said")
def _said() -> Callable[..., Said]:
    """Makes a record; see above."""
    return said


@pytest.fixture(scope="session", name="make_set")
def _make_set() -> Callable[..., AnnotatedSet]:
    """Makes a set; see above."""
    return make_set


@pytest.fixture(scope="session", name="battles_called")
def _battles_called() -> Callable[..., pd.DataFrame]:
    """Makes battles; see above."""
    return battles_called
