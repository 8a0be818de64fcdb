"""Near-duplicates: small edits are found, other battles are not, however many there are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from judge.battles import swap
from judge.comparing.marks import Marks, battle_marks, joined
from judge.comparing.near import Kind, duplicates, find

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def _seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test draws the same, whichever ran before it."""
    monkeypatch.setattr(f"{__name__}.RNG", np.random.default_rng(7))


def words(count: int) -> str:
    letters = RNG.integers(26, size=(count, 5)) + ord("a")
    return " ".join("".join(map(chr, row)) for row in letters.tolist())


def battles(count: int, *, prompt: int = 16, response: int = 100) -> pd.DataFrame:
    rows = [[(words(prompt),), (words(response),), (words(response),)] for _ in range(count)]
    return pd.DataFrame(rows, columns=["prompt", "response_a", "response_b"], dtype=object)


def edited(text: str, places: int) -> str:
    tokens = text.split()
    for place in RNG.choice(len(tokens), size=places, replace=False).tolist():
        tokens[place] = "edited"
    return " ".join(tokens)


def changed(table: pd.DataFrame, prompt: int = 0, response: int = 0) -> pd.DataFrame:
    by = {"prompt": prompt, "response_a": response, "response_b": response}
    columns = {
        name: [(edited(turns[0], places),) if places else turns for turns in table[name]]
        for name, places in by.items()
    }
    return pd.DataFrame(columns, dtype=object)


def kinds(table: pd.DataFrame, others: pd.DataFrame) -> list[int]:
    return find(battle_marks(table), battle_marks(others)).kinds.tolist()


def test_the_same_battles_swapped_or_not_are_exact_and_found_where_they_are() -> None:
    known = battles(40)
    order = RNG.permutation(40)
    asked = pd.concat([known.iloc[order[:20]], swap(known.iloc[order[20:]])])
    found = find(battle_marks(asked), battle_marks(known))
    assert set(found.kinds.tolist()) == {Kind.EXACT}
    assert found.places.tolist() == order.tolist()
    assert found.similarity.tolist() == [1.0] * 40


def test_small_edits_are_near() -> None:
    known = battles(200)
    for table in (changed(known, 0, 2), changed(known, 1, 2), swap(changed(known, 1, 1))):
        found = find(battle_marks(table), battle_marks(known))
        near = found.kinds == Kind.NEAR
        assert near.mean() > 0.9
        assert found.places[near].tolist() == np.flatnonzero(near).tolist()
        assert (found.similarity[near] > 0.6).all()
        assert (found.similarity[near] < 1.0).any()


def test_the_same_prompt_with_other_responses_is_no_more_than_that() -> None:
    known, other = battles(30), battles(30)
    asked = known.assign(response_a=other["response_a"], response_b=other["response_b"])
    assert kinds(asked, known) == [Kind.PROMPT] * 30
    # One response the same is not the same battle: another label may be right.
    assert kinds(known.assign(response_a=other["response_a"]), known) == [Kind.PROMPT] * 30


def test_other_prompts_with_the_same_responses_are_none() -> None:
    known, other = battles(30), battles(30)
    refused = known.assign(response_a=[("I cannot help with that.",)] * 30)
    refused = refused.assign(response_b=[("Sorry, no.",)] * 30)
    assert kinds(refused.assign(prompt=other["prompt"]), refused) == [Kind.NONE] * 30


def test_battles_with_nothing_in_common_are_none() -> None:
    assert kinds(battles(300), battles(300)) == [Kind.NONE] * 300


def test_nothing_among_nothing() -> None:
    none, some = joined([]), battle_marks(battles(3))
    for one, other in ((none, none), (none, some), (some, none)):
        found = find(one, other)
        assert found.kinds.tolist() == [Kind.NONE] * len(one)
        assert found.places.tolist() == [-1] * len(one)
        assert np.isnan(found.similarity).all()


def test_a_crowd_of_copies_stays_quick_and_right() -> None:
    """Thousands that agree in every key: all with all would be 25 million comparisons."""
    one = battle_marks(battles(1))
    sketches = np.repeat(one.sketches, 5000, axis=0)
    names = np.arange(5000, dtype=np.uint64)
    crowd = Marks(names, names, np.zeros(5000, np.int8), sketches)
    others = Marks(names + np.uint64(5000), names + np.uint64(5000), crowd.turned, sketches)
    found = find(others, crowd)
    assert set(found.kinds.tolist()) == {Kind.NEAR}
    assert set(found.similarity.tolist()) == {1.0}


def test_what_is_found_does_not_depend_on_who_else_is_asked_about() -> None:
    known = battles(60)
    asked = battle_marks(pd.concat([changed(known, 1, 2), battles(60)]))
    whole = find(asked, battle_marks(known))
    rows = np.arange(0, 120, 7)
    part = find(asked.take(rows), battle_marks(known))
    np.testing.assert_array_equal(part.kinds, whole.kinds[rows])
    np.testing.assert_array_equal(part.places, whole.places[rows])


# --- within one collection ------------------------------------------------------------------------


def crowd_of_kin() -> pd.DataFrame:
    """Battles, copies of them, swapped ones, near ones, others with their prompts; in any order."""
    known = battles(25)
    kin = [known, known[:6], swap(known[4:12]), changed(known, 1, 2), changed(swap(known), 0, 3)]
    other = battles(10)
    kin.append(other.assign(prompt=known["prompt"][:10]))
    table = pd.concat(kin, ignore_index=True)
    return table.iloc[RNG.permutation(len(table))]


def test_among_those_before_it_each_battle_finds_what_it_would_find_among_others() -> None:
    marks = battle_marks(crowd_of_kin())
    found = duplicates(marks)
    assert {Kind.NONE, Kind.PROMPT, Kind.NEAR, Kind.EXACT} == set(found.kinds.tolist())
    for place in range(len(marks)):
        alone = find(marks.take(np.array([place])), marks.take(np.arange(place)))
        assert found.kinds[place] == alone.kinds[0]
        assert found.places[place] == alone.places[0]
        np.testing.assert_equal(found.similarity[place], alone.similarity[0])


def test_where_kin_is_left_out_no_two_that_are_left_are_kin() -> None:
    marks = battle_marks(crowd_of_kin())
    found = duplicates(marks)
    assert (found.places < np.arange(len(marks))).all()
    left = marks.take(found.kinds < Kind.NEAR)
    assert 20 <= len(left) <= 70
    assert (duplicates(left).kinds < Kind.NEAR).all()


def test_without_kin_there_are_no_duplicates() -> None:
    for count in (0, 1, 200):
        found = duplicates(battle_marks(battles(count)))
        assert found.kinds.tolist() == [Kind.NONE] * count
        assert found.places.tolist() == [-1] * count
        assert np.isnan(found.similarity).all()


def test_one_battle_five_thousand_times_is_quick_and_there_once() -> None:
    one = battle_marks(battles(1))
    names = np.arange(5000, dtype=np.uint64)
    sketches = np.repeat(one.sketches, 5000, axis=0)
    copies = one.take(np.zeros(5000, dtype=np.int64))
    near = Marks(names, names, np.zeros(5000, np.int8), sketches)
    for crowd, kind in ((copies, Kind.EXACT), (near, Kind.NEAR)):
        found = duplicates(crowd)
        assert found.kinds.tolist() == [Kind.NONE] + [kind] * 4999
        assert found.places.tolist() == [-1] + [0] * 4999
        assert set(found.similarity[1:].tolist()) == {1.0}


def test_responses_that_are_alike_are_no_kin_of_themselves() -> None:
    known = battles(20)
    same = known.assign(response_b=known["response_a"])
    assert duplicates(battle_marks(same)).kinds.tolist() == [Kind.NONE] * 20
    twice = pd.concat([same, changed(same, 1, 0)])
    assert (duplicates(battle_marks(twice)).kinds[20:] == Kind.NEAR).mean() > 0.9
