"""Prices are found, can be edited, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from judge.engines.base import Message, Parameters, Request, Usage
from judge.engines.pricing import Price, load_prices, prompt_tokens
from judge.errors import InputError


@pytest.mark.parametrize(
    "name", ["gpt-4o-mini", "GPT-4o-mini", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini"]
)
def test_a_model_is_found_under_its_names(name: str) -> None:
    assert load_prices().find(name) == Price(0.15, 0.075, 0.60, 0.5)


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-405B-Instruct",
        "meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo",
        "llama-3.1-405b-instruct",
        "accounts/fireworks/models/llama-v3p1-405b-instruct",
    ],
)
def test_the_largest_llama_has_a_price_under_its_hosts_names(name: str) -> None:
    price = load_prices().find(name)
    assert price is not None
    assert 1 <= price.prompt <= price.completion <= 16
    assert price.batched == price


@pytest.mark.parametrize("name", ["", "my-model", "gpt-4o-mini-tuned", "gpt"])
def test_an_unknown_model_has_no_price(name: str) -> None:
    assert load_prices().find(name) is None


def test_a_user_s_file_goes_before_ours_and_adds_to_it(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(
        "models:\n  gpt-4o: {prompt: 1, completion: 2}\n  mine: {prompt: 0, completion: 0}"
    )
    prices = load_prices(file)
    assert prices.find("gpt-4o") == Price(1, 1, 2)
    assert prices.find("mine") == Price(0, 0, 0)
    assert prices.find("gpt-4o-mini") == load_prices().find("gpt-4o-mini")


def test_cached_tokens_have_a_price_of_their_own() -> None:
    usage = Usage(prompt=1_000_000, cached=400_000, completion=500_000)
    assert Price(10, 1, 20).cost(usage) == pytest.approx(6 + 0.4 + 10)


def test_a_batch_costs_its_share() -> None:
    usage = Usage(prompt=1_000_000, cached=400_000, completion=500_000)
    assert Price(10, 1, 20, 0.5).batched.cost(usage) == pytest.approx((6 + 0.4 + 10) / 2)
    assert Price(10, 1, 20, 0.5).batched.batched.cost(usage) == pytest.approx((6 + 0.4 + 10) / 2)
    assert Price(10, 1, 20, 0.5).cost(usage) == pytest.approx(6 + 0.4 + 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: [", "is not YAML"),
        ("- 1", "has no prices"),
        ("models: 3", "has no prices"),
        ("models: {m: 3}", "the price of m cannot be read"),
        ("models: {m: {prompt: 1}}", "the price of m cannot be read"),
        ("models: {m: {prompt: -1, completion: 1}}", "the price of m cannot be read"),
        ("models: {m: {prompt: .nan, completion: 1}}", "the price of m cannot be read"),
        ("models: {m: {prompt: true, completion: 1}}", "the price of m cannot be read"),
        ("models: {m: {prompt: 1, completion: 1, batch: 2}}", "the price of m cannot be read"),
        ("models: {m: {prompt: 1, completion: 1, batch: -1}}", "the price of m cannot be read"),
        ("models: {m: {prompt: 1, completion: 1, batch: half}}", "the price of m cannot be read"),
        ("models: {m: {prompt: 1, completion: 1, reply: 1}}", "the price of m cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_prices(file)
    assert str(file) in str(caught.value)
    assert "my-model" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_prices(tmp_path / "none.yaml")


def test_tokens_are_counted_by_whoever_can() -> None:
    request = Request((Message("system", "ab" * 8), Message("user", "日本")), Parameters("m"))
    assert prompt_tokens(request) == 4 + 4 + 4 + 2
    assert prompt_tokens(request, len) == 4 + 16 + 4 + 2
