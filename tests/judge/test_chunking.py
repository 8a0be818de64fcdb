"""Fitting a context: the budget is kept to the token, A and B fare alike, all is counted."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from judge.chunking import fit_context
from judge.context.alignment import aligned
from judge.context.fitted import Cut, Fitted
from judge.context.policies import LEAST, POLICIES, Chunks, HeadTail, load_policy
from judge.context.shortening import shares, shorten
from judge.encoding import BattleText, EstimatingCounter, TokenCounter, TokenizerCounter
from judge.errors import ArenaJudgeError

tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("langchain_text_splitters")

EXAMPLES = Path(__file__).parents[2] / "examples" / "battles.csv"
MARKER = re.compile(r"\s?\[[\d,]+ tokens left out\]\s?")


def _trained() -> TokenizerCounter:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(EXAMPLES.read_text(encoding="utf-8").splitlines(), trainer)
    return TokenizerCounter(tokenizer)


EXACT = _trained()
COUNTERS: dict[str, TokenCounter] = {"exact": EXACT, "estimate": EstimatingCounter()}
NAMES = sorted(POLICIES)
SINGLE = [name for name in NAMES if name != "chunks"]

PIECES = st.sampled_from(
    [
        "The quick brown fox jumps over the lazy dog. ",
        "今天的天气很好，我们一起去公园散步吧。",
        "👩‍👩‍👧👍🏽🇩🇪",
        "\n\n",
        "\n- item",
        "def f(x):\n    return x ** 2\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "   ",
        "x",
        "e\u0301",
    ]
)
TEXTS = st.one_of(
    st.just(""),
    st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=6).map("".join),
    st.tuples(PIECES, st.integers(1, 60)).map(lambda drawn: drawn[0] * drawn[1]),
)
ROUNDS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6)
BATTLES = ROUNDS.map(
    lambda rounds: BattleText(*(tuple(side) for side in zip(*rounds, strict=True)))
)


def _turns(texts: BattleText) -> tuple[str, ...]:
    return (*texts.prompt, *texts.response_a, *texts.response_b)


def _tokens(texts: BattleText, counter: TokenCounter = EXACT) -> int:
    return sum(counter.counts(_turns(texts)))


def _battle(*rounds: tuple[str, str, str]) -> BattleText:
    return BattleText(*(tuple(side) for side in zip(*rounds, strict=True)))


def _words(count: int, word: str = "fox") -> str:
    return " ".join([word] * count)


# --- what holds for every policy ------------------------------------------------------------------


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("policy", NAMES)
@settings(deadline=None, max_examples=40)
@given(BATTLES, st.integers(LEAST + 3, 400), st.integers(0, 3))
@example(_battle(("", "", "")), LEAST + 3, 0)
@example(_battle(("👍🏽" * 300, "🇩🇪" * 300, "")), LEAST + 3, 3)
@example(_battle(("q", "a" + "\u0301" * 400, "a")), LEAST + 3, 0)
def test_budget_symmetry_record_and_order(
    policy: str, counter: str, texts: BattleText, budget: int, overhead: int
) -> None:
    count = COUNTERS[counter]
    fitted = fit_context(texts, budget, policy, count, turn_overhead=overhead)

    for one in fitted:
        cost = _tokens(one.texts, count) + overhead * len(one.texts.prompt)
        assert cost <= budget
        assert len(one.texts.prompt) == len(one.texts.response_a) == len(one.texts.response_b)
        assert len(one.rounds) == len(one.texts.prompt)
        assert list(one.rounds) == sorted(set(one.rounds))

    swapped = fit_context(texts.swapped(), budget, policy, count, turn_overhead=overhead)
    assert swapped == [one.swapped() for one in fitted]
    assert fitted == fit_context(texts, budget, policy, count, turn_overhead=overhead)

    fits = _tokens(texts, count) + overhead * len(texts.prompt) <= budget
    if fits:
        assert fitted == [Fitted(texts, rounds=tuple(range(len(texts.prompt))))]
    elif policy != "chunks":
        assert fitted[0].cut
        assert len(fitted) == 1
    assert sum(one.weight for one in fitted) == pytest.approx(1)
    assert [(one.part, one.parts) for one in fitted] == [
        (part, len(fitted)) for part in range(len(fitted))
    ]


@pytest.mark.parametrize("policy", SINGLE)
@settings(deadline=None, max_examples=40)
@given(BATTLES, st.integers(LEAST, 400))
def test_what_is_shown_and_what_was_cut_is_all_there_was(
    policy: str, texts: BattleText, budget: int
) -> None:
    assume("left out]" not in "".join(_turns(texts)))
    [one] = fit_context(texts, budget, policy, EXACT)
    sides = (
        (texts.prompt, one.texts.prompt, one.cut.prompt),
        (texts.response_a, one.texts.response_a, one.cut.response_a),
        (texts.response_b, one.texts.response_b, one.cut.response_b),
    )
    for before, after, cut in sides:
        total = sum(EXACT.counts(before))
        assert 0 <= cut <= total
        kept = tuple(before[at] for at in one.rounds)
        assert (cut == 0) == (kept == after and sum(EXACT.counts(kept)) == total)
        for at, text in zip(one.rounds, after, strict=True):
            if text != before[at]:
                # Nothing but what was there, beside the note of what was not.
                first, *last = MARKER.split(text, maxsplit=1)
                assert before[at].startswith(first.rstrip()) or before[at].endswith(first)
                assert before[at].endswith("".join(last).lstrip())
    assert one.cut.rounds == len(texts.prompt) - len(one.rounds)


@settings(deadline=None, max_examples=40)
@given(BATTLES, st.integers(LEAST, 300))
@example(_battle(("q", "", _words(900))), 60)
@example(_battle(("q", "one two three", _words(900))), 60)
def test_chunks_leave_nothing_of_the_responses_out(texts: BattleText, budget: int) -> None:
    fitted = fit_context(texts, budget, "chunks", EXACT)
    for side, cut in (("response_a", "response_a"), ("response_b", "response_b")):
        parts: list[str] = []
        for one in fitted:
            assert getattr(one.cut, cut) == 0
            parts += getattr(one.texts, side)
        assert "".join(parts) == "".join(getattr(texts, side))
    assert {at for one in fitted for at in one.rounds} == set(range(len(texts.prompt)))


@pytest.mark.parametrize("policy", NAMES)
@settings(deadline=None, max_examples=30)
@given(BATTLES, st.integers(120, 400))
def test_both_orders_keep_the_budget_as_rendered(
    policy: str, texts: BattleText, budget: int
) -> None:
    def rendered(shown: BattleText) -> int:
        rounds = zip(shown.prompt, shown.response_a, shown.response_b, strict=True)
        return EXACT.count("Judge.\n" + "".join(f"<q>{q}<a>{a}<b>{b}\n" for q, a, b in rounds))

    for one in fit_context(texts, budget, policy, EXACT, measure=rendered):
        assert max(rendered(one.texts), rendered(one.texts.swapped())) <= budget


@pytest.mark.parametrize("policy", NAMES)
def test_a_budget_too_small_is_one_line(policy: str) -> None:
    texts = _battle((_words(50), _words(50), _words(50)))
    for budget, overhead in ((LEAST - 1, 0), (1000, 990), (-5, 0)):
        with pytest.raises(ArenaJudgeError) as caught:
            fit_context(texts, budget, policy, EXACT, overhead)
        assert "\n" not in str(caught.value)
        assert str(LEAST) in str(caught.value)


@pytest.mark.parametrize("policy", NAMES)
def test_a_megabyte_on_one_side(policy: str) -> None:
    texts = _battle(("What?", "word " * 60_000 + "b" * 200_000, "No."))
    fitted = fit_context(texts, 8000, policy, EXACT, 500)
    assert all(_tokens(one.texts) <= 7500 for one in fitted)


# --- what each is for -----------------------------------------------------------------------------


def test_head_tail_keeps_both_ends_of_texts_and_conversations() -> None:
    rounds = [(f"question {n}", f"start{n} {_words(60)} end{n}", f"other {n}") for n in range(9)]
    [one] = fit_context(_battle(*rounds), _tokens(_battle(*rounds[:6])), "head-tail", EXACT)
    assert one.rounds[0] == 0
    assert one.rounds[-1] == 8
    assert one.cut.rounds == 9 - len(one.rounds) > 0
    assert one.texts.response_a == tuple(rounds[at][1] for at in one.rounds)

    long = "start " + _words(3000) + " end"
    [one] = fit_context(_battle(("q", long, "short")), 200, "head-tail", EXACT)
    [shown] = one.texts.response_a
    assert shown.startswith("start fox")
    assert shown.endswith("fox end")
    assert f"[{one.cut.response_a:,} tokens left out]" in shown
    assert one.texts.response_b == ("short",)
    assert 190 <= _tokens(one.texts) <= 200


def test_head_tail_with_settings_of_its_own() -> None:
    rounds = [(f"question {n}", _words(40), _words(40)) for n in range(9)]
    [one] = fit_context(_battle(*rounds), 170, HeadTail(rounds=1), EXACT)
    assert one.rounds == (0, 8)


def test_proportional_shares_the_round_that_overflows() -> None:
    short = ("q", "a", "b")
    long = (_words(500, "what"), _words(500), _words(500, "dog"))
    [one] = fit_context(_battle(short, long, short), 400, "proportional", EXACT)
    assert one.rounds == (0, 1)
    shown = [EXACT.count(side[1]) for side in (one.texts.prompt, *_responses(one))]
    for tokens, share in zip(shown, (0.2, 0.4, 0.4), strict=True):
        assert tokens == pytest.approx(share * 400, abs=8)
    assert one.cut.rounds == 1

    # What the prompt does not need the responses get, and 79 tokens are no room for a round.
    [one] = fit_context(_battle(("q", long[1], long[2])), 400, "proportional", EXACT)
    assert _tokens(one.texts) >= 390
    whole = _battle((_words(40), _words(40), _words(40)), long)
    first = _tokens(BattleText(whole.prompt[:1], whole.response_a[:1], whole.response_b[:1]))
    assert fit_context(whole, first + 79, "proportional", EXACT)[0].rounds == (0,)
    assert fit_context(whole, first + 80, "proportional", EXACT)[0].rounds == (0, 1)


def test_recent_drops_the_oldest_and_cuts_the_oldest_kept() -> None:
    rounds = [(f"question {n}", f"first {_words(150)} last", _words(150)) for n in range(5)]
    each = EXACT.count(rounds[0][1]) + EXACT.count(rounds[0][2]) + EXACT.count(rounds[0][0])
    [one] = fit_context(_battle(*rounds), 2 * each + 150, "recent", EXACT)
    assert one.rounds == (2, 3, 4)
    assert one.texts.response_a[1:] == tuple(text for _, text, _ in rounds[3:])
    assert one.texts.response_a[0].endswith("fox last")
    assert one.texts.response_a[0].startswith("[")
    [one] = fit_context(_battle(*rounds), 2 * each + 70, "recent", EXACT)
    assert one.rounds == (3, 4)


def test_longest_first_trims_the_longer_then_both_then_the_prompt() -> None:
    prompt, a, b = _words(100, "what"), _words(1000), _words(300, "dog")
    lengths = [EXACT.count(text) for text in (prompt, a, b)]
    texts = _battle((prompt, a, b))

    [one] = fit_context(texts, sum(lengths) - 400, "longest-first", EXACT)
    assert one.texts.prompt == (prompt,)
    assert one.texts.response_b == (b,)
    assert one.cut.response_a >= 400

    [one] = fit_context(texts, lengths[0] + 400, "longest-first", EXACT)
    assert one.texts.prompt == (prompt,)
    shown = [EXACT.count(text) for (text,) in _responses(one)]
    assert shown == pytest.approx([200, 200], abs=4)

    [one] = fit_context(texts, 200, "longest-first", EXACT)
    assert one.cut.prompt > 0
    assert EXACT.count(one.texts.prompt[0]) == pytest.approx(40, abs=4)


def _responses(one: Fitted) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return one.texts.response_a, one.texts.response_b


def test_chunks_are_aligned_and_end_where_sentences_do() -> None:
    a = "".join(f"Sentence {n} of the first response says something. " for n in range(120))
    b = "".join(f"Paragraph {n} is another one.\n\n" for n in range(120))
    fitted = fit_context(_battle(("Explain.", a, b)), 400, "chunks", EXACT)
    assert len(fitted) >= 5
    for one in fitted:
        assert one.texts.prompt == ("Explain.",)
        assert one.texts.response_a[0].rstrip().endswith(".")
        assert one.texts.response_b[0].endswith(".\n\n")
    for text, side in ((a, 0), (b, 1)):
        at = 0
        for one in fitted:
            # Each part lies at the same share of the way through both responses.
            assert at / len(text) == pytest.approx(one.part / one.parts, abs=0.5 / one.parts)
            at += len(_responses(one)[side][0])
    tokens = [sum(EXACT.counts([*_responses(one)[0], *_responses(one)[1]])) for one in fitted]
    weights = [count / sum(tokens) for count in tokens]
    assert [one.weight for one in fitted] == pytest.approx(weights)


def test_chunks_keep_rounds_together_that_fit_and_split_those_that_do_not() -> None:
    short = ("question", _words(20), _words(20))
    long = ("and this?", _words(400), _words(500))
    budget = _tokens(_battle(short, short))
    fitted = fit_context(_battle(short, short, long, short), budget, "chunks", EXACT)
    assert fitted[0].rounds == (0, 1)
    assert fitted[-1].rounds == (3,)
    assert {one.rounds for one in fitted[1:-1]} == {(2,)}
    assert not any(one.cut for one in fitted)


def test_chunks_cut_a_prompt_that_is_too_long_alone() -> None:
    fitted = fit_context(_battle((_words(900, "what"), _words(300), "b")), 200, "chunks", EXACT)
    assert all(one.cut.prompt > 0 for one in fitted)
    assert all(EXACT.count(one.texts.prompt[0]) <= 100 for one in fitted)
    greedy = fit_context(
        _battle((_words(900, "what"), _words(300), "b")), 200, Chunks(prompt_share=0.2), EXACT
    )
    assert len(greedy) < len(fitted)
    with pytest.raises(ValueError, match="prompt_share"):
        Chunks(prompt_share=1.0)


def test_chunks_without_the_splitters_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_text_splitters", None)
    with pytest.raises(ArenaJudgeError, match=r"arena-judge\[prompted\]"):
        fit_context(_battle(("q", _words(500), "b")), 100, "chunks", EXACT)
    assert fit_context(_battle(("q", "a", "b")), 100, "chunks", EXACT)


# --- the small parts ------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 3)), min_size=1, max_size=8),
    st.integers(0, 2000),
)
def test_shares_keep_to_the_room_and_waste_less_than_the_weights(
    drawn: list[tuple[int, int]], room: int
) -> None:
    lengths, weights = (list(column) for column in zip(*drawn, strict=True))
    given_out = shares(lengths, weights, room)
    assert all(0 <= got <= length for got, length in zip(given_out, lengths, strict=True))
    assert sum(given_out) <= room or given_out == lengths
    assert sum(given_out) > min(room, sum(lengths)) - sum(weights)


@pytest.mark.parametrize("keep", ["head", "tail", "ends"])
def test_a_shortened_text_says_how_much_is_missing(keep: str) -> None:
    text = " ".join(f"word{n}" for n in range(500))
    [measured] = EXACT.measure([text])
    for tokens in range(0, measured.count + 1, 7):
        shown, lost = shorten(measured, tokens, keep)
        assert EXACT.count(shown) <= tokens
        if tokens > 40:
            assert f"[{lost:,} tokens left out]" in shown
            # No more is left out than the budget asks for: the rest goes to the note.
            assert measured.count - lost >= tokens - 20


def test_parts_of_equal_texts_are_equal() -> None:
    [text] = EXACT.measure([_words(700)])
    for a, b in aligned((text, text), 120, EXACT):
        assert a.text == b.text


def test_what_was_cut_reads_well() -> None:
    assert str(Cut(12, 0, 340, 1)) == "prompt 12, response_b 340, rounds 1"
    assert not Cut()
    assert str(Cut()) == ""
    assert Cut(1, 2, 3).swapped() == Cut(1, 3, 2)
    assert Cut(1, 2, 3, 4).as_dict() == dict(zip(Cut(1).as_dict(), range(1, 5), strict=True))


def test_a_policy_that_is_not_there() -> None:
    with pytest.raises(ArenaJudgeError, match="did you mean head-tail"):
        load_policy("headtail")
    with pytest.raises(ArenaJudgeError, match="proportional"):
        load_policy("zzz")


def test_every_policy_can_be_asked_for() -> None:
    from judge.cli.score import score

    [option] = [option for option in score.params if option.name == "fit_context"]
    assert set(option.to_info_dict()["type"]["choices"]) == set(POLICIES)


def test_a_battle_of_ragged_turns_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="as many turns"):
        fit_context(BattleText(("q",), ("a", "b"), ("c",)), 100)
    assert fit_context(BattleText((), (), ()), 10)[0].texts == BattleText((), (), ())
