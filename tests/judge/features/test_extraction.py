"""All features together: finite for any text, the same in any batch, exact when swapped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.ballots import CRITERIA
from judge.features.extraction import Extract, extract, feature_names

Turns = tuple[str, ...]
Battle = tuple[Turns, Turns, Turns]

PIECES = (
    "I cannot", "As an AI", "in 50", "50 words", "words", "1", "1.", ". ", ")", "? ", "！", "don't",
    "```", "``", "**", "# ", "- ", "|", "://", ": ", "\n", "\n\n", "\r\n", "\x1e", "\0", " ", "\t",
    "the river ", "river ", "RIVER", "漢字", "か", "한국어", "مرحبا", "हिन्दी", "😀", "e\u0301", "ß",
    "\u200b", "\ufeff", "\ufffd", "\ue000", "\U0010ffff", "'", "’", "Sure! ", "### Human:",
)  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=15).map("".join)


def _turns(count: int) -> st.SearchStrategy[Battle]:
    turns = st.tuples(*[TEXT] * count)
    return st.tuples(turns, turns, turns)


BATTLES = st.lists(st.integers(1, 3).flatmap(_turns), min_size=1, max_size=5)


def _extract(battles: list[Battle]) -> Extract:
    prompts, first, second = zip(*battles, strict=True)
    return extract(prompts, first, second)


@settings(deadline=None, max_examples=100)
@given(BATTLES)
def test_every_feature_of_any_text_is_a_number(battles: list[Battle]) -> None:
    found = _extract(battles)
    for criterion in CRITERIA:
        shape = (2, len(battles), len(found.names[criterion]))
        assert found.responses[criterion].shape == shape
        assert np.isfinite(found.responses[criterion]).all()
    assert found.context.shape == (len(battles), len(found.context_names))
    assert np.isfinite(found.context).all()


@settings(deadline=None, max_examples=100)
@given(BATTLES)
def test_swapping_the_responses_swaps_their_features_exactly(battles: list[Battle]) -> None:
    here = _extract(battles)
    there = _extract([(prompt, b, a) for prompt, a, b in battles])
    for criterion in CRITERIA:
        assert np.array_equal(here.responses[criterion], there.responses[criterion][::-1])
    assert np.array_equal(here.context, there.context)
    assert np.array_equal(here.grams.hashes, there.grams.hashes)


@settings(deadline=None, max_examples=100)
@given(BATTLES)
def test_a_battle_has_the_same_features_alone_and_among_others(battles: list[Battle]) -> None:
    together = _extract(battles)
    for place, battle in enumerate(battles):
        alone = _extract([battle])
        for criterion in CRITERIA:
            np.testing.assert_allclose(
                together.responses[criterion][:, place],
                alone.responses[criterion][:, 0],
                rtol=1e-12,
                atol=1e-12,
            )
        np.testing.assert_allclose(
            together.context[place], alone.context[0], rtol=1e-12, atol=1e-12
        )
        own = together.grams.battle == place
        assert np.array_equal(together.grams.hashes[own], alone.grams.hashes)
        assert np.array_equal(together.grams.roles[own], alone.grams.roles)


@pytest.mark.parametrize(
    "battle",
    [
        (("",), ("A real answer, of some words.",), ("",)),
        (("",), ("",), ("",)),
        (("", ""), ("", ""), ("", "x")),
        (("50",), ("words",), ("5",)),
        (("\n",), ("\n",), ("1",)),
    ],
)
def test_empty_texts(battle: Battle) -> None:
    found = _extract([battle])
    assert np.isfinite(found.context).all()
    assert all(np.isfinite(values).all() for values in found.responses.values())


def test_no_battles_have_features_of_no_rows() -> None:
    found, one = extract([], [], []), _extract([(("q",), ("a",), ("b",))])
    assert feature_names(found) == feature_names(one)
    assert found.context.shape == (0, len(one.context_names))
    for criterion, names in one.names.items():
        assert found.responses[criterion].shape == (2, 0, len(names))
    assert found.grams.battles == 0


def test_features_are_named_by_their_criterion() -> None:
    found = _extract([(("q",), ("a",), ("b",))])
    assert tuple(found.names) == CRITERIA
    names = feature_names(found)
    assert len(set(names)) == len(names)
    assert len(names) == sum(map(len, found.names.values())) + len(found.context_names)
    assert {name.partition(".")[0] for name in names} == {*CRITERIA, "context"}
    # By the names that the literature on preferences knows them.
    for name in (
        "relevance.semantic_consistency",
        "logical_flow.contradiction_ratio",
        "clarity.readability",
        "clarity.conciseness_sweet_spot",
        "responsiveness.mediator_quality",
        "responsiveness.verbosity_penalty",
    ):
        assert name in names


def test_the_other_response_changes_nothing_but_what_is_compared() -> None:
    answer = ("The Nile is 6650 km long.",)
    first = _extract([(("How long is the Nile?",), answer, ("No idea.",))])
    second = _extract([(("How long is the Nile?",), answer, ("- It is 6650\n- or 7000?",))])
    for criterion, names in first.names.items():
        same = first.responses[criterion][0, 0] == second.responses[criterion][0, 0]
        changed = [name for name, kept in zip(names, same, strict=True) if not kept]
        assert changed == (["numbers_confirmed"] if criterion == "accuracy" else [])
