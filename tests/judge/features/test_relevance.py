"""What speaks of the question, in pairs of responses that it must tell apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

See = Callable[[str, str, str], dict[str, list[float]]]

OVERLAP = ("keyword_recall", "keyword_density", "semantic_consistency", "keyword_jaccard")


def test_a_known_battle(see: See) -> None:
    found = see("Explain the water cycle", "The water cycle moves water.", "Bananas are yellow.")
    # explain, water, cycle are asked for; the response has water, cycle, moves.
    values = {name: found[f"relevance.{name}"] for name in OVERLAP}
    assert values["keyword_recall"] == pytest.approx([2 / 3, 0])
    assert values["keyword_density"] == pytest.approx([2 / 3, 0])
    assert values["semantic_consistency"] == pytest.approx([2 / np.sqrt(3 * 3), 0])
    assert values["keyword_jaccard"] == pytest.approx([2 / 4, 0])
    # Of the pairs "explain the", "the water", "water cycle", two are taken up.
    assert found["relevance.copied_share"] == pytest.approx([2 / 3, 0])
    assert found["relevance.copied_pairs"] == pytest.approx([np.log1p(2), 0])


def test_words_that_say_nothing_are_no_keywords(see: See) -> None:
    found = see("What is the way to do it?", "Is it the way to do it?", "Follow what it says")
    assert found["relevance.keyword_recall"] == [0, 1]


def test_repeating_a_keyword_adds_nothing(see: See) -> None:
    found = see("Describe volcanoes", "Volcanoes volcanoes volcanoes", "volcanoes")
    for name in OVERLAP:
        a, b = found[f"relevance.{name}"]
        assert a == b > 0


@pytest.mark.parametrize(("a", "b"), [("", ""), ("", "word"), ("...", "42")])
@pytest.mark.parametrize("prompt", ["", "?!", "Explain the water cycle"])
def test_nothing_in_common(see: See, prompt: str, a: str, b: str) -> None:
    found = see(prompt, a, b)
    for name in (*OVERLAP, "copied_share", "copied_pairs"):
        assert found[f"relevance.{name}"] == [0, 0]


@pytest.mark.parametrize(
    ("prompt", "response", "match"),
    [
        ("如何学习编程？", "You should learn Python first.", 0.0),
        ("How do I learn to program?", "先学习编程语言。", 0.0),
        ("如何学习编程？", "先学习编程语言。", 1.0),
        ("Wie lerne ich das?", "Read a book.", 1.0),
        ("как дела", "very well", 0.5),
        ("как дела", "очень хорошо", 1.0),
        ("ab文字", "ab", 0.5),
        ("12 + 30 = ?", "zweiundvierzig", 1.0),
        ("How many?", "42", 1.0),
        ("How many?", "", 1.0),
        ("", "Hello", 1.0),
    ],
)
def test_the_answer_is_in_the_script_of_the_question(
    see: See, prompt: str, response: str, match: float
) -> None:
    found = see(prompt, response, "文字 ab")
    assert found["relevance.script_match"][0] == pytest.approx(match)


def test_ideographs_are_keywords(see: See) -> None:
    found = see("介绍北京", "北京是首都", "上海很大")
    assert found["relevance.keyword_recall"] == pytest.approx([2 / 4, 0])
