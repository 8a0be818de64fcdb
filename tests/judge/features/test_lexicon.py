"""Phrases are found where a search through the tokens finds them, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.features.lexicon import PHRASES, count_phrases, find_phrases
from judge.features.text import TextBatch, read_batch

Spell = Callable[[TextBatch], list[list[str]]]

GROUPS = list(PHRASES)
ALL = sorted({phrase for phrases in PHRASES.values() for phrase in phrases})
WORDS = sorted({word for phrase in ALL for word in phrase.split()})
TEXT = st.lists(
    st.sampled_from(ALL) | st.sampled_from(WORDS) | st.sampled_from(["cat", "\n", ",", "猫"]),
    max_size=15,
).map(" ".join)


def _read(prompt: str, response_a: str = "", response_b: str = "") -> TextBatch:
    return read_batch([(prompt,)], [(response_a,)], [(response_b,)])


def _groups(text: str) -> set[str]:
    return {GROUPS[group] for group in find_phrases(_read(text))[1].tolist()}


@pytest.fixture(scope="module")
def phrase_tokens(spell: Spell) -> dict[str, list[str]]:
    return {phrase: spell(_read(phrase))[0] for phrase in ALL}


@settings(deadline=None, max_examples=100)
@given(TEXT, TEXT, TEXT)
def test_phrases_are_found_where_they_stand(
    spell: Spell, phrase_tokens: dict[str, list[str]], prompt: str, a: str, b: str
) -> None:
    batch = _read(prompt, a, b)
    expected, first = [], 0
    for document in spell(batch):
        for place in range(len(document)):
            expected += [
                (first + place, group)
                for group, phrases in enumerate(PHRASES.values())
                for phrase in phrases
                if document[place:][: len(phrase_tokens[phrase])] == phrase_tokens[phrase]
            ]
        first += len(document)
    tokens, groups = find_phrases(batch)
    assert sorted(zip(tokens.tolist(), groups.tolist(), strict=True)) == sorted(expected)
    counts = count_phrases(batch, tokens, groups)
    assert list(counts) == GROUPS
    documents = np.repeat(np.arange(3), [len(document) for document in spell(batch)])
    for place, group in enumerate(GROUPS):
        within = [documents[token] for token, found in expected if found == place]
        assert counts[group].tolist() == np.bincount(within, minlength=3).tolist()


@pytest.mark.parametrize("group", GROUPS)
def test_every_phrase_of_a_group_is_found(group: str) -> None:
    missed = [phrase for phrase in PHRASES[group] if group not in _groups(phrase)]
    assert missed == []
    assert [p for p in PHRASES[group] if group not in _groups(f"Well, {p.upper()}!")] == []


@pytest.mark.parametrize("group", GROUPS)
def test_no_phrase_is_counted_twice_in_its_group(
    phrase_tokens: dict[str, list[str]], group: str
) -> None:
    tokens = [tuple(phrase_tokens[phrase]) for phrase in PHRASES[group]]
    assert len(set(tokens)) == len(tokens)


def test_a_phrase_may_belong_to_several_groups() -> None:
    assert {"certainty", "opening"} <= _groups("Of course")


@pytest.mark.parametrize("text", ["I can’t do it", "I CAN'T do it", "Well, I  can't"])
def test_spelling_on_screen_does_not_hide_a_phrase(text: str) -> None:
    assert "refusal" in _groups(text)


@pytest.mark.parametrize("text", ["i can", "canon i", "i, cannot", "i\ncannot fail", "icannot"])
def test_what_only_looks_like_a_phrase(text: str) -> None:
    assert "refusal" not in _groups(text)


def test_no_phrase_runs_from_one_text_or_turn_into_the_next() -> None:
    batch = read_batch([("i", "cannot"), ("i",)], [("cannot", "i"), ("i",)], [("x",), ("cannot",)])
    refusal = GROUPS.index("refusal")
    assert refusal not in find_phrases(batch)[1].tolist()


def test_nothing_is_found_in_nothing() -> None:
    tokens, groups = find_phrases(_read(""))
    assert len(tokens) == len(groups) == 0
    counts = count_phrases(_read(""), tokens, groups)
    assert all(count.tolist() == [0.0, 0.0, 0.0] for count in counts.values())
