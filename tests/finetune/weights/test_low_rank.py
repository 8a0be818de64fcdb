"""The mean of changes of weights."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.weights.low_rank import (
    Change,
    likeness,
    mean_of_changes,
    mean_of_factors,
    mean_of_tensors,
)


def change(seed: int, rank: int, scale: float = 2.0, out: int = 9, into: int = 7) -> Change:
    draw = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, into, generator=draw)
    return Change(a, torch.randn(out, rank, generator=draw), scale)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(0.1, 4.0)), min_size=1, max_size=4),
    st.integers(0, 10_000),
    st.integers(0, 12),
)
def test_the_mean_is_that_of_the_changes_written_out(
    parts: list[tuple[int, float]], seed: int, less: int
) -> None:
    changes = [change(seed + n, rank, scale) for n, (rank, scale) in enumerate(parts)]
    weights = [1 / len(parts)] * len(parts)
    wanted = torch.zeros(9, 7, dtype=torch.float64)
    for weight, one in zip(weights, changes, strict=True):
        wanted = wanted + weight * one.whole()
    full = sum(rank for rank, _ in parts)
    exact = mean_of_changes(changes, weights, full)
    assert torch.allclose(exact.change.whole(), wanted, atol=1e-5)
    assert exact.lost == 0.0
    assert exact.energy == pytest.approx(float(wanted.square().sum()), rel=1e-6)
    rank = max(1, full - less)
    some = mean_of_changes(changes, weights, rank)
    assert some.change.a.shape == (rank, 7)
    assert some.change.b.shape == (9, rank)
    # No matrix of this rank is nearer: what is missing are the smallest singular values.
    values = torch.linalg.svdvals(wanted)
    missing = float((some.change.whole() - wanted).square().sum())
    assert missing == pytest.approx(float(values[rank:].square().sum()), abs=1e-4)
    assert some.lost == pytest.approx(missing, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("rank", [3, 15])
def test_changes_that_are_alike_are_their_own_mean(count: int, rank: int) -> None:
    one = change(3, 3)
    made = mean_of_changes([one] * count, [1 / count] * count, rank)
    assert torch.allclose(made.change.whole(), one.whole(), atol=1e-6)
    assert made.lost == pytest.approx(0, abs=1e-9)
    if rank == 3:
        assert torch.equal(made.change.a, one.a)
        assert torch.equal(made.change.b, one.b)


def test_alike_changes_with_other_factors_are_the_same_change() -> None:
    """Through the decomposition and not by being recognised."""
    one = change(3, 3)
    other = Change(2 * one.a, one.b / 2, one.scale)
    made = mean_of_changes([one, other], [0.5, 0.5], 3)
    assert torch.allclose(made.change.whole(), one.whole(), atol=1e-6)
    assert made.lost < 1e-9


def test_the_mean_of_factors_is_not_the_mean_of_products() -> None:
    """Worked out by hand: [1 0] twice, b = 1 and then -1 with a turned round."""
    one = Change(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0]]), 1.0)
    two = Change(torch.tensor([[-1.0, 0.0]]), torch.tensor([[-1.0]]), 1.0)
    assert torch.equal(one.whole(), two.whole())
    factors = mean_of_factors([one, two], [0.5, 0.5])
    assert torch.equal(factors.whole(), torch.zeros(1, 2, dtype=torch.float64))
    deltas = mean_of_changes([one, two], [0.5, 0.5], 1).change
    assert torch.allclose(deltas.whole(), torch.tensor([[1.0, 0.0]], dtype=torch.float64))


def test_factors_are_averaged_one_by_one() -> None:
    one, two = change(1, 2), change(2, 2)
    made = mean_of_factors([one, two], [0.25, 0.75])
    assert torch.allclose(made.a, 0.25 * one.a + 0.75 * two.a)
    assert torch.allclose(made.b, 0.25 * one.b + 0.75 * two.b)


def test_numbers_stay_what_they_are() -> None:
    half = [torch.ones(3, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.bfloat16)]
    made = mean_of_tensors(half, [0.25, 0.75])
    assert made.dtype == torch.bfloat16
    assert made.tolist() == [0.25] * 3
    places = torch.arange(4)
    assert torch.equal(mean_of_tensors([places, places], [0.5, 0.5]), places)
    with pytest.raises(ValueError, match="whole numbers"):
        mean_of_tensors([places, places + 1], [0.5, 0.5])
    assert likeness([torch.ones(2)], [torch.ones(2)]) == pytest.approx(1)
    assert likeness([torch.ones(2)], [torch.zeros(2)]) == 0


def test_a_negative_scale_stays() -> None:
    parts = [change(1, 2, -1.5), change(2, 2, 0.5)]
    made = mean_of_changes(parts, [0.5, 0.5], 3)
    wanted = 0.5 * (parts[0].whole() + parts[1].whole())
    rest = float((made.change.whole() - wanted).square().sum())
    assert rest == pytest.approx(made.lost, abs=1e-5)
    assert made.change.scale == -1.5
