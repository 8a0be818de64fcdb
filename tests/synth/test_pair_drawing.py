"""Who meets whom, and where each stands."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.pair_drawing import Ints, draw_meetings


def draw(present: npt.NDArray[np.bool_], pairs: int | None = None, seed: int = 0) -> Ints:
    order = np.random.default_rng(seed).permutation(len(present)).tolist()
    return draw_meetings(present, order, pairs, np.random.default_rng(seed))


def met(drawn: Ints) -> Counter[tuple[int, ...]]:
    return Counter(tuple(sorted(row[1:])) for row in drawn.tolist())


def leaning(drawn: Ints, models: int) -> npt.NDArray[np.int64]:
    """How much oftener each model stands on side A than on B."""
    a, b = (np.bincount(drawn[:, side], minlength=models) for side in (1, 2))
    return np.asarray(a - b)


present_tables = st.integers(1, 40).flatmap(
    lambda prompts: st.integers(2, 7).flatmap(
        lambda models: st.lists(
            st.lists(st.booleans(), min_size=models, max_size=models),
            min_size=prompts,
            max_size=prompts,
        )
    )
)


@given(present_tables, st.one_of(st.none(), st.integers(1, 8)), st.integers(0, 99))
def test_sides_are_even_whatever_is_missing(
    rows: list[list[bool]], pairs: int | None, seed: int
) -> None:
    present = np.array(rows)
    drawn = draw(present, pairs, seed)
    assert np.abs(leaning(drawn, present.shape[1])).max() <= 1
    turned = Counter((a, b) for _, a, b in drawn.tolist())
    for low, high in combinations(range(present.shape[1]), 2):
        assert abs(turned[low, high] - turned[high, low]) <= 1
    # Nobody meets itself or answers what it has not answered, no pair meets twice on a prompt.
    assert (drawn[:, 1] != drawn[:, 2]).all()
    assert present[drawn[:, 0], drawn[:, 1]].all()
    assert present[drawn[:, 0], drawn[:, 2]].all()
    once = {(row[0], *sorted(row[1:])) for row in drawn.tolist()}
    assert len(once) == len(drawn)
    there = present.sum(axis=1)
    can = there * (there - 1) // 2
    wanted = can if pairs is None else np.minimum(can, pairs)
    assert np.bincount(drawn[:, 0], minlength=len(present)).tolist() == wanted.tolist()


@given(st.integers(1, 60), st.integers(2, 7), st.integers(1, 9), st.integers(0, 99))
def test_every_pair_meets_as_often_where_all_have_answered(
    prompts: int, models: int, pairs: int, seed: int
) -> None:
    found = met(draw(np.ones((prompts, models), dtype=np.bool_), pairs, seed))
    counts = [found[pair] for pair in combinations(range(models), 2)]
    assert max(counts) - min(counts) <= 1


@given(st.permutations(range(12)), st.integers(1, 3))
def test_rows_in_another_order_draw_the_same(rows: list[int], pairs: int) -> None:
    present = np.ones((12, 4), dtype=np.bool_)
    plain = draw_meetings(present, range(12), pairs, np.random.default_rng(5))
    # Prompt number n now stands in row rows.index(n), and draws when it did.
    order = [rows.index(prompt) for prompt in range(12)]
    moved = draw_meetings(present, order, pairs, np.random.default_rng(5))
    back = {(rows[row[0]], *row[1:]) for row in moved.tolist()}
    assert back == set(map(tuple, plain.tolist()))


def test_a_seed_draws_the_same_and_another_does_not() -> None:
    present = np.ones((50, 5), dtype=np.bool_)
    assert draw(present, 2, 1).tolist() == draw(present, 2, 1).tolist()
    assert draw(present, 2, 1).tolist() != draw(present, 2, 2).tolist()


def test_a_model_that_answers_little_meets_all_others_alike() -> None:
    present = np.ones((300, 4), dtype=np.bool_)
    present[60:, 3] = False
    found = met(draw(present, 1))
    rare = [found[pair] for pair in ((0, 3), (1, 3), (2, 3))]
    assert max(rare) - min(rare) <= 2
    assert sum(rare) > 40  # its pairs are behind, so they go first where it is there


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (4, 1)])
def test_too_little_to_draw_from(shape: tuple[int, int]) -> None:
    assert draw(np.ones(shape, dtype=np.bool_)).shape == (0, 3)
