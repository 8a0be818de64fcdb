"""What both responses and the prompt share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Text = str | tuple[str, ...]
See = Callable[[Text, Text, Text], dict[str, list[float]]]


@pytest.mark.parametrize("text", ["The Nile is long.", "漢字", "```x```", "😀", "42"])
def test_identical_responses(see: See, text: str) -> None:
    found = see("q", text, text)
    assert found["context.identical"] == [1]
    assert found["context.both_empty"] == [0]
    assert found["context.length_gap"] == [0]


@pytest.mark.parametrize(("a", "b", "one", "both"), [("", "42", 1, 0), (" \n", "", 0, 1)])
def test_empty_responses(see: See, a: str, b: str, one: int, both: int) -> None:
    found = see("q", a, b)
    assert found["context.one_empty"] == [one]
    assert found["context.both_empty"] == [both]


@pytest.mark.parametrize("kind", ["word", "content", "pair"])
def test_cosines(see: See, kind: str) -> None:
    def cosine(a: str, b: str) -> float:
        return see("q", a, b)[f"context.{kind}_cosine"][0]

    assert cosine("rivers flow slowly", "rivers flow slowly") == pytest.approx(1)
    assert cosine("rivers flow slowly", "cats sleep") == 0
    half = cosine("rivers flow slowly there", "rivers flow quickly")
    assert 0 < half < 1
    shared, a, b = (1, 3, 2) if kind == "pair" else (2, 4, 3)
    assert half == pytest.approx(shared / np.sqrt(a * b))
    assert cosine("", "") == cosine("", "rivers flow") == 0


def test_different_responses_are_not_identical(see: See) -> None:
    for a, b in [("yes", "no"), ("yes", "yes."), ("", "yes"), ("a b", "b a")]:
        assert see("yes no a b", a, b)["context.identical"] == [0]
    assert see("q", "Yes", "yes")["context.identical"] == [1]


def test_nothing_against_nothing(see: See) -> None:
    found = see("q", "", " \n")
    assert found["context.both_empty"] == [1]
    assert found["context.mean_length"] == pytest.approx([np.log1p(2) / 2])
    assert see("q", "", "word")["context.both_empty"] == [0]


def test_numbers_agreed(see: See) -> None:
    assert see("q", "12 and 13", "12 or 14")["context.numbers_agreed"] == pytest.approx([1 / 3])
    assert see("q", "none", "none")["context.numbers_agreed"] == [0]
    assert see("12 13", "x", "y")["context.prompt_numbers"] == pytest.approx([2 / 3])
    assert see("1 2 3 4 5", "x", "y")["context.prompt_numbers"] == [1]


def test_what_both_take_up_of_the_prompt(see: See) -> None:
    found = see("Explain the water cycle", "water cycle", "water pipes")
    assert found["context.prompt_covered"] == pytest.approx([1 / 3])


def test_lengths(see: See) -> None:
    found = see("four", "x" * 9, "x" * 99)
    assert found["context.mean_length"] == pytest.approx([np.log(np.sqrt(10 * 100))])
    assert found["context.shorter_length"] == pytest.approx([np.log(10)])
    assert found["context.length_gap"] == pytest.approx([np.log(10)])
    assert found["context.prompt_length"] == pytest.approx([np.log(5)])


def test_refusals(see: See) -> None:
    for a, b, one, both in [
        ("I cannot", "Here", 1, 0),
        ("I cannot", "I can't", 1, 1),
        ("Yes", "No", 0, 0),
    ]:
        found = see("q", a, b)
        assert (found["context.one_refuses"], found["context.both_refuse"]) == ([one], [both])


def test_turns(see: See) -> None:
    assert see("q", "a", "b")["context.turns"] == [0]
    three = ("x", "y", "z")
    assert see(three, three, three)["context.turns"] == pytest.approx([np.log(3)])


@pytest.mark.parametrize(("prompt", "share"), [("abc", 0), ("абв", 1), ("ab漢字", 0.5), ("?", 0)])
def test_the_scripts_of_the_prompt(see: See, prompt: str, share: float) -> None:
    assert see(prompt, "abc", "漢字")["context.prompt_other_scripts"] == pytest.approx([share])


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        ("code_word", "Fix this SQL"),
        ("list_word", "Top 10 of them"),
        ("creative_word", "A limerick"),
        ("brief_word", "tl;dr"),
        ("long_word", "Go in depth"),
        ("reasoning_word", "How many?"),
        ("question_word", "Whose, and when"),
        ("sensitive_word", "An illegal thing"),
        ("greeting", "你好"),
    ],
)
def test_kinds_of_prompts(see: See, kind: str, prompt: str) -> None:
    assert see(prompt, "a", "b")[f"context.prompt_{kind}"] == [1]
    assert see("Whom he met there", prompt, prompt)[f"context.prompt_{kind}"] == [0]
