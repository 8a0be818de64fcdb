"""Attention by plain products: the values and gradients of PyTorch's own attention, piece by
piece."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from judge.classifier import products  # noqa: E402

SCALE = 0.4


def _rows(seed: int, lengths: list[int], dtype: Any, heads: int = 3, wide: int = 8) -> list[Any]:
    made = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    rows = [torch.randn(1, count, heads * wide, generator=made) for _ in range(4)]
    return [row.to(dtype).view(1, count, heads, wide).transpose(1, 2) for row in rows]


def _theirs(q: Any, k: Any, v: Any, lengths: list[int]) -> Any:
    pieces = zip(*(one.split(lengths, dim=2) for one in (q, k, v)), strict=True)
    seen = [scaled_dot_product_attention(*piece, scale=SCALE) for piece in pieces]
    return torch.cat(seen, dim=2).transpose(1, 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(1, 40), min_size=1, max_size=5), st.booleans())
def test_values_and_gradients_are_those_of_pytorch(
    seed: int, lengths: list[int], half: bool
) -> None:
    dtype, near = (torch.bfloat16, 0.05) if half else (torch.float32, 2e-5)
    *given_, slope = _rows(seed, lengths, dtype)
    found = []
    for function in (
        lambda q, k, v: products.attended(q, k, v, lengths, SCALE, 0.0),
        lambda q, k, v: _theirs(q, k, v, lengths),
    ):
        leaves = [one.detach().clone().requires_grad_() for one in given_]
        seen = function(*leaves)
        seen.backward(slope.transpose(1, 2))
        found.append([seen.detach(), *(one.grad for one in leaves)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine.float(), theirs.float(), atol=near, rtol=near)


def test_long_pieces_in_full_precision_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(products._MOST, torch.float32, 16)
    test_values_and_gradients_are_those_of_pytorch.hypothesis.inner_test(7, [3, 33, 17, 16], False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_leaves_the_mean_and_is_the_same_in_both_directions(dtype: Any) -> None:
    lengths = [12, 5]
    q, k, v, slope = _rows(3, lengths, dtype)
    wanted = products.attended(q, k, v, lengths, SCALE, 0.0).float()
    torch.manual_seed(0)
    drawn = [products.attended(q, k, v, lengths, SCALE, 0.3).float() for _ in range(2000)]
    assert not torch.equal(drawn[0], drawn[1])
    mean = torch.stack(drawn).mean(0)
    assert float((mean - wanted).abs().mean()) < 0.02
    # Linear in the values, so the values times their gradient are the outputs times theirs.
    values = v.detach().clone().requires_grad_()
    torch.manual_seed(5)
    seen = products.attended(q, k, values, lengths, SCALE, 0.3)
    seen.backward(slope.transpose(1, 2))
    there = float((values.grad.double() * v.double()).sum())
    back = float((seen.detach().double() * slope.transpose(1, 2).double()).sum())
    assert there == pytest.approx(back, abs=1e-3 if dtype == torch.float32 else 0.5)


def test_dropout_is_that_of_the_seed() -> None:
    q, k, v, _ = _rows(4, [9], torch.float32)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(products.attended(q, k, v, [9], SCALE, 0.5))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_slopes_under_dropout_are_true() -> None:
    q, k, v, _ = (one.double() for one in _rows(6, [4, 3], torch.float32))

    def seen(*given_: Any) -> Any:
        torch.manual_seed(11)
        return products.attended(*given_, [4, 3], SCALE, 0.4)

    leaves = [one.detach().clone().requires_grad_() for one in (q, k, v)]
    assert torch.autograd.gradcheck(seen, leaves)


def test_who_is_taken() -> None:
    q, k, _, _ = _rows(1, [5], torch.float32)
    assert products.takes(q, k, dropout=0.0, lengths=[5, 5000])
    assert not products.takes(q, k, dropout=0.1, lengths=[5, 5000])
    assert not products.takes(q, k[:, :1], dropout=0.0, lengths=[5])
    assert not products.takes(q.double(), k.double(), dropout=0.0, lengths=[5])
    half = q.bfloat16()
    assert products.takes(half, half, dropout=0.0, lengths=[1024])
    assert not products.takes(half, half, dropout=0.0, lengths=[1025])
    assert np.isfinite(products._made_up(0.999))
