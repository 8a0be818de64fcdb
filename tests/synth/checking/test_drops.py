"""What to drop and why: each reason where it is due, and no more than was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge.ballots import CRITERIA, VOTES
from synth.checking.contamination import held_out_battles
from synth.checking.drops import DEFAULTS, REASONS, Rules, counts
from synth.checking.findings import SEVERE, THRESHOLDS, verdict
from synth.checking.whole import Check, Options, check
from synth.data import AnnotatedSet

Make = Callable[..., AnnotatedSet]
Rng = np.random.Generator

SHARES = [f"{name}_{vote}" for name in (*CRITERIA, "verdict") for vote in VOTES]


def _check(data: AnnotatedSet, *files: Path, rules: Rules | None = None) -> Check:
    asked = Options(rules=rules or Rules(), rounds=100)
    return check(data, held_out_battles(files), asked)


def _reasons(found: Check) -> dict[str, list[str]]:
    """By each battle's id, why it is to go."""
    names: dict[str, list[str]] = {}
    for one in found.drops:
        names.setdefault(found.labels.ids[one.battle], []).append(one.reason)
    return names


def _silence(data: AnnotatedSet, battle: str, order: str = "", **more: str) -> None:
    """Takes away the votes on a battle."""
    rows = data.annotations["id"] == battle
    if order:
        rows &= data.annotations["order"] == order
    data.annotations.loc[rows, SHARES] = np.nan
    for name, text in more.items():
        data.annotations.loc[rows, name] = text


def _say(data: AnnotatedSet, battle: str, vote: str, **which: object) -> None:
    """Votes for one thing throughout."""
    rows = data.annotations["id"] == battle
    for name, value in which.items():
        rows &= data.annotations[name] == value
    for name in (*CRITERIA, "verdict"):
        for one in VOTES:
            data.annotations.loc[rows, f"{name}_{one}"] = float(one == vote)


@pytest.fixture
def data(annotated_set: Make, rng: Rng) -> AnnotatedSet:
    """Twenty battles that nothing is the matter with."""
    made = annotated_set(rng, 20, halo=1.0, right=1.0)
    assert _reasons(_check(made)) == {}
    return made


def test_battles_without_a_label_say_what_kept_them_from_one(data: AnnotatedSet) -> None:
    _silence(data, "b0", reason="no reply: timed out")
    _silence(data, "b1", reason="unreadable, asked 3 times: no vote on clarity")
    _silence(data, "b2", reason="the model declined to answer", finish="refusal")
    _say(data, "b3", "NA")
    _silence(data, "b5", reason="nobody wrote response b")
    data.annotations.loc[data.annotations["id"] == "b5", "attempts"] = 0
    data = replace(data, annotations=data.annotations[data.annotations["id"] != "b4"])
    found = _check(data)
    assert _reasons(found) == {
        "b0": ["unanswered"],
        "b1": ["unreadable"],
        "b2": ["refused"],
        "b3": ["no-label"],
        "b4": ["not-annotated"],
        "b5": ["not-annotated"],
    }
    details = {one.reason: one.detail for one in found.drops}
    assert details["unreadable"] == "unreadable, asked 3 times: no vote on clarity"
    assert details["not-annotated"] == "nobody wrote response b"
    assert found.gone.sum() == 6


def test_a_battle_readable_in_one_order_has_its_position_in_the_label(data: AnnotatedSet) -> None:
    _silence(data, "b0", "BA", reason="the model declined to answer")
    found = _check(data)
    assert _reasons(found) == {"b0": ["one-order"]}
    assert found.drops[0].detail == "BA: the model declined to answer"


def test_a_second_annotator_in_both_orders_saves_a_battle(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 12, annotators=("t", "u"), halo=1.0, right=1.0)
    rows = (data.annotations["judge"] == "t") & (data.annotations["order"] == "AB")
    data.annotations.loc[rows & (data.annotations["id"] == "b0"), SHARES] = np.nan
    assert _reasons(_check(data)) == {}


@pytest.mark.parametrize(("margin", "flips"), [(0.2, True), (0.5, True), (0.51, False)])
def test_a_flip_is_beyond_the_margin_in_both_orders(
    data: AnnotatedSet, margin: float, flips: bool
) -> None:
    rows = data.annotations["id"] == "b0"
    for order, (a, b) in (("AB", (0.75, 0.25)), ("BA", (0.0, 1.0))):
        chosen = rows & (data.annotations["order"] == order)
        data.annotations.loc[chosen, [f"verdict_{vote}" for vote in VOTES]] = [a, b, 0.0, 0.0]
    rules = Rules(DEFAULTS - {"verdict-contradicts-votes"}, margin=margin)
    names = _reasons(_check(data, rules=rules)).get("b0", [])
    assert ("order-flip" in names) == flips


def test_a_side_against_a_tie_is_no_flip(data: AnnotatedSet) -> None:
    _say(data, "b0", "A", order="AB")
    _say(data, "b0", "AB", order="BA")
    assert "order-flip" not in _reasons(_check(data)).get("b0", [])


def test_disagreement_is_named_and_kept(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 12, annotators=("t", "u"), samples=2, halo=1.0, right=1.0)
    _say(data, "b0", "A", judge="t")
    _say(data, "b0", "B", judge="u")
    _say(data, "b1", "A", sample=0)
    _say(data, "b1", "AB", sample=1)
    names = {"annotators-disagree", "samples-disagree"}
    found = _check(data)
    assert "annotators-disagree" in _reasons(found)["b0"]
    assert "samples-disagree" in _reasons(found)["b1"]
    assert not found.gone.any()
    strict = _check(data, rules=Rules(DEFAULTS | names))
    assert np.flatnonzero(strict.gone).tolist() == [0, 1]


def test_battles_of_held_out_files(data: AnnotatedSet, tmp_path: Path) -> None:
    battles = data.battles
    there = pd.DataFrame(
        {
            "id": ["x", "y", "z"],
            "prompt": [turns[0] for turns in battles["prompt"][:3]],
            # The first the other way round, the second but for its case, the third with others.
            "response_a": [
                battles["response_b"][0][0], battles["response_a"][1][0].upper(), "else"
            ],
            "response_b": [battles["response_a"][0][0], battles["response_b"][1][0], "other"],
        }
    )  # fmt: skip
    there.to_csv(tmp_path / "held.csv", index=False)
    found = _check(data, tmp_path / "held.csv")
    assert _reasons(found) == {
        "b0": ["contaminated"], "b1": ["contaminated"], "b2": ["held-out-prompt"]
    }  # fmt: skip
    assert [one.detail for one in found.drops] == [
        "the same as x in held.csv", "the same as y in held.csv", "the prompt of z in held.csv"
    ]  # fmt: skip
    assert (found.contamination.held_out, found.contamination.exact) == (3, 2)
    assert found.contamination.first == ("b0", "b1")


def test_the_first_of_two_alike_stays(data: AnnotatedSet) -> None:
    for name in ("prompt", "response_a", "response_b"):
        data.battles.at[7, name] = data.battles.at[3, name]
    found = _check(data)
    assert _reasons(found) == {"b7": ["near-duplicate"]}
    assert found.drops[0].detail == "the same as b3"


def test_what_people_say_counts_only_on_request(data: AnnotatedSet) -> None:
    _say(data, "b0", "A")
    data.battles.loc[0, ["label_a", "label_b", "label_tie"]] = [0.0, 0.5, 0.5]
    _say(data, "b1", "A")
    data.battles.loc[1, ["label_a", "label_b", "label_tie"]] = [0.5, 0.5, 0.0]  # either is right
    data.battles.loc[2, ["label_a", "label_b", "label_tie"]] = np.nan
    found = _check(data)
    assert _reasons(found) == {"b0": ["human-disagrees"]}
    assert not found.gone.any()


def test_each_reason_has_a_line_and_is_in_order(data: AnnotatedSet) -> None:
    _silence(data, "b0", "BA")
    _say(data, "b1", "A", order="AB")
    _say(data, "b1", "B", order="BA")
    found = _check(data)
    assert next(one.reason for one in found.drops if one.battle == 1) == "order-flip"
    assert list(counts(found.drops)) == [name for name in REASONS if name in counts(found.drops)]
    assert counts([]) == {}


# --- findings -------------------------------------------------------------------------------------


def test_a_good_set_is_worth_training_on(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 300, consistency=0.95, right=0.9, sharpness=0.8)
    said = verdict(_check(data))
    assert said.worth == "yes", said.findings
    assert {one.severity for one in said.findings} == {"note"}


def test_the_worst_comes_first_and_says_what_it_means(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 300, consistency=0.5, unreadable=0.05, sharpness=0.8)
    said = verdict(_check(data))
    assert said.worth == "no"
    first = said.findings[0]
    assert first.severity == SEVERE
    named = {one.measure: one for one in said.findings}
    assert "of the battles say more of the position" in named["order consistency"].text
    assert named["position bias"].severity == SEVERE
    assert named["unreadable"].severity == "warning"
    ranks = [("severe", "warning", "note").index(one.severity) for one in said.findings]
    assert ranks == sorted(ranks)
    assert said.text.startswith("Not worth training on as it is: ")


def test_contamination_is_severe(data: AnnotatedSet, tmp_path: Path) -> None:
    held = pd.DataFrame({name: [data.battles[name][0][0]] for name in _TEXTS})
    held.to_csv(tmp_path / "held.csv", index=False)
    named = {one.measure: one for one in verdict(_check(data, tmp_path / "held.csv")).findings}
    assert named["held out"].severity == SEVERE
    assert "1 battle of held-out files" in named["held out"].text


def test_hard_labels_and_votes_that_say_one_thing(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 300, halo=1.0)
    measures = {one.measure: one.severity for one in verdict(_check(data)).findings}
    assert measures["certain"] == "warning"
    assert measures["halo"] == SEVERE


def test_every_threshold_is_in_order() -> None:
    for measure, (warning, severe) in THRESHOLDS.items():
        assert np.isfinite([warning, severe]).all(), measure


_TEXTS = ("prompt", "response_a", "response_b")


# --- the edges ------------------------------------------------------------------------------------


@pytest.mark.parametrize("battles", [1, 2])
@pytest.mark.parametrize(
    "fault", ["", "ties", "silent", "none", "unlabelled", "alike", "empty", "votes"]
)
def test_nothing_is_too_little(annotated_set: Make, rng: Rng, battles: int, fault: str) -> None:
    data = annotated_set(rng, battles, verdict=fault != "votes")
    if fault == "ties":
        data.annotations.loc[:, SHARES] = [0.0, 0.0, 1.0, 0.0] * 6
    if fault == "silent":
        data.annotations.loc[:, SHARES] = np.nan
    if fault == "none":
        data = replace(data, annotations=data.annotations[:0])
    if fault == "unlabelled":
        data.battles[["label_a", "label_b", "label_tie"]] = np.nan
    if fault == "alike":
        data.battles["response_b"] = data.battles["response_a"]
    if fault == "empty":
        for name in _TEXTS:
            data.battles[name] = [("",)] * battles
    found = _check(data)
    said = verdict(found)
    assert found.battles == battles
    if fault in ("silent", "none"):
        assert found.gone.all()
        assert said.worth == "no"
        assert np.isnan(found.labels.proba).all()
    if fault == "ties":
        assert (found.labels.proba == [0.0, 0.0, 1.0]).all()
