"""A cascade: the dear judge is asked about what the cheap one is not sure of, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from judge.ballots import ballot_table
from judge.cascading import ALL, ROUNDING, cascade_curve
from judge.errors import ArenaJudgeError, InputError
from judge.judges import load_judge
from judge.judges.base import Judge, Judgments
from judge.judges.cascade import CascadeJudge
from judge.metrics import log_loss_rows


class Scripted(Judge):
    """Says of a battle what a table has for its id, and remembers whom it was asked about."""

    def __init__(self, name: str, said: dict[str, list[float] | None]) -> None:
        self.name = name
        self.said = said
        self.seen: list[str] = []
        self.closed = False

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        ids = battles["id"].tolist()
        assert battles.index.tolist() == list(range(len(ids)))
        self.seen += ids
        rows = [self.said[one] or [np.nan] * 3 for one in ids]
        reasons = {n: f"{self.name} is silent" for n, one in enumerate(ids) if not self.said[one]}
        votes = ballot_table(ids, self.name, np.full((len(ids), 5, 4), 0.25)) if ballots else None
        return Judgments(np.array(rows, dtype=np.float64), reasons, votes)

    def close(self) -> None:
        self.closed = True


def battles(ids: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, "prompt": [("p",)] * len(ids)}, index=range(7, 7 + len(ids)))


def test_only_what_is_unsure_is_sent_on() -> None:
    cheap = Scripted(
        "cheap", {"a": [0.8, 0.1, 0.1], "b": [0.4, 0.3, 0.3], "c": None, "d": [0.5, 0.4, 0.1]}
    )
    dear = Scripted("dear", {"b": [0.0, 1.0, 0.0], "c": None, "d": None, "a": [0.0, 0.0, 1.0]})
    cascade = CascadeJudge([cheap, dear], [0.7])
    found = cascade.judge(battles(["a", "b", "c", "d"]), ballots=True)
    assert dear.seen == ["b", "c", "d"]
    np.testing.assert_array_equal(
        found.proba[[0, 1, 3]], [[0.8, 0.1, 0.1], [0, 1, 0], [0.5, 0.4, 0.1]]
    )
    assert np.isnan(found.proba[2]).all()
    assert found.reasons == {2: "dear is silent"}
    assert (cascade.asked, cascade.kept) == ([4, 3], 1)
    assert found.ballots is not None
    assert found.ballots.groupby("judge", sort=False)["id"].apply(list).to_dict() == {
        "cheap": ["a", "b", "c", "d"],
        "dear": ["b", "c", "d"],
    }
    assert cascade.name == "cheap > dear"
    cascade.close()
    assert cheap.closed
    assert dear.closed


def test_nobody_is_asked_about_nothing() -> None:
    cheap, dear = (Scripted(name, {"a": [0.9, 0.1, 0.0]}) for name in ("cheap", "dear"))
    cascade = CascadeJudge([cheap, dear], [0.5])
    assert cascade.predict_proba(battles([])).shape == (0, 3)
    cascade.predict_proba(battles(["a"]))
    assert dear.seen == []


@given(st.lists(st.floats(0.34, 1.0), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_three_judges(tops: list[float], first: float, second: float) -> None:
    ids = [str(n) for n in range(len(tops))]
    said = {one: [top, 1 - top, 0.0] for one, top in zip(ids, tops, strict=True)}
    judges = [Scripted(name, dict(said)) for name in "xyz"]  # type: ignore[arg-type]
    cascade = CascadeJudge(judges, [first, second])
    np.testing.assert_array_equal(cascade.predict_proba(battles(ids)), list(said.values()))
    sure = [max(top, 1 - top) for top in tops]
    assert cascade.asked == [
        len(tops),
        sum(top < first - ROUNDING for top in sure),
        sum(top < first - ROUNDING and top < second - ROUNDING for top in sure),
    ]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({}, "does not say when a judge is sure; add sure: 0.7"),
        ({"sure": "x"}, "does not say when"),
        ({"sure": [0.1, True]}, "does not say when"),
        ({"sure": [0.1, 0.2]}, "wants 1 numbers"),
        ({"sure": -1}, "is a probability"),
        ({"sure": float("nan")}, "does not say when"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_one_line(
    tmp_path: Path, said: dict[str, object], what: str
) -> None:
    file = tmp_path / "cascade.yaml"
    judges = {"kind": "cascade", "judges": ["statistical", "statistical"]}
    file.write_text(yaml.safe_dump(judges | said))
    with pytest.raises(InputError) as caught:
        load_judge(file)
    assert what in str(caught.value)


def test_from_a_file_it_is_a_judge_like_others(tmp_path: Path) -> None:
    from judge.battles import read_battles

    file = tmp_path / "cascade.yaml"
    file.write_text("kind: cascade\njudges: [statistical, statistical]\nsure: 0.6\nname: two\n")
    judge = load_judge(file)
    table = read_battles(Path(__file__).parents[3] / "examples" / "battles.csv")
    np.testing.assert_array_equal(judge.predict_proba(table), load_judge().predict_proba(table))
    assert judge.name == "two"
    assert judge.sources == load_judge().sources


def drawn(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a cheap judge that knows its limits, and a dear one that knows more."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, 3)) * 2
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    easy = generator.random(count) < 0.5
    cheap = np.where(easy[:, None], true, 1 / 3)
    choice = (generator.random(count)[:, None] > np.cumsum(true, axis=1)).sum(axis=1)
    return np.eye(3)[np.minimum(choice, 2)], cheap, true


def test_the_curve_finds_where_the_cheap_judge_knows_enough() -> None:
    labels, cheap, dear = drawn(0, 2000)
    curve = cascade_curve(labels, cheap, dear, np.arange(2000), costs=(0.1, 2.0), rounds=200)
    assert curve.steps[0].sent == 0
    assert curve.steps[-1].sent == 1
    assert curve.steps[-1].sure == ALL
    assert curve.steps[-1].gap == 0
    assert curve.steps[0].log_loss == pytest.approx(log_loss_rows(labels, cheap).mean())
    assert curve.steps[-1].cost == pytest.approx(2.1)
    assert np.all(np.diff([step.sent for step in curve.steps]) > 0)
    # Half of the battles are a riddle to the cheap judge, and it says so.
    assert 0.45 < curve.best.sent < 0.56
    assert curve.best.log_loss <= min(step.log_loss for step in curve.steps) + curve.within
    loss, sent = curve.honest
    assert loss == pytest.approx(curve.best.log_loss, abs=0.01)
    assert sent == pytest.approx(curve.best.sent, abs=0.1)
    assert len(curve.to_frame()) == len(curve.steps)


def test_a_dear_judge_that_knows_less_is_not_asked() -> None:
    labels, cheap, dear = drawn(1, 1000)
    curve = cascade_curve(labels, dear, cheap, np.arange(1000), rounds=200)
    assert curve.best.sent == 0


def test_what_one_judge_left_out_is_left_out() -> None:
    labels, cheap, dear = drawn(2, 100)
    cheap[:10], dear[5:20], labels[30] = np.nan, np.nan, np.nan
    curve = cascade_curve(labels, cheap, dear, np.arange(100) // 2, rounds=100)
    assert (curve.battles, curve.prompts) == (79, 40)
    with pytest.raises(ArenaJudgeError, match="no battle"):
        cascade_curve(labels, cheap, np.full_like(dear, np.nan), np.arange(100))
    one = cascade_curve(labels[50:52], cheap[50:52], dear[50:52], [0, 0], rounds=100)
    assert np.isnan(one.honest).all()


def test_a_threshold_that_was_seen_is_reached_whatever_rounding_does() -> None:
    low, high = sorted([0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1])
    assert low < high
    cheap = Scripted("cheap", {"one": [low, 0.1, 0.9 - low], "two": [0.1, high, 0.9 - high]})
    dear = Scripted("dear", {"one": None, "two": None})
    battles = pd.DataFrame({"id": ["one", "two"]})
    CascadeJudge([cheap, dear], [high]).judge(battles)
    assert dear.seen == []


def test_a_threshold_may_be_any_number(tmp_path: Path) -> None:
    file = tmp_path / "far.yaml"
    settings = {"kind": "cascade", "judges": ["statistical", "statistical"], "sure": 10**400}
    file.write_text(yaml.safe_dump(settings))
    judge = load_judge(str(file))
    assert isinstance(judge, CascadeJudge)
    assert judge.sure == (np.inf,)
