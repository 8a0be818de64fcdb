"""Battles to plan with, a judge that says which are close, and files of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge.judges.base import Judge, Judgments
from synth.origins import of_files
from synth.planning import Drawn, Rule, draw_plan

LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
Write = Callable[..., str]


class Unsure(Judge):
    """Sure of battles whose responses differ in length; has nothing to say of some."""

    name = "unsure"

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        a, b = (
            np.array([sum(map(len, turns)) for turns in battles[side]], dtype=float)
            for side in ("response_a", "response_b")
        )
        strength = np.exp((a - b) / 40)
        proba = np.column_stack([strength, 1 / strength, np.ones(len(battles))])
        proba /= proba.sum(axis=1, keepdims=True)
        proba[a > 500] = np.nan
        return Judgments(proba)


def words(rng: np.random.Generator, count: int) -> str:
    """Words that nobody has said before."""
    return " ".join("".join(word) for word in LETTERS[rng.integers(26, size=(count, 5))])


def some(count: int, seed: int = 0, **columns: object) -> pd.DataFrame:
    """Battles that have nothing to do with one another."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "id": f"{seed}-{n}",
            "prompt": f"what is {words(rng, 8)}?",
            "response_a": words(rng, int(rng.integers(4, 120))),
            "response_b": words(rng, int(rng.integers(4, 120))),
        }
        for n in range(count)
    ]
    return pd.DataFrame(rows).assign(**columns)


def edited(table: pd.DataFrame) -> pd.DataFrame:
    """The same but for the last word of each response, swapped, and called otherwise."""
    last = table[["response_a", "response_b"]].map(lambda text: text.rsplit(" ", 1)[0] + " edited")
    return table.assign(
        id="e" + table["id"], response_a=last["response_b"], response_b=last["response_a"]
    )


@pytest.fixture(name="unsure")
def _unsure() -> Judge:
    """The judge that says which battles are close."""
    return Unsure()


@pytest.fixture(name="words")
def _words() -> Callable[..., str]:
    """Words that nobody has said before; see above."""
    return words


@pytest.fixture(name="some")
def _some() -> Callable[..., pd.DataFrame]:
    """Battles; see above."""
    return some


@pytest.fixture(name="edited")
def _edited() -> Callable[..., pd.DataFrame]:
    """Small edits; see above."""
    return edited


@pytest.fixture(name="drawn")
def _drawn() -> Callable[..., Drawn]:
    """Draws a plan; see below."""
    return drawn


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes battles to a file and gives its name."""

    def put(table: pd.DataFrame, name: str = "battles.parquet") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".csv"):
            table.to_csv(path, index=False)
        elif name.endswith(".jsonl"):
            path.write_text("\n".join(json.dumps(row) for row in table.to_dict("records")))
        else:
            table.to_parquet(path, index=False)
        return str(path)

    return put


def drawn(files: Sequence[str], rule: Rule | None = None, **options: object) -> Drawn:
    """A plan from files, drawn."""
    judge = Unsure()
    return draw_plan(of_files(files), rule or Rule(), judge=judge, **options)  # type: ignore[arg-type]
