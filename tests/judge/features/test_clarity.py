"""How easily a response is read: formulas on sentences that can be counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

See = Callable[[str, str, str], dict[str, list[float]]]


def test_readability_of_known_sentences(see: See) -> None:
    found = see("q", "The cat sat on the mat.", "The cat sat. The dog ran.")
    # Six words of one syllable, in one sentence and in two.
    ease = [206.835 - 1.015 * 6 - 84.6, 206.835 - 1.015 * 3 - 84.6]
    assert found["clarity.readability"] == pytest.approx(np.array(ease) / 10)
    assert found["clarity.words_per_sentence"] == pytest.approx(np.log1p([6, 3]))
    assert found["clarity.characters_per_word"] == pytest.approx([17 / 6, 18 / 6])
    assert found["clarity.fog"] == pytest.approx(np.log1p([0.4 * 6, 0.4 * 3]))
    assert found["clarity.variety"] == pytest.approx([5 / 6, 5 / 6])
    assert found["clarity.root_variety"] == pytest.approx([5 / np.sqrt(6)] * 2)
    assert found["clarity.capitals"] == pytest.approx([1 / 17, 2 / 18])


def test_long_words_read_harder(see: See) -> None:
    found = see("q", "We use big words now.", "Utilising terminology necessitates concentration.")
    assert found["clarity.readability"][0] > found["clarity.readability"][1]
    assert found["clarity.fog"][0] < found["clarity.fog"][1]
    assert found["clarity.fog"][1] == pytest.approx(np.log1p(0.4 * (4 + 100)))


@pytest.mark.parametrize("text", ["aeiou" * 40_000, "word " * 40_000, "uo " * 20_000 + "."])
def test_one_endless_line_is_bounded(see: See, text: str) -> None:
    found = see("q", text, "")
    assert -5 <= found["clarity.readability"][0] <= 12
    assert found["clarity.characters_per_word"][0] <= 20
    assert found["clarity.words_per_sentence"][0] < 12


@pytest.mark.parametrize(
    ("name", "text", "share"),
    [
        ("punctuation", "a, b", 1 / 4),
        ("punctuation", "(a)", 2 / 3),
        ("symbols", "a+b=c", 2 / 5),
        ("symbols", "😀a", 1 / 2),
        ("digits", "12ab", 1 / 2),
        ("digits", "٣٤", 1),
        ("other_scripts", "абв", 1),
        ("other_scripts", "漢字ab", 1 / 2),
        ("other_scripts", "naïve", 0),
        ("capitals", "ABcd", 1 / 2),
    ],
)
def test_shares_of_characters(see: See, name: str, text: str, share: float) -> None:
    assert see("q", text, "")[f"clarity.{name}"] == pytest.approx([share, 0])


def test_emphasis(see: See) -> None:
    found = see("q", "**one** and **two**", "*one* ***two*** 2 ** 3")
    assert found["clarity.emphasis"] == pytest.approx([np.log1p(2), np.log1p(0.5)])


def test_the_sweet_spot_of_conciseness_is_at_150_words(see: See) -> None:
    def spot(words: int) -> float:
        return see("q", "word " * words, "")["clarity.conciseness_sweet_spot"][0]

    assert spot(150) == pytest.approx(1)
    values = [spot(words) for words in (0, 5, 40, 120, 150)]
    assert values == sorted(values)
    values = [spot(words) for words in (150, 200, 600, 3000)]
    assert values == sorted(values, reverse=True)
    assert spot(0) == pytest.approx(np.exp(-0.5 * np.log(151) ** 2))


def test_an_empty_response_has_no_style(see: See) -> None:
    found = see("q", "", "")
    for name in ("variety", "capitals", "punctuation", "symbols", "digits", "other_scripts"):
        assert found[f"clarity.{name}"] == [0, 0]
