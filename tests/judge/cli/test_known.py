"""What is known of entrants beyond probabilities: time, dollars, whether the orders agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import pytest

from judge.ballots import ballot_table
from judge.cli.entrants import Entrant
from judge.cli.known import known_of
from judge.comparing.scores import Effort
from judge.engines.base import Engine, Reply, Request
from judge.judges.asking import Asking
from judge.judges.base import Judge, Judgments
from judge.judges.prompted import PromptedJudge
from judge.judges.recorded import RecordedJudge
from judge.labelled import Labelled
from judge.prompt_files import load_prompt

IDS = ["1", "2", "3", "4"]


class Paid(Engine):
    """Has answered some calls at ten cents each, and found others in the ledger."""

    def __init__(self, calls: int, from_ledger: int, cost: float = 0.1) -> None:
        super().__init__(name="paid")
        for n in range(calls + from_ledger):
            self.statistics.count(Reply("A", cost=cost, from_ledger=n >= calls))

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        return iter(())

    def close(self) -> None:
        pass


class Wrapped(Judge):
    """A judge that is made of others."""

    def __init__(self, *members: Judge) -> None:
        self.name, self.members = "wrapped", members

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        return Judgments(np.full((len(battles), 3), 1 / 3))


def _asked(engine: Engine) -> PromptedJudge:
    return PromptedJudge(engine, load_prompt("discriminator"), Asking("m"))


def _recorded() -> RecordedJudge:
    """One vote for what is shown first in each order, on one of the battles; two on another set."""
    shares = np.zeros((4, 5, 4))
    shares[[0, 2], :, 0] = shares[[1, 3], :, 1] = 1.0
    ids = ["1", "1", "elsewhere", "elsewhere"]
    return RecordedJudge(ballot_table(ids, "votes", shares, order=["AB", "BA"] * 2))


def _known(judge: Judge, seconds: float = 2.0) -> tuple[object, Effort]:
    labelled = Labelled(
        IDS, np.full((4, 3), 1 / 3), np.arange(4), {}, None, {"it": seconds, "other": 1.0}
    )
    found = known_of([Entrant("it", "spec", judge), Entrant("file", "f.csv")], labelled)
    assert set(found.efforts) == {"it"}
    return found.orders.get("it"), found.efforts["it"]


def test_the_time_is_what_was_measured_a_battle() -> None:
    word, effort = _known(Wrapped())
    assert word is None
    assert effort.seconds == 0.5
    assert np.isnan(effort.cost)


def test_the_cost_is_what_the_calls_cost() -> None:
    _, effort = _known(_asked(Paid(calls=8, from_ledger=0)))
    assert effort.cost == pytest.approx(0.2)
    assert effort.seconds == 0.5


def test_what_the_ledger_had_costs_as_much_and_says_nothing_of_the_time() -> None:
    _, effort = _known(_asked(Paid(calls=2, from_ledger=6)))
    assert effort.cost == pytest.approx(0.2)
    assert np.isnan(effort.seconds)
    _, effort = _known(_asked(Paid(calls=0, from_ledger=8)))
    assert np.isnan([effort.cost, effort.seconds]).all()


def test_a_model_without_a_price_costs_nobody_knows_what() -> None:
    _, effort = _known(_asked(Paid(calls=8, from_ledger=0, cost=0.0)))
    assert np.isnan(effort.cost)


def test_judges_within_count() -> None:
    judge = Wrapped(Wrapped(_asked(Paid(4, 0))), _asked(Paid(8, 0, cost=0.2)))
    _, effort = _known(judge)
    assert effort.cost == pytest.approx(0.5)
    word, _ = _known(Wrapped(_recorded()))
    assert getattr(word, "pairs", None) == 1
    assert getattr(word, "order_consistency", None) == 0
    assert getattr(word, "position_bias", None) == 1
