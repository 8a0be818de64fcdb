"""Whether a response does what was asked, in pairs of responses that it must tell apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from judge.features.extraction import extract

Text = str | tuple[str, ...]
See = Callable[[Text, Text, Text], dict[str, list[float]]]

CODE = "```python\nprint(1)\n```"
LIST = "- one\n- two\n3. three"


def test_length(see: See) -> None:
    found = see("q", "four words are here", "")
    assert found["responsiveness.length"] == pytest.approx([np.log1p(19), 0])
    assert found["responsiveness.log_words"] == pytest.approx([np.log1p(4), 0])
    assert found["responsiveness.root_words"] == pytest.approx([2, 0])
    assert found["responsiveness.empty"] == [0, 1]
    assert found["responsiveness.tiny"] == [1, 1]
    assert see("q", "a b c d e f g h", "...")["responsiveness.tiny"] == [0, 1]
    assert see("q", " \n", "...")["responsiveness.empty"] == [1, 0]
    assert see("q", "42", "😀")["responsiveness.empty"] == [0, 0]


def test_penalties_outside_the_usual_length(see: See) -> None:
    found = see("q", "x" * 5001, "x" * 1000)
    assert found["responsiveness.verbosity_penalty"] == pytest.approx([np.log(5002 / 2500), 0])
    found = see("q", "x" * 99, "x" * 1000)
    assert found["responsiveness.brevity_penalty"] == pytest.approx([np.log(300 / 100), 0])


def test_the_last_turn(see: See) -> None:
    found = see(("q", "r"), ("a long first answer", "four"), ("four", ""))
    assert found["responsiveness.last_length"] == pytest.approx([np.log1p(4), 0])
    assert found["responsiveness.length_by_turns"] == found["responsiveness.length"]
    assert see("q", "four", "x")["responsiveness.length_by_turns"] == [0, 0]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("Describe it in 50 words.", 50),
        ("Describe it in 50 Words", 50),
        ("50 words, please", 50),
        ("In one word? No: in 1 word", 1),
        ("Use 20 words, at most 50 words", 50),
        ("Describe it in words", 0),
        ("Describe it in fifty words", 0),
        ("50 cats, words", 0),
        ("99999999999999999999 words", 0),
        ("50", 0),
        ("words 50", 0),
        ("", 0),
    ],
)
def test_a_limit_of_words(see: See, prompt: str, wanted: int) -> None:
    found = see(prompt, "w " * 100, "w " * 10)
    excess = np.log1p([100, 10]) - np.log1p(wanted) if wanted else np.zeros(2)
    assert found["responsiveness.limit_exceeded"] == pytest.approx(np.maximum(excess, 0))
    assert found["responsiveness.limit_not_reached"] == pytest.approx(np.maximum(-excess, 0))


def test_a_limit_does_not_run_into_the_next_text() -> None:
    prompts = [("Give me 50",), ("words of wisdom",), ("Say 50",)]
    found = extract(prompts, [("words",)] * 3, [("a b c",)] * 3)
    names = found.names["responsiveness"]
    for name in ("limit_exceeded", "limit_not_reached"):
        assert not found.responses["responsiveness"][..., names.index(name)].any()


@pytest.mark.parametrize(
    ("asked", "unasked", "form", "name"),
    [
        ("Write a Python function", "Tell me of pythons", CODE, "code"),
        ("List three ideas", "Who was it", LIST, "list"),
    ],
)
def test_the_form_that_was_asked_for(
    see: See, asked: str, unasked: str, form: str, name: str
) -> None:
    prose = "It is what it is."
    found = see(asked, form, prose)
    assert found[f"responsiveness.{name}_when_asked"] == [1, 0]
    assert found[f"responsiveness.{name}_unasked"] == [0, 0]
    found = see(unasked.replace("pythons", "snakes"), form, prose)
    assert found[f"responsiveness.{name}_when_asked"] == [0, 0]
    assert found[f"responsiveness.{name}_unasked"] == [1, 0]


def test_refusing_where_the_question_is_sensitive(see: See) -> None:
    name = "responsiveness.refusal_when_sensitive"
    assert see("How do I build a bomb?", "I cannot say", "Take some")[name] == [1, 0]
    assert see("How do I build a boat?", "I cannot say", "Take some")[name] == [0, 0]


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        ("brief", "Answer briefly: who?"),
        ("long", "A detailed answer"),
        ("creative", "A poem"),
        ("reasoning", "Solve this riddle"),
        ("code", "A regex"),
        ("greeting", "hello"),
    ],
)
def test_length_by_what_is_asked(see: See, kind: str, prompt: str) -> None:
    found = see(prompt, "some words", "more words than those")
    assert found[f"responsiveness.length_when_{kind}"] == found["responsiveness.length"]
    found = see("Whom did he meet there", "some words", "more words than those")
    assert found[f"responsiveness.length_when_{kind}"] == [0, 0]


@pytest.mark.parametrize(
    ("name", "has", "hasnt"),
    [
        ("follow_up", "Let me know!", "He let me go"),
        ("asks_back", "Which one?", "Which one? That one"),
        ("asks_back", "哪一个？\n", "这一个。"),
        ("questions", "Why? How?", "So."),
        ("mediator_quality", "Consider both sides", "Take one side"),
        ("empathy", "I understand, thank you", "One understands"),
        ("first_person", "my view", "a view"),
        ("second_person", "your view", "a view"),
    ],
)
def test_tone(see: See, name: str, has: str, hasnt: str) -> None:
    a, b = see("q", has, hasnt)[f"responsiveness.{name}"]
    assert a > b == 0
    assert see("q", hasnt, has)[f"responsiveness.{name}"] == [b, a]


def test_an_empty_response_asks_nothing_back(see: See) -> None:
    assert see("Why?", "", "Why?")["responsiveness.asks_back"] == [0, 1]
    assert see("Why?", "Why?", "")["responsiveness.asks_back"] == [1, 0]
