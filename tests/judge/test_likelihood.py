"""Votes' distributions from log-probabilities, however the reply falls into tokens."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.ballots import CRITERIA, VOTES
from judge.engines.base import TokenChoice
from judge.likelihood import distributions
from judge.replies import read_votes

Floats = npt.NDArray[np.float64]
Pieces = tuple[str, ...]

OFF = "C"


class Tree:
    """A model of replies: all its token sequences and what each is worth, enumerated."""

    def __init__(self, sequences: Mapping[Pieces, float]) -> None:
        self._sequences = sequences

    def after(self, path: Pieces) -> dict[str, float]:
        """The distribution of the token after a path, by going through all sequences."""
        chances: dict[str, float] = defaultdict(float)
        for pieces, chance in self._sequences.items():
            if pieces[: len(path)] == path and len(pieces) > len(path):
                chances[pieces[len(path)]] += chance
        total = sum(chances.values())
        return {token: chance / total for token, chance in chances.items()}

    def tokens(self, pieces: Pieces) -> tuple[TokenChoice, ...]:
        """What an engine gives with a reply."""
        choices = []
        for place, token in enumerate(pieces):
            after = self.after(pieces[:place])
            top = tuple((other, math.log(chance)) for other, chance in after.items())
            choices.append(TokenChoice(token, math.log(after[token]), top))
        return tuple(choices)


def _soft(tokens: Sequence[TokenChoice], text: str, asked: Sequence[str]) -> dict[str, Floats]:
    return distributions(read_votes(text, asked), text, tokens)


def _split(text: str, random: Random) -> Pieces:
    cuts = sorted(place for place in range(1, len(text)) if random.random() < 0.5)
    return tuple(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))


chances = st.lists(st.floats(0.02, 1.0), min_size=5, max_size=5).map(
    lambda drawn: dict(zip((*VOTES, OFF), np.array(drawn) / sum(drawn), strict=True))
)


def _exact(worth: Mapping[str, float]) -> Floats:
    scale = np.array([worth[vote] for vote in VOTES])
    return scale / scale.sum()


# --- the same reply in many pieces ----------------------------------------------------------------


@settings(deadline=None)
@given(
    worth=chances,
    before=st.sampled_from(["", '{"clarity": "', "Vote: ", '{"vote":"', "**"]),
    after=st.sampled_from(["", '"}', ".\n", "**"]),
    chosen=st.sampled_from(["A", "AB"]),
    random=st.randoms(use_true_random=False),
)
def test_a_path_through_the_shared_token_has_the_whole_distribution(
    worth: dict[str, float], before: str, after: str, chosen: str, random: Random
) -> None:
    # A and AB begin with one token; all else is in one piece with what goes before or after.
    if "{" in before:
        after = '"}'
    head = _split(before, random) if before else ()
    merged = random.random() < 0.5 and bool(head)
    lead, start = (head[:-1], head[-1]) if merged else (head, "")
    end = after or "<|end|>"
    inner = random.choice([(end,), tuple(end)]) if after else (end,)
    sequences = {
        (*lead, start + "A", *inner): worth["A"],
        (*lead, start + "A", "B" + inner[0], *inner[1:]): worth["AB"],
        **{(*lead, start + x + inner[0], *inner[1:]): worth[x] for x in ("B", "NA", OFF)},
    }
    if not after:
        sequences |= {(*lead, start + "A", "B", end): worth["AB"]}
        sequences.pop((*lead, start + "A", "B" + end))
        sequences |= {(*lead, start + x, end): worth[x] for x in ("B", "NA", OFF)}
        for x in ("B", "NA", OFF):
            sequences.pop((*lead, start + x + end))
    tree = Tree(sequences)
    pieces = next(p for p in sequences if "".join(p) == before + chosen + end)
    text = before + chosen + after
    found = _soft(tree.tokens(pieces), text, ["clarity"])["clarity"]
    assert found == pytest.approx(_exact(worth))


@settings(deadline=None)
@given(worth=chances, chosen=st.sampled_from(VOTES), random=st.randoms(use_true_random=False))
def test_labels_of_one_token_each(worth: dict[str, float], chosen: str, random: Random) -> None:
    # What stands before the vote falls into pieces at random, and so does the rest after it.
    head, tail = '{\n  "clarity": ', ' "reason": 1}'
    for opening, closing in (('"', '",'), ("'", "', ")):
        lead, rest = _split(head, random), _split(tail, random)
        joined = [(opening + x + closing,) for x in (*VOTES, OFF)]
        apart = [(opening, x, closing) for x in (*VOTES, OFF)]
        partly = [(opening + x, closing) for x in (*VOTES, OFF)]
        late = [(opening, x + closing[:1], closing[1:]) for x in (*VOTES, OFF)]
        seen = []
        for form in (joined, apart, partly, late):
            sequences = {
                (*lead, *pieces, *rest): worth[x]
                for pieces, x in zip(form, (*VOTES, OFF), strict=True)
            }
            text = head + opening + chosen + closing + tail
            pieces = next(p for p in sequences if "".join(p) == text)
            seen.append(_soft(Tree(sequences).tokens(pieces), text, ["clarity"])["clarity"])
        assert all(found == pytest.approx(_exact(worth)) for found in seen)


@settings(deadline=None)
@given(worth=chances, random=st.randoms(use_true_random=False))
def test_some_labels_merge_with_the_quote_and_some_do_not(
    worth: dict[str, float], random: Random
) -> None:
    # `"A` and `"B` are tokens; AB and NA come after a quote of their own.
    sequences = {
        ("vote", '": ', '"A', '"'): worth["A"],
        ("vote", '": ', '"B', '"'): worth["B"],
        ("vote", '": ', '"', "AB", '"'): worth["AB"],
        ("vote", '": ', '"', "NA", '"'): worth["NA"],
        ("vote", '": ', '"', OFF, '"'): worth[OFF],
    }
    pieces = ("vote", '": ', '"', random.choice(["AB", "NA"]), '"')
    tokens = (TokenChoice('{"', 0.0, ()), *Tree(sequences).tokens(pieces))
    tokens = (*tokens, TokenChoice("}", 0.0, (("}", 0.0),)))
    text = "".join(token.token for token in tokens)
    assert _soft(tokens, text, ["clarity"])["clarity"] == pytest.approx(_exact(worth))


@settings(deadline=None)
@given(
    worths=st.lists(chances, min_size=5, max_size=5),
    chosen=st.lists(st.sampled_from(VOTES), min_size=5, max_size=5),
    random=st.randoms(use_true_random=False),
)
def test_each_vote_of_a_ballot_has_its_own(
    worths: list[dict[str, float]], chosen: list[str], random: Random
) -> None:
    tokens: list[TokenChoice] = []
    text = "{"
    for criterion, worth, vote in zip(CRITERIA, worths, chosen, strict=True):
        key = f'"{criterion}": "'
        end = '", ' if criterion != CRITERIA[-1] else '"}'
        tokens += [TokenChoice(p, 0.0, ((p, 0.0),)) for p in _split(key, random)]
        tokens += Tree({(x + end,): worth[x] for x in (*VOTES, OFF)}).tokens((vote + end,))
        text += key + vote + end
    opened = (TokenChoice("{", 0.0, ()), *tokens)
    for given_tokens, given_text in (
        (opened, text),
        ((*opened, TokenChoice("<|eot_id|>", -0.1, ())), text),
        ((TokenChoice("\n ", -0.1, ()), *opened), text),
    ):
        found = _soft(given_tokens, given_text, CRITERIA)
        for criterion, worth in zip(CRITERIA, worths, strict=True):
            assert found[criterion] == pytest.approx(_exact(worth))


# --- what cannot be seen --------------------------------------------------------------------------


def _top(**chances: float) -> tuple[tuple[str, float], ...]:
    return tuple((token, math.log(chance)) for token, chance in chances.items())


def test_off_the_path_an_open_word_divides_as_it_did_on_it() -> None:
    first = (
        TokenChoice("Relevance: ", 0.0, ()),
        TokenChoice("A", math.log(0.8), _top(A=0.8, B=0.2)),
        TokenChoice("\n", math.log(0.75), (("\n", math.log(0.75)), ("B", math.log(0.25)))),
    )
    second = (
        TokenChoice("Accuracy: ", 0.0, ()),
        TokenChoice("B", math.log(0.6), _top(A=0.4, B=0.6)),
        TokenChoice("\n", 0.0, (("\n", 0.0),)),
    )
    text = "Relevance: A\nAccuracy: B\n"
    found = _soft(first + second, text, CRITERIA[:2])
    assert found["relevance"] == pytest.approx([0.6, 0.2, 0.2, 0.0])
    assert found["accuracy"] == pytest.approx([0.3, 0.6, 0.1, 0.0])
    # With no such word on the path, it counts for what it spells.
    alone = _soft(second, "Accuracy: B\n", ["accuracy"])
    assert alone["accuracy"] == pytest.approx([0.4, 0.6, 0.0, 0.0])


def test_other_ways_to_write_a_label_count_for_it() -> None:
    top = (("A", 0.3), (" A", 0.1), ("a", 0.05), ("AB", 0.1), ("Both", 0.05), ("NA", 0.1))
    top += (("N", 0.05), ("Neither", 0.05), ("B.", 0.1), ("The", 0.1))
    tokens = (TokenChoice("AB", math.log(0.1), tuple((t, math.log(p)) for t, p in top)),)
    found = _soft(tokens, "AB", ["clarity"])["clarity"]
    assert found == pytest.approx(np.array([0.45, 0.1, 0.15, 0.2]) / 0.9)


def test_a_vote_said_in_other_words_is_read_from_its_own_tokens() -> None:
    tokens = (TokenChoice("Both", math.log(0.7), _top(Both=0.7, A=0.2, Neither=0.1)),)
    assert _soft(tokens, "Both", ["clarity"])["clarity"] == pytest.approx([0.2, 0, 0.7, 0.1])
    split = (
        TokenChoice("B", math.log(0.9), _top(B=0.9, A=0.1)),
        TokenChoice("oth", math.log(0.5), (("oth", math.log(0.5)), ("<|end|>", math.log(0.5)))),
    )
    assert _soft(split, "Both", ["clarity"])["clarity"] == pytest.approx([0.1, 0.45, 0.45, 0])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # After "Response" the tokens speak of A and B alone.
        ("Response A", [("Response", {"Response": 0.9}), (" A", {" A": 0.9, " B": 0.1})]),
        ("A and B", [("A", {"A": 0.9}), (" and", {" and": 1.0}), (" B", {" B": 1.0})]),
        # Hardly anything of what the model meant to say is a vote.
        ("A", [("A", {"A": 0.02, "Sorry": 0.9})]),
        # The tokens are those of another text.
        ("A", [("x", {"x": 1.0})]),
        ("A", []),
        ("A", [("A", {})]),
    ],
)
def test_where_tokens_say_nothing_the_vote_is_hard(
    text: str, tokens: list[tuple[str, dict[str, float]]]
) -> None:
    choices = [
        TokenChoice(
            token,
            math.log(top.get(token, 0.01)),
            tuple((other, math.log(chance)) for other, chance in top.items()),
        )
        for token, top in tokens
    ]
    assert _soft(choices, text, ["clarity"]) == {}


def test_tokens_of_half_characters_hide_no_votes() -> None:
    # A reason in another script: the engine writes half a character as U+FFFD.
    text = '{"reason": "\N{SNOWMAN} is better", "vote": "A"}'
    tokens = [TokenChoice(t, 0.0, ()) for t in ('{"reason": "', "\ufffd", "\ufffd", " is better")]
    tokens += [TokenChoice('", "vote": "', 0.0, ())]
    tokens += [TokenChoice("A", math.log(0.7), _top(A=0.7, B=0.3))]
    tokens += [TokenChoice('"}', 0.0, (('"}', 0.0),))]
    found = _soft(tokens, text, ["clarity"])
    assert found["clarity"] == pytest.approx([0.7, 0.3, 0.0, 0.0])


@pytest.mark.parametrize("odd", [math.nan, -math.inf, -9999.0, 0.5])
def test_odd_log_probabilities_leave_a_distribution(odd: float) -> None:
    tokens = [TokenChoice("A", -0.1, (("A", -0.1), ("B", odd), ("", odd)))]
    found = _soft(tokens, "A", ["clarity"])["clarity"]
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()
