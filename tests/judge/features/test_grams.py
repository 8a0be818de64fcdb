"""Which n-grams stand in which texts, against sets in plain Python."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.features.grams import OPENING_TOKENS, PAIRS, PROMPT, WORDS, A, B, Family, find_grams
from judge.features.text import TextBatch, read_batch

PIECES = (
    "the", "The", "of", "river", "rivers", "don't", "42", "7", ",", ".", "...", "#", "|", "-", "'",
    "\n", "\n\n", "\x1e", "漢", "字", "か", "한국", "ж", "😀", "é",
)  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join) | st.text(max_size=20)
BATTLE = st.tuples(TEXT, TEXT, TEXT)
Spell = Callable[[TextBatch], list[list[str]]]
Gram = tuple[Family, tuple[str, ...]]


def _read(*battles: tuple[str, str, str]) -> TextBatch:
    prompts, first, second = ([(text,) for text in role] for role in zip(*battles, strict=True))
    return read_batch(prompts, first, second)


def _is_mark(token: str) -> bool:
    return token[0] in "'\n" or unicodedata.category(token[0])[0] not in "LMN"


def _family(run: tuple[str, ...]) -> Family:
    if len(run) > 1:
        base = Family.PAIR if len(run) == 2 else Family.TRIPLE
        lines = any(token[0] == "\n" for token in run)
        return Family(base + (2 if lines else int(_is_mark(run[0]))))
    (token,) = run
    if token[0] == "\n":
        return Family.LINE
    if _is_mark(token):
        return Family.MARK
    if unicodedata.category(token[0])[0] == "N":
        return Family.NUMBER
    return Family.CONTENT if len(token) > 3 or token[0] > "\u2fff" else Family.WORD


def _grams(tokens: list[str]) -> set[Gram]:
    """The n-grams of a text, those with which it begins once more for themselves."""
    found: set[Gram] = set()
    for size in (1, 2, 3):
        for place in range(len(tokens) - size + 1):
            run = tuple(tokens[place : place + size])
            found.add((_family(run), run))
            if place < OPENING_TOKENS:
                found.add((Family.OPENING, run))
    return found


def _roles(tokens: list[list[str]], battle: int) -> Counter[tuple[Family, int]]:
    """How many n-grams of each family stand in just which texts of a battle."""
    prompt, a, b = (_grams(role) for role in tokens[battle :: len(tokens) // 3])
    return Counter(
        (gram[0], PROMPT * (gram in prompt) + A * (gram in a) + B * (gram in b))
        for gram in prompt | a | b
    )


@settings(deadline=None, max_examples=150)
@given(st.lists(BATTLE, min_size=1, max_size=4))
def test_ngrams_stand_where_sets_say(spell: Spell, battles: list[tuple[str, str, str]]) -> None:
    batch = _read(*battles)
    found, tokens = find_grams(batch), spell(batch)
    for battle in range(len(battles)):
        expected = _roles(tokens, battle)
        counts = found.counts[:, :, battle]
        cells = {(Family(f), int(r)): int(counts[f, r]) for f, r in np.argwhere(counts).tolist()}
        assert cells == dict(expected)
        own = found.battle == battle
        listed = zip(found.families[own].tolist(), found.roles[own].tolist(), strict=True)
        assert Counter((Family(f), r) for f, r in listed) == expected


@settings(deadline=None, max_examples=50)
@given(st.lists(BATTLE, min_size=1, max_size=4))
def test_a_battle_has_the_same_ngrams_alone_and_among_others(
    battles: list[tuple[str, str, str]],
) -> None:
    def listed(battle: int, *texts: tuple[str, str, str]) -> set[tuple[int, int, int]]:
        found = find_grams(_read(*texts))
        own = found.battle == battle
        columns = (found.hashes[own], found.families[own], found.roles[own])
        return set(zip(*(column.tolist() for column in columns), strict=True))

    for place, battle in enumerate(battles):
        assert listed(place, *battles) == listed(0, battle)


@settings(deadline=None, max_examples=50)
@given(BATTLE)
def test_swapping_the_responses_swaps_the_roles(battle: tuple[str, str, str]) -> None:
    prompt, a, b = battle
    here, there = find_grams(_read((prompt, a, b))), find_grams(_read((prompt, b, a)))
    exchanged = [(role & PROMPT) + B * (role & A > 0) + A * (role & B > 0) for role in range(8)]
    assert np.array_equal(here.counts[:, exchanged], there.counts)
    # In one order, so that sums over the n-grams come out the same to the last bit.
    assert np.array_equal(here.hashes, there.hashes)
    assert np.array_equal(here.families, there.families)
    assert np.array_equal(np.array(exchanged)[here.roles], there.roles)


def test_a_known_battle() -> None:
    batch = _read(("How long is the Nile?", "The Nile is 6650 km long.", "Rivers are long"))
    found = find_grams(batch)
    assert found.shared(WORDS, PROMPT).tolist() == [5]
    assert found.by_response(WORDS).tolist() == [[5], [3]]
    assert found.by_response((Family.CONTENT,), PROMPT).tolist() == [[2], [1]]
    assert found.by_response((Family.NUMBER,)).tolist() == [[1], [0]]
    assert found.shared((Family.CONTENT,), PROMPT, A, B).tolist() == [1]
    assert found.by_response(PAIRS, PROMPT).tolist() == [[1], [0]]  # "the nile"


def test_an_ngram_is_told_from_its_neighbours_and_its_order() -> None:
    found = find_grams(_read(("", "new york city", "york new city")))
    assert found.shared(WORDS, A, B).tolist() == [3]
    assert found.shared(PAIRS, A, B).tolist() == [0]
    found = find_grams(_read(("", "zero one two three", "one two three")))
    assert found.shared(PAIRS, A, B).tolist() == [2]


def test_no_ngram_runs_from_one_text_into_the_next() -> None:
    found = find_grams(_read(("alpha", "beta", "gamma"), ("delta", "epsilon", "")))
    assert found.by_response(PAIRS).tolist() == [[0, 0], [0, 0]]
    assert found.shared(PAIRS, PROMPT).tolist() == [0, 0]


@pytest.mark.parametrize("battles", [1, 300, 4096])
def test_the_last_of_many_battles_has_its_own(battles: int) -> None:
    rows = [(f"prompt {n}", f"reply {n}", "reply") for n in range(battles)]
    found = find_grams(_read(*rows))
    assert found.battles == battles
    assert (found.shared((Family.NUMBER,), PROMPT, A) == 1).all()
    assert (found.shared((Family.NUMBER,), B) == 0).all()
    assert (found.shared((Family.CONTENT,), A, B) == 1).all()
    assert (found.shared((Family.CONTENT,), PROMPT, A) == 0).all()
    assert np.array_equal(np.unique(found.battle), np.arange(battles))


def test_no_battles_have_no_ngrams() -> None:
    found = find_grams(read_batch([], [], []))
    assert len(found.hashes) == len(found.battle) == 0
    assert found.shared(WORDS, A).shape == (0,)


def test_empty_texts_have_no_ngrams() -> None:
    found = find_grams(_read(("", "", "")))
    assert len(found.hashes) == 0
    assert found.shared(tuple(Family), A, B).tolist() == [0]
