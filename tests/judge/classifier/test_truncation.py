"""Cutting ids by the policies: what is asked for to the token, A and B alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from judge.classifier.truncation import POLICIES, cut_to, load_planned, shortened
from judge.context.policies import POLICIES as ALL
from judge.context.shortening import ENDS, HEAD, TAIL

MARK = np.array([-1, -2], dtype=np.int32)
NO_MARK = MARK[:0]
LENGTH = st.one_of(st.integers(0, 12), st.integers(0, 400))
ROUNDS = st.lists(st.tuples(LENGTH, LENGTH, LENGTH), min_size=1, max_size=5)


def _texts(rounds: Any) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Ids that say where they stood: by side, round and place."""
    return [
        tuple(  # type: ignore[misc]
            np.arange(count, dtype=np.int32) + 1_000_000 * (side + 1) + 10_000 * number
            for side, count in enumerate(turn)
        )
        for number, turn in enumerate(rounds)
    ]


def _size(texts: Any) -> int:
    return sum(len(ids) for turn in texts for ids in turn)


@pytest.mark.parametrize("policy", POLICIES)
@given(ROUNDS, st.integers(8, 700), st.integers(0, 6))
@example([(3, 3, 3)], 8, 0)
@example([(0, 400, 400)], 9, 0)
@example([(300, 0, 0), (0, 300, 0), (0, 0, 300)], 101, 4)
def test_the_room_is_kept_and_used_and_a_and_b_fare_alike(
    policy: str, rounds: Any, room: int, overhead: int
) -> None:
    room += overhead * 5
    texts = _texts(rounds)
    if _size(texts) + overhead * len(texts) <= room:
        return
    chosen = load_planned(policy)
    kept, lost = cut_to(texts, chosen, room, overhead, NO_MARK)
    used = _size(kept) + overhead * len(kept)
    assert used <= room
    assert _size(kept) + lost == _size(texts)
    if len(rounds) == 1:
        assert used >= room - 1
        whole_prompt = len(kept[0][0]) == rounds[0][0]
        assert used == room or whole_prompt
    elif len(kept) == len(rounds):
        # All rounds are there, and what is not used is one that either response could have had.
        assert used >= room - 1

    swapped = [(prompt, b, a) for prompt, a, b in texts]
    again, also_lost = cut_to(swapped, chosen, room, overhead, NO_MARK)
    assert also_lost == lost
    for (prompt, a, b), (other, a_there, b_there) in zip(kept, again, strict=True):
        assert np.array_equal(prompt, other)
        assert np.array_equal(a, b_there)
        assert np.array_equal(b, a_there)


@pytest.mark.parametrize("policy", POLICIES)
@given(ROUNDS, st.integers(8, 500), st.integers(1, 60))
def test_the_more_room_the_more_is_kept(policy: str, rounds: Any, room: int, more: int) -> None:
    texts = _texts(rounds)
    if _size(texts) <= room + more:
        return
    chosen = load_planned(policy)
    narrow, wide = (
        _size(cut_to(texts, chosen, space, 0, NO_MARK)[0]) for space in (room, room + more)
    )
    assert wide >= narrow - 1


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([HEAD, TAIL, ENDS]))
def test_a_text_is_as_long_as_was_asked_for(count: int, tokens: int, keep: str) -> None:
    ids = np.arange(count, dtype=np.int32)
    shown, stayed = shortened(ids, tokens, keep, MARK)
    assert len(shown) == min(count, tokens)
    own = shown[shown >= 0]
    assert len(own) == stayed
    assert (np.diff(own) > 0).all()
    if tokens >= count:
        assert np.array_equal(shown, ids)
        return
    marked = tokens > 4 * len(MARK)
    assert (len(shown) - len(own) == len(MARK)) == marked
    if keep == HEAD:
        assert np.array_equal(own, ids[:stayed])
    elif keep == TAIL:
        assert np.array_equal(own, ids[count - stayed :])
    else:
        assert np.array_equal(
            own, np.concatenate([ids[: -(-stayed // 2)], ids[count - stayed // 2 :]])
        )
    if marked:
        at = {HEAD: stayed, TAIL: 0, ENDS: -(-stayed // 2)}[keep]
        assert np.array_equal(shown[at : at + len(MARK)], MARK)


def test_the_policies_are_those_of_prompted_judges() -> None:
    for name in POLICIES:
        assert load_planned(name) is ALL[name]


def test_one_token_that_either_response_could_have_is_given_to_neither() -> None:
    kept, _ = cut_to(_texts([(2, 50, 50)]), load_planned("longest-first"), 21, 0, NO_MARK)
    assert [len(ids) for ids in kept[0]] == [2, 9, 9]
    kept, _ = cut_to(_texts([(2, 50, 5)]), load_planned("longest-first"), 21, 0, NO_MARK)
    assert [len(ids) for ids in kept[0]] == [2, 14, 5]
    kept, _ = cut_to(_texts([(30, 50, 50)]), load_planned("proportional"), 24, 0, NO_MARK)
    assert sum(len(ids) for ids in kept[0]) == 24
