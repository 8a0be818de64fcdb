"""Whether one thing follows from another, in pairs of responses that it must tell apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

See = Callable[[str, str, str], dict[str, list[float]]]

FILLER = "Some words that stand before all else. " * 10


@pytest.mark.parametrize(
    ("name", "has", "hasnt"),
    [
        ("connective_rate", "It rains, therefore we stay", "It rains, we stay"),
        ("connective_rate", "For example, a cat", "An example is a cat"),
        ("contradiction_ratio", "It is cold, but not wet", "It is cold, and dry"),
        ("contradiction_ratio", "On the other hand, no", "The other hand has no ring"),
        ("negation_rate", "It isn't so", "It is so"),
        ("closing", "All in all. In conclusion, yes", "Yes"),
        ("opening", "Here are three ideas", "Three ideas are here"),
        ("opening", "Sure! A cat.", FILLER + "Sure! A cat."),
    ],
)
def test_what_one_response_says_and_the_other_does_not(
    see: See, name: str, has: str, hasnt: str
) -> None:
    a, b = see("q", has, hasnt)[f"logical_flow.{name}"]
    assert a > b == 0
    assert see("q", hasnt, has)[f"logical_flow.{name}"] == [b, a]


def test_rates_are_by_the_hundred_words(see: See) -> None:
    found = see("q", "Hot but dry", "But " + "dry " * 79)
    expected = np.log1p([100 / 23, 100 / 100])
    assert found["logical_flow.contradiction_ratio"] == pytest.approx(expected)


def test_colons(see: See) -> None:
    found = see("q", "Three things: a, b: c", "std::vector")
    assert found["logical_flow.colons"] == pytest.approx([np.log1p(200 / 25), 0])


def test_words_in_a_paragraph(see: See) -> None:
    found = see("q", "one two\n\nthree four five six", "one two three four five six")
    assert found["logical_flow.words_per_paragraph"] == pytest.approx(np.log1p([3, 6]))
    assert found["logical_flow.paragraphs"] == pytest.approx(np.log1p([2, 1]))


def test_a_list_and_the_same_words_in_a_row(see: See) -> None:
    found = see("q", "- one\n- two\n- three", "one, two, three")
    assert found["logical_flow.bullets"] == pytest.approx([np.log1p(3), 0])
    assert found["logical_flow.lines"] == pytest.approx(np.log1p([3, 1]))
