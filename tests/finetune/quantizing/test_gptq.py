"""Weights to whole numbers: what is lost, and what is not."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from finetune.quantizing.gptq import Moments, quantized
from judge.classifier.quantized import (
    ByteLinear,
    Codes,
    PackedLinear,
    packed,
    unpacked,
)
from judge.errors import ArenaJudgeError


def rows_of(count: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Rows whose columns have much to do with each other, as in a real network."""
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(columns, columns, generator=draw) * torch.logspace(0, -2, columns)
    return torch.randn(count, columns, generator=draw) @ mixed + 0.3


def lost(rows: torch.Tensor, weight: torch.Tensor, codes: Codes) -> float:
    """The mean square error of what the layer says."""
    return float((rows @ (weight - codes.dense(torch.float32)).T).square().mean())


def moments_of(rows: torch.Tensor) -> torch.Tensor:
    found = Moments(rows.shape[1])
    for part in torch.chunk(rows, 4):
        found.add(part[None])
    return found.mean()


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([4, 8]),
    rows=st.integers(1, 5),
    columns=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_packed_numbers_come_back(bits: int, rows: int, columns: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    half = 2 ** (bits - 1)
    values = torch.randint(-half, half, (rows, columns), generator=draw).to(torch.int8)
    words = packed(values, bits)
    assert words.shape == (rows, -(-columns * bits // 32))
    assert torch.equal(unpacked(words, bits, columns), values)


@pytest.mark.parametrize("bits", [8, 4])
def test_errors_are_made_good(bits: int) -> None:
    weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(1))
    rows = rows_of(1000, 64)
    nearest = quantized(weight, None, bits=bits, group=32)
    made_good = quantized(weight, moments_of(rows), bits=bits, group=32)
    assert nearest.scales.shape == made_good.scales.shape == (48, 2)
    # And on rows that nothing was calibrated by.
    for seen in (rows, rows_of(1000, 64)[500:]):
        assert lost(seen, weight, made_good) < 0.7 * lost(seen, weight, nearest)
    assert int(made_good.values.abs().max()) <= 2 ** (bits - 1)


def test_numbers_that_are_whole_already_stay() -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.randint(-7, 8, (6, 32), generator=draw)
    values[:, ::16] = 7  # each scale's largest
    weight = values * 0.25
    for moments in (None, moments_of(rows_of(400, 32))):
        codes = quantized(weight, moments, bits=4, group=16)
        assert torch.equal(codes.dense(torch.float32), weight)


def test_scales_are_what_is_kept_of_them() -> None:
    codes = quantized(torch.randn(8, 32), moments_of(rows_of(300, 32)), bits=8, group=16)
    assert torch.equal(codes.scales, codes.scales.to(torch.bfloat16).float())


def test_columns_that_no_group_divides_share_a_scale() -> None:
    assert quantized(torch.randn(4, 30), None, bits=8, group=16).scales.shape == (4, 1)


def test_unused_columns_and_empty_rows() -> None:
    rows = rows_of(300, 32)
    rows[:, 5] = 0
    weight = torch.randn(8, 32)
    weight[3] = 0
    codes = quantized(weight, moments_of(rows), bits=8, group=16)
    assert torch.equal(codes.dense(torch.float32)[3], weight[3])
    assert torch.allclose(codes.dense(torch.float32), weight, atol=0.1)


def test_fewer_rows_than_columns() -> None:
    weight = torch.randn(8, 64)
    codes = quantized(weight, moments_of(rows_of(3, 64)), bits=8, group=64)
    assert torch.allclose(codes.dense(torch.float32), weight, atol=0.2)


def test_no_rows_and_rows_that_are_no_numbers() -> None:
    with pytest.raises(ArenaJudgeError, match="nothing to calibrate"):
        Moments(4).mean()
    bad = Moments(4)
    bad.add(torch.full((2, 4), float("nan")))
    with pytest.raises(ArenaJudgeError, match="not finite"):
        bad.mean()


@pytest.mark.parametrize("bits", [8, 4])
def test_a_packed_layer_says_what_its_dense_weight_says(bits: int) -> None:
    codes = quantized(torch.randn(12, 32), None, bits=bits, group=16)
    bias = torch.nn.Parameter(torch.randn(12))
    rows = torch.randn(2, 5, 32)
    layer = PackedLinear(codes, bias)
    assert torch.equal(layer(rows), linear(rows, codes.dense(torch.float32), bias))
    half = layer.to(torch.bfloat16)(rows.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16


def test_a_layer_of_bytes_is_near_and_looks_at_no_neighbours() -> None:
    codes = quantized(torch.randn(16, 32), None, bits=8)
    layer = ByteLinear(codes, torch.nn.Parameter(torch.randn(16)))
    rows = torch.randn(3, 7, 32) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    said = layer(rows)
    wanted = linear(rows, codes.dense(torch.float32), layer.bias)
    assert torch.allclose(said, wanted, rtol=0.02, atol=float(wanted.abs().max()) * 0.02)
    assert torch.equal(layer(rows[1:2]), said[1:2])
    zero = layer(torch.zeros(1, 1, 32))
    assert layer.bias is not None
    assert torch.equal(zero[0, 0], layer.bias)
