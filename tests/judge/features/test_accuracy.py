"""What goes with wrong answers, in pairs of responses that it must tell apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

See = Callable[[str, str, str], dict[str, list[float]]]

FILLER = "Some words that stand before all else. " * 10


@pytest.mark.parametrize(
    "refusal",
    ["I cannot help with that.", "I'm unable to say.", "No puedo ayudarte.", "抱歉，不行。"],
)
def test_refusing_early_and_late(see: See, refusal: str) -> None:
    found = see("q", refusal, FILLER + refusal)
    assert found["accuracy.refusal"] == [1, 1]
    assert found["accuracy.early_refusal"] == [1, 0]
    early, late = found["accuracy.refusal_rate"]
    assert early > late > 0
    found = see("q", "Here is how.", "")
    assert found["accuracy.refusal"] == found["accuracy.early_refusal"] == [0, 0]
    assert found["accuracy.refusal_rate"] == [0, 0]


@pytest.mark.parametrize(
    ("name", "has", "hasnt"),
    [
        ("as_an_ai", "As an AI language model, I have no taste.", "As an airline, we fly."),
        ("apology", "I'm sorry to say so.", "I am glad to say so."),
        ("early_apology", "Unfortunately not.", FILLER + "Unfortunately not."),
        ("correction", "You are right, it is four.", "Right you are, it is four."),
        ("role_leak", "Four. ### Human: and five?", "Human rights: an introduction"),
        ("role_leak", "Four.</s>", "Four < five > six"),
        ("links", "See http://example.org", "and/or"),
    ],
)
def test_what_one_response_says_and_the_other_does_not(
    see: See, name: str, has: str, hasnt: str
) -> None:
    assert see("q", has, hasnt)[f"accuracy.{name}"] == [1, 0]
    assert see("q", hasnt, has)[f"accuracy.{name}"] == [0, 1]


def test_rates_are_by_the_hundred_words(see: See) -> None:
    found = see("q", "It might rain", "It will definitely rain and definitely snow")
    assert found["accuracy.hedge_rate"] == pytest.approx([np.log1p(100 / 23), 0])
    assert found["accuracy.certainty_rate"] == pytest.approx([0, np.log1p(200 / 27)])


def test_numbers(see: See) -> None:
    found = see("What is 12 + 30?", "12 + 30 = 42, so 42.", "42")
    assert found["accuracy.numbers"] == pytest.approx([np.log1p(3), np.log1p(1)])
    assert found["accuracy.numbers_of_prompt"] == [1, 0]
    assert found["accuracy.numbers_confirmed"] == pytest.approx([1 / 3, 1])
    found = see("What is twelve?", "A dozen", "")
    for name in ("numbers", "numbers_of_prompt", "numbers_confirmed"):
        assert found[f"accuracy.{name}"] == [0, 0]


def test_saying_one_thing_again_and_again(see: See) -> None:
    found = see("q", "no no no no no", "each word is another")
    assert found["accuracy.repetition"] == pytest.approx([0.75, 0])
    assert found["accuracy.loops"][0] > found["accuracy.loops"][1] == 0


@pytest.mark.parametrize("short", ["", "one", "42", "one two"])
def test_a_short_answer_does_not_repeat_itself(see: See, short: str) -> None:
    found = see("q", short, "")
    assert found["accuracy.repetition"] == found["accuracy.loops"] == [0, 0]


@pytest.mark.parametrize(
    ("text", "stop", "word"),
    [
        ("It is done.", 1, 0),
        ("It is done!  \n\n", 1, 0),
        ("できました。", 1, 0),
        ("and then the", 0, 1),
        ("and then the \n", 0, 1),
        ("できました", 0, 1),
        ("there are 42", 0, 0),
        ("as follows:", 0, 0),
        ("", 0, 0),
        ("\n\n", 0, 0),
    ],
)
def test_how_a_response_ends(see: See, text: str, stop: int, word: int) -> None:
    found = see("q", text, "And. more")
    assert found["accuracy.ends_with_stop"] == [stop, 0]
    assert found["accuracy.ends_in_word"] == [word, 1]
    found = see("q", "And. more", text)
    assert found["accuracy.ends_with_stop"] == [0, stop]
    assert found["accuracy.ends_in_word"] == [1, word]
