"""What no plan has: what says nothing, copies, near-copies, and what is held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judge.battles import read_battles
from judge.comparing.marks import battle_marks
from judge.comparing.near import Kind, duplicates, find
from judge.errors import InputError
from synth.plan_writing import write_plan
from synth.planning import Drawn, Rule
from synth.plans import DROPPED
from synth.sifting import Reason

Write = Callable[..., str]
Make = Callable[..., pd.DataFrame]
Draw = Callable[..., Drawn]
Words = Callable[..., str]


def test_what_is_left_out_is_listed_with_its_reason(
    write: Write, tmp_path: Path, some: Make, edited: Make, drawn: Draw
) -> None:
    good = some(40)
    bad = some(6, 1)
    bad.loc[0, "prompt"] = "  \n"
    bad.loc[1, ["response_a", "response_b"]] = ["", " "]
    bad.loc[2, "response_b"] = bad.loc[2, "response_a"] + " "
    other = some(8, 2)
    asked = some(2, 3).assign(prompt=other["prompt"].iloc[5:7].tolist())
    table = pd.concat([good, bad, good.iloc[:2].assign(id=["c0", "c1"]), edited(good.iloc[2:5])])
    table = pd.concat([table, other.iloc[:2], edited(other.iloc[2:4]), asked])
    files = [write(table, "all.csv"), write(other, "held.csv")]
    found = drawn(files[:1], hold=files[1:])
    plan = write_plan(tmp_path / "plan", found)
    assert plan.size == 40 + 3
    listed = pd.read_csv(tmp_path / "plan" / DROPPED, dtype=str, keep_default_na=False)
    assert listed.columns.tolist() == ["source", "id", "battle", "reason", "kin"]
    reasons = dict(zip(listed["id"], listed["reason"], strict=True))
    assert reasons == {
        "1-0": "no text",
        "1-1": "no text",
        "1-2": "responses alike",
        "c0": "duplicate",
        "c1": "duplicate",
        "e0-2": "near-duplicate",
        "e0-3": "near-duplicate",
        "e0-4": "near-duplicate",
        "2-0": "held out",
        "2-1": "held out",
        "e2-2": "nearly held out",
        "e2-3": "nearly held out",
        "3-0": "prompt held out",
        "3-1": "prompt held out",
    }
    kin = dict(zip(listed["id"], listed["kin"], strict=True))
    assert kin["c1"] == "all.csv:0-1"
    assert kin["e0-3"] == "all.csv:0-3"
    assert kin["e2-2"] == "held.csv:2-2"
    assert kin["3-0"] == "held.csv:2-5"
    assert kin["1-0"] == ""
    battles = read_battles(files[0])
    assert [battles["id"][int(place) - 1] for place in listed["battle"]] == listed["id"].tolist()
    assert plan.settings["dropped"]["nearly held out"] == 2


def test_what_the_user_keeps_is_kept(write: Write, some: Make, edited: Make, drawn: Draw) -> None:
    table = some(10)
    table.loc[0, ["response_a", "response_b"]] = ""
    table.loc[1, "response_b"] = table.loc[1, "response_a"]
    name = write(pd.concat([table, edited(table.iloc[4:6]), table.iloc[6:8]]))
    assert len(drawn([name]).places) == 8
    for reason, more in ((Reason.WORDLESS, 1), (Reason.ALIKE, 1), (Reason.NEAR, 2)):
        assert len(drawn([name], Rule(keep=frozenset({reason}))).places) == 8 + more


def test_nothing_is_left_out_without_a_list_of_it(
    write: Write, tmp_path: Path, some: Make, drawn: Draw
) -> None:
    write_plan(tmp_path / "plan", drawn([write(some(5))]))
    assert not (tmp_path / "plan" / DROPPED).exists()


def test_nothing_left_is_an_error_that_says_why(write: Write, some: Make, drawn: Draw) -> None:
    name = write(some(5))
    hold = write(some(5), "held.parquet")
    with pytest.raises(InputError, match=r"nothing is left to draw of 5 battles \(5 held out\)"):
        drawn([name], hold=[hold])


def test_a_prompt_has_as_many_battles_as_it_may(
    write: Write, some: Make, drawn: Draw, words: Words
) -> None:
    rng = np.random.default_rng(0)
    table = some(60).assign(prompt=[f"question {n // 6} {words(rng, 0)}" for n in range(60)])
    name = write(table)
    for most in (1, 4):
        found = drawn([name], Rule(per_prompt=most))
        prompts = found.survey.marks.prompts[found.places]
        assert np.unique(prompts, return_counts=True)[1].tolist() == [most] * 10
        assert found.sifted.counts == {Reason.PROMPT: 60 - 10 * most}
    # Without a limit each prompt comes once before any comes again, stratum by stratum.
    found = drawn([name], Rule(size=10, by=("turns",)))
    assert len(np.unique(found.survey.marks.prompts[found.places])) == 10


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 40),
    allocation=st.sampled_from(["square-root", "equal"]),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plan_dropped_and_undrawn_are_all_there_is_and_no_kin_is_left(
    write: Write, seed: int, size: int, allocation: str, some: Make, edited: Make, drawn: Draw
) -> None:
    rng = np.random.default_rng(seed)
    base = some(25, seed)
    kin = [base, edited(base.iloc[:7]), base.iloc[5:9], edited(edited(base.iloc[3:5]))]
    table = pd.concat(kin, ignore_index=True)
    table = table.iloc[rng.permutation(len(table))]
    hold = pd.concat([edited(base.iloc[10:13]), some(4, seed + 1)])
    found = drawn(
        [write(table)],
        Rule(size=size, seed=seed, allocation=allocation),
        hold=[write(hold, "held.parquet")],
    )
    marks = found.survey.marks
    gone = np.flatnonzero(found.sifted.reasons != None)  # noqa: E711
    assert sorted([*gone, *found.left]) == list(range(len(table)))
    assert len(found.places) == min(size, len(found.left))
    assert len(set(found.places.tolist())) == len(found.places)
    assert set(found.places.tolist()) <= set(found.left.tolist())
    assert (duplicates(marks.take(found.left)).kinds < Kind.NEAR).all()
    held = battle_marks(read_battles(str(Path(found.origins[0].files[0]).parent / "held.parquet")))
    assert (find(marks.take(found.left), held).kinds == Kind.NONE).all()
