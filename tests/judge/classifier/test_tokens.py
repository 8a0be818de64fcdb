"""Battles as token ids: nothing over the length, nothing cut that fits, nothing made up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from judge.battles import read_battles, swap
from judge.classifier.templates import load_template
from judge.classifier.tokenizing import TextTokenizer
from judge.classifier.tokens import BattleEncoder, Encoded
from judge.classifier.truncation import POLICIES
from judge.errors import ArenaJudgeError

from .sorts import EXAMPLES, SORTS, of_transformers, raw

pytest.importorskip("tokenizers")

TEMPLATES = ("interleaved", "a-then-b", "single")
BOTH = ("AB", "BA")

TEXTS = st.one_of(
    st.just(""),
    st.text(max_size=12),
    st.sampled_from(["word ", "今天天气", "👩‍👩‍👧", "[SEP]", "<|im_end|>", "</s>", "\n\n"]).flatmap(
        lambda piece: st.integers(1, 60).map(lambda times: piece * times)
    ),
)
ROUNDS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5)


def battle_table(*battles: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    columns = [list(zip(*rounds, strict=True)) for rounds in battles]
    return pd.DataFrame(
        {
            name: [columns[row][place] for row in range(len(battles))]
            for place, name in enumerate(("prompt", "response_a", "response_b"))
        }
    )


@cache
def reader(sort: str) -> TextTokenizer:
    return TextTokenizer(raw(sort))


def encoder(
    template: str = "interleaved",
    length: int = 128,
    policy: str = "proportional",
    sort: str = "qwen",
) -> BattleEncoder:
    return BattleEncoder(reader(sort), load_template(template), length, policy)


def words(count: int, word: str = "fox") -> str:
    return " ".join([word] * count)


def decoded(sort: str, ids: Any) -> str:
    return str(raw(sort).decode(list(map(int, ids)), skip_special_tokens=False))


# --- what holds for every tokenizer, template and policy ------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=25)
@given(st.lists(ROUNDS, min_size=1, max_size=3), st.integers(64, 300), st.sampled_from(SORTS))
@example([[("", "", "")]], 64, "bert")
@example([[("q", "a" * 500, "")], [("", "", "b" * 400)]], 64, "llama-2")
def test_length_count_order_and_what_is_shared(
    template: str, policy: str, battles: list[Any], length: int, sort: str
) -> None:
    made = encoder(template, length, policy, sort)
    table = battle_table(*battles)
    tokens = made.read(table)
    encoded = made.assemble(tokens, BOTH)
    whole = made.at(100_000).assemble(tokens, BOTH)

    assert len(encoded) == 2 * len(battles)
    assert encoded.battles.tolist() == [row for row in range(len(battles)) for _ in BOTH]
    assert encoded.sides.tolist() == [0, 1] * len(battles)
    assert whole.cut.tolist() == [0] * len(whole)
    assert encoded.lengths.max() <= length
    for row, ids, full, cut in zip(
        encoded.battles, encoded.ids, whole.ids, encoded.cut, strict=True
    ):
        if len(full) <= length:
            assert cut == 0
            assert ids.tolist() == full.tolist()
        else:  # rounds without text may be what is left out
            assert cut > 0 or len(battles[row]) > 1
    for row in range(0, len(encoded), 2):
        one, other, shared = encoded.ids[row], encoded.ids[row + 1], encoded.shared[row]
        assert encoded.shared[row + 1] == shared < min(len(one), len(other))
        assert one[:shared].tolist() == other[:shared].tolist()
        assert shared == min(len(one), len(other)) - 1 or one[shared] != other[shared]

    # The other order, or the other response, is the one of the battle swapped.
    swapped = made.encode(swap(table), BOTH)
    for row in range(0, len(encoded), 2):
        for place in (0, 1):
            assert swapped.ids[row + place].tolist() == encoded.ids[row + 1 - place].tolist()
            assert swapped.cut[row + place] == encoded.cut[row + 1 - place]


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=30)
@given(ROUNDS, st.integers(64, 400), st.integers(0, 40), st.sampled_from(TEMPLATES))
def test_more_room_is_never_less_text(
    policy: str, rounds: Any, length: int, more: int, template: str
) -> None:
    made = encoder(template, length, policy)
    tokens = made.read(battle_table(rounds))
    narrow, wide = made.assemble(tokens), made.at(length + more).assemble(tokens)
    # All but one token of the room is used, where a response of each side is cut.
    assert (wide.lengths >= narrow.lengths - 1).all()
    if len(rounds) == 1:
        short = narrow.cut > 0
        assert (narrow.lengths[short] >= length - 1).all()
        # Where a text first says that it was cut, that takes a token or two of it.
        marks = 3 * len(made.tokenizer.words(made.template.cut))
        assert (wide.cut <= narrow.cut + marks).all()


@settings(max_examples=40)
@given(TEXTS, st.sampled_from(SORTS))
@example("［ＳＥＰ］ [SEP] [ SEP] ［SEP］", "deberta")
@example("[CLS][CLS]", "deberta")
@example("</s></s>＜/s＞", "llama-2")
@example("<|reserved 1|><|reserved 1|>", "llama-3")
@example("<turn><turn> ＜turn＞", "qwen")
@example("\ud800 lone", "qwen")
def test_no_text_becomes_a_special_token(text: str, sort: str) -> None:
    tokenizer = reader(sort)
    assert len(tokenizer.special) > 1
    ids, starts = tokenizer.encode([text, text * 3, ""])
    assert not set(ids.tolist()) & tokenizer.special
    assert starts[0] == 0
    assert starts[-1] == starts[-2] == len(ids)


def test_bytes_of_what_a_tokenizer_does_not_know_are_text() -> None:
    ids, _ = reader("llama-2").encode(["\u2603"])
    assert decoded("llama-2", ids).replace(" ", "").endswith("<0xE2><0x98><0x83>")


# --- one thing at a time --------------------------------------------------------------------------


def test_the_texts_stand_in_the_order_of_the_template() -> None:
    table = battle_table([("one", "two", "three"), ("four", "five", "six")])

    def shown(template: str, order: str) -> str:
        return decoded("qwen", encoder(template).encode(table, (order,)).ids[0])

    assert shown("interleaved", "AB") == (
        "# Prompt\none\n\n# Response A\ntwo\n\n# Response B\nthree"
        "\n\n# Prompt\nfour\n\n# Response A\nfive\n\n# Response B\nsix"
        "\n\n# Better response: A, B or tie?"
    )
    assert shown("a-then-b", "BA") == (
        "# Prompt\none\n\n# Response A\nthree\n\n# Prompt\nfour\n\n# Response A\nsix"
        "\n\n# Response B\ntwo\n\n# Response B\nfive\n\n# Better response: A, B or tie?"
    )
    singles = encoder("single").encode(table)
    assert singles.sides.tolist() == [0, 1]
    assert [decoded("qwen", ids) for ids in singles.ids] == [
        "# Prompt\none\n\n# Response\ntwo\n\n# Prompt\nfour\n\n# Response\nfive"
        "\n\n# How good is the response?",
        "# Prompt\none\n\n# Response\nthree\n\n# Prompt\nfour\n\n# Response\nsix"
        "\n\n# How good is the response?",
    ]


def test_sections_are_parted_by_the_tokenizers_own_separator() -> None:
    pytest.importorskip("transformers")
    for sort, between in (("bert", "[SEP]"), ("llama-3", "\n\n")):
        tokenizer = of_transformers(sort)
        made = BattleEncoder(tokenizer, load_template("interleaved"), 128)
        [ids] = made.encode(battle_table([("why", "so", "thus")])).ids
        if sort == "bert":
            assert ids[0] == tokenizer.cls_token_id
            assert ids[-1] == tokenizer.sep_token_id
            assert ids.tolist().count(tokenizer.sep_token_id) == 4
        else:
            assert ids[0] == tokenizer.bos_token_id
            assert decoded(sort, ids).count(between) == 3


def test_tokenizers_of_either_package_give_the_same_ids_but_for_separators() -> None:
    pytest.importorskip("transformers")
    table = read_battles(EXAMPLES)
    for sort in ("llama-2", "llama-3", "qwen"):
        template = load_template("a-then-b")
        ours, theirs = (
            BattleEncoder(tokenizer, template, 200).encode(table)
            for tokenizer in (raw(sort), of_transformers(sort))
        )
        assert [ids.tolist() for ids in ours.ids] == [ids.tolist() for ids in theirs.ids]


@pytest.mark.parametrize("sort", SORTS)
def test_transformers_would_make_special_tokens_of_the_text_and_this_does_not(sort: str) -> None:
    pytest.importorskip("transformers")
    tokenizer = of_transformers(sort)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    hostile = "good " + "".join(tokenizer.all_special_tokens) + " bad"
    plain = tokenizer(hostile, add_special_tokens=False, truncation=False, padding=False)
    assert set(plain["input_ids"]) & special
    ids, _ = TextTokenizer(tokenizer).encode([hostile])
    assert not set(ids.tolist()) & special
    # The words are still there to be read.
    assert decoded(sort, ids).startswith("good")
    assert decoded(sort, ids).endswith("bad")


def test_a_tokenizer_that_was_given_is_not_changed() -> None:
    tokenizer = raw("bert")
    before = tokenizer.to_str()
    encoder(sort="bert").encode(battle_table([("q", words(300), "b")]))
    assert tokenizer.to_str() == before
    assert len(tokenizer.encode(words(100)).ids) == 16


def test_each_text_is_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = encoder()
    seen: list[str] = []
    encode = TextTokenizer.encode

    def counted(self: TextTokenizer, texts: Sequence[str]) -> Any:
        seen.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(TextTokenizer, "encode", counted)
    table = battle_table([("same prompt", "a", "b")], [("same prompt", "b", "c")])
    made.encode(table, BOTH)
    assert sorted(seen) == ["a", "b", "c", "same prompt"]


def test_orders_that_are_none() -> None:
    table = battle_table([("q", "a", "b")])
    for orders in ((), ("AA",), ("AB", "AB")):
        with pytest.raises(ValueError, match="orders"):
            encoder().encode(table, orders)
    alone = encoder().encode(table, ("BA",))
    assert alone.sides.tolist() == [1]
    assert alone.shared.tolist() == [0]


def test_no_battles_are_no_sequences() -> None:
    encoded = encoder().encode(battle_table([("q", "a", "b")])[:0], BOTH)
    assert len(encoded) == len(encoded.battles) == len(encoded.lengths) == 0


def test_a_length_without_room_says_how_much_it_takes() -> None:
    with pytest.raises(ArenaJudgeError, match=r"raise it to (\d+)") as caught:
        encoder(length=20)
    least = int(str(caught.value).split("raise it to ")[1].split()[0])
    encoder(length=least)
    with pytest.raises(ArenaJudgeError, match=f"raise it to {least}"):
        encoder(length=least - 1)


def test_a_policy_that_a_classifier_has_not() -> None:
    for policy in ("chunks", "zzz"):
        with pytest.raises(ArenaJudgeError, match="longest-first"):
            encoder(policy=policy)


def test_a_slow_tokenizer_is_refused_in_one_line() -> None:
    with pytest.raises(ArenaJudgeError, match="slow tokenizer") as caught:
        TextTokenizer(object())
    assert "\n" not in str(caught.value)


# --- what policies keep ---------------------------------------------------------------------------


def _kept(encoded: Encoded) -> tuple[str, str, str]:
    """The prompt, A and B of a sequence about one round."""
    text = decoded("qwen", encoded.ids[0])
    prompt, a, b, _ = text.removeprefix("# Prompt\n").split("\n\n# ")
    return prompt, a.removeprefix("Response A\n"), b.removeprefix("Response B\n")


def test_longest_first_takes_from_the_longer_response() -> None:
    table = battle_table([("what now", words(400), words(10, "dog"))])
    prompt, a, b = _kept(encoder(policy="longest-first").encode(table))
    assert prompt == "what now"
    assert b == words(10, "dog")
    assert a.startswith("fox fox")
    assert a.endswith(" …")


def test_proportional_leaves_both_responses_as_much() -> None:
    table = battle_table([(words(400), words(300), words(900))])
    prompt, a, b = _kept(encoder(length=200).encode(table))
    assert a == b
    assert 0.3 < len(prompt) / len(a) < 0.7


def test_head_tail_keeps_both_ends_and_says_what_is_between() -> None:
    table = battle_table([("q", f"start {words(400)} end", f"begin {words(300)} over")])
    _, a, b = _kept(encoder(policy="head-tail").encode(table))
    assert a.startswith("start fox")
    assert a.endswith("fox end")
    assert b.startswith("begin fox")
    assert b.endswith("fox over")
    assert a.count(" …") == b.count(" …") == 1


def test_recent_keeps_the_last_round_whole() -> None:
    rounds = [(f"question {n}", words(30), words(30, "dog")) for n in range(6)]
    made = encoder(length=220, policy="recent")
    tokens = made.read(battle_table(rounds))
    encoded = made.assemble(tokens)
    text = decoded("qwen", encoded.ids[0])
    assert text.startswith("# Prompt\n")
    assert "question 5\n\n# Response A\n" + words(30) in text
    assert "question 0" not in text
    assert encoded.cut[0] > 0


def test_what_was_cut_and_what_stayed_are_all_there_was() -> None:
    made = encoder(length=100, policy="longest-first")
    tokens = made.read(battle_table([("why", words(300), words(200, "dog"))]))
    encoded = made.assemble(tokens)
    around = made.encode(battle_table([("", "", "")])).lengths[0]
    marks = 2 * len(made.tokenizer.words(made.template.cut))
    stayed = encoded.lengths[0] - around - marks
    assert stayed + encoded.cut[0] == tokens.lengths.sum()


def test_a_cut_prompt_of_single_form_takes_no_more_than_it_has_to() -> None:
    made = encoder("single", 100)
    encoded = made.encode(battle_table([(words(30, "what"), "short", words(300))]))
    assert encoded.cut[0] == 0
    assert encoded.cut[1] > 0
    assert encoded.lengths[1] == 100


def test_real_battles(shared_data: Any) -> None:
    table = read_battles(shared_data / "arena_dev.csv")[:60]
    for template in TEMPLATES:
        tokens = encoder(template).read(table)
        whole = encoder(template, 10**6).assemble(tokens, BOTH).lengths
        for policy in POLICIES:
            encoded = encoder(template, 256, policy).assemble(tokens, BOTH)
            assert encoded.lengths.max() == 256
            assert np.array_equal(encoded.cut > 0, whole > 256)
            assert np.array_equal(encoded.lengths[whole <= 256], whole[whole <= 256])
