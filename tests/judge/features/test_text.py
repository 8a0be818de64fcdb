"""Tokens, their hashes and what is counted of them, against a tokenizer in plain Python."""

from __future__ import annotations

import math
import sys
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.features.extraction import extract
from judge.features.text import TextBatch, read_batch

Turns = tuple[str, ...]
Battle = tuple[Turns, Turns, Turns]
Spell = Callable[[TextBatch], list[list[str]]]

LINE_BREAKS = "\n\r\x0b\x0c\x85\u2028\u2029\x1e"
APOSTROPHES = "'’ʼ＇"
STOPS = ".!?。！？…؟।॥։"

# What rules of tokens turn on, so that hypothesis need not find it among a million characters.
PIECES = (
    "a", "B", "Ÿ", "ß", "İ", "ſ", "ǅ", "e\u0301", "\u0301", "ж", "Ω", "ʼ", "’", "'", "''", "＇",
    " ", "\t", "\u00a0", "\u200b", "\u200d", "\0", "\x1e", "\x1f", "\n", "\n\n", "\u2028",
    "1", "23", "½", "٣", "Ⅷ", "漢", "字", "か", "カ", "ー", "々", "ｶ", "한국", "عربي", "ה",
    "हि", "ไทย", "😀", "👩\u200d👩\u200d👧", "🇩🇪", ".", "...", "!", "?", "。", "؟", "-", "--",
    "#", "```", "**", "_", "€", "+", "\ufffd", "\ue000", "\U0010ffff", "\ufeff",
)  # fmt: skip
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.lists(st.sampled_from(PIECES) | CHARACTERS, max_size=25).map("".join)
TURNS = st.lists(TEXT, min_size=1, max_size=3).map(tuple)
BATTLES = st.lists(st.tuples(TURNS, TURNS, TURNS), min_size=1, max_size=4)


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if character in LINE_BREAKS:
        return "line"
    if category in ("Zs", "Cc", "Cf", "Cn"):
        return "space"
    if character in APOSTROPHES:
        return "mark"
    if category[0] in "LM":
        alone = ("CJK", "IDEOGRAPH", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")
        return "alone" if unicodedata.name(character, "").startswith(alone) else "letter"
    return "digit" if category[0] == "N" else "mark"


def _form(character: str) -> str:
    """A character as tokens spell it."""
    if _kind(character) == "line":
        return "\n"
    if character in APOSTROPHES:
        return "'"
    lower = character.lower()
    return lower if _kind(character) == "letter" and len(lower) == 1 else character


def _spans(text: str) -> list[tuple[str, int, int]]:
    """The tokens of a text and where they stand: runs of letters (with an apostrophe between two),
    of digits, of line breaks and of one mark; ideographs and kana by themselves; nothing else."""
    kinds, forms = [_kind(c) for c in text], [_form(c) for c in text]
    spans, place = [], 0
    while place < len(text):
        start, kind = place, kinds[place]
        place += 1
        while place < len(text) and kind not in ("alone", "space"):
            held = kinds[place] == kind and (kind != "mark" or forms[place] == forms[start])
            if kind == "letter" and forms[place] == "'":
                held = kinds[place - 1] == "letter" and kinds[place + 1 : place + 2] == ["letter"]
            if not held:
                break
            place += 1
        if kind != "space":
            spans.append(("".join(forms[start:place]), start, place))
    return spans


def _expected(text: str) -> list[str]:
    return [token for token, _, _ in _spans(text)]


def _sentences(text: str) -> int:
    """How many tokens open a sentence: the first of a line, and what follows a stop and a space, or
    a stop as wide as an ideograph, which needs none."""
    spans, opening = _spans(text), 0
    for (before, _, end), (token, start, _) in zip([("\n", 0, 0), *spans], spans, strict=False):
        stopped = before[0] in STOPS and (start > end or before[0] > "\u2fff")
        opening += token[0] != "\n" and (before[0] == "\n" or stopped)
    return opening


def _read(*battles: Battle) -> TextBatch:
    prompts, first, second = zip(*battles, strict=True)
    return read_batch(prompts, first, second)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \t\u00a0\u200b\0", []),
        ("Hello, World!", ["hello", ",", "world", "!"]),
        ("don't 'quote' rock'n'roll", ["don't", "'", "quote", "'", "rock'n'roll"]),
        ("dogs' '' '90s", ["dogs", "'", "''", "'", "90", "s"]),
        ("wait... what?! --- ok", ["wait", "...", "what", "?", "!", "---", "ok"]),
        ("a\n\n\nb\rc\x1ed", ["a", "\n\n\n", "b", "\n", "c", "\n", "d"]),
        ("x2 3.14 1,000", ["x", "2", "3", ".", "14", "1", ",", "000"]),
        ("snake_case C++ #1", ["snake", "_", "case", "c", "++", "#", "1"]),
        ("日本語とカナ", list("日本語とカナ")),
        ("한국어 문장", ["한국어", "문장"]),
        ("مرحبا بالعالم؟", ["مرحبا", "بالعالم", "؟"]),
        ("ÉCOLE e\u0301cole STRASSE straße", ["école", "e\u0301cole", "strasse", "straße"]),
        ("😀😀👍 1️⃣", ["😀😀", "👍", "1", "\ufe0f\u20e3"]),
    ],
)  # fmt: skip
def test_tokens_of_known_texts(spell: Spell, text: str, tokens: list[str]) -> None:
    assert _expected(text) == tokens
    assert spell(_read((("",), (text,), ("",)))) == [[], tokens, []]


@settings(deadline=None, max_examples=200)
@given(BATTLES)
def test_tokens_are_those_of_the_plain_tokenizer(spell: Spell, battles: list[Battle]) -> None:
    batch = _read(*battles)
    documents = [text for role in zip(*battles, strict=True) for text in role]
    # Document by document, so a token that crossed into the next would show in both.
    assert spell(batch) == [_expected("\n\n".join(turns)) for turns in documents]


@settings(deadline=None, max_examples=50)
@given(BATTLES)
def test_tokens_have_one_hash_exactly_when_they_are_spelled_alike(
    spell: Spell, battles: list[Battle]
) -> None:
    batch = _read(*battles)
    spelled = [token for document in spell(batch) for token in document]
    pairs = set(zip(spelled, batch.hashes.tolist(), strict=True))
    assert len(pairs) == len(set(spelled)) == len({code for _, code in pairs})


def test_hashes_of_many_tokens_do_not_collide(spell: Spell) -> None:
    words = [f"{a}{b}{c}" for a in "abcdefghijklmnop" for b in "aeiou" for c in "rstuvwxyz"]
    near = ["ab", "ba", "a", "aa", "aaa", "b", "日", "本", *"0123456789", "10", "01", "."]
    runs = ["." * n for n in range(2, 40)] + ["z" * n for n in range(1, 300)]
    batch = _read(((" ".join(words),), (" ".join(near),), (" ".join(runs),)))
    spelled = {token for document in spell(batch) for token in document}
    assert len(set(batch.hashes.tolist())) == len(spelled)


@pytest.mark.parametrize("spelled", ["CAN'T", "can’t", "canʼt", "can＇t"])
def test_case_and_the_kind_of_apostrophe_do_not_matter(spelled: str) -> None:
    batch = _read((("can't",), (spelled,), ("cant",)))
    plain, other, without = batch.hashes.tolist()
    assert plain == other != without


@settings(deadline=None, max_examples=50)
@given(BATTLES, TEXT)
def test_a_text_is_read_alike_wherever_it_stands(battles: list[Battle], text: str) -> None:
    alone = _read(((text,), ("",), ("",)))
    among = _read(*battles, (("",), (text,), ("",)))
    document = 2 * len(battles) + 1  # the last of the responses A
    start, end = among.token_documents[document : document + 2].tolist()
    assert among.hashes[start:end].tolist() == alone.hashes.tolist()
    assert among.token_kinds[start:end].tolist() == alone.token_kinds.tolist()


@settings(deadline=None, max_examples=50)
@given(BATTLES)
def test_documents_and_last_turns_are_where_they_stand(battles: list[Battle]) -> None:
    batch = _read(*battles)
    documents = [text for role in zip(*battles, strict=True) for text in role]
    documents = [tuple(turn.replace("\r\n", "\n") for turn in text) for text in documents]
    assert np.diff(batch.documents).tolist() == [len("\n\n".join(t)) + 1 for t in documents]
    lasts = batch.documents[1:] - 1 - batch.last_turns
    assert lasts.tolist() == [len(turns[-1]) for turns in documents]


@settings(deadline=None, max_examples=100)
@given(TEXT)
def test_words_sentences_and_characters_are_counted_by_document(text: str) -> None:
    found = extract([("q",)], [(text,)], [("Two words. And a second sentence",)])
    names = found.names["responsiveness"]
    value = dict(zip(names, found.responses["responsiveness"][:, 0].T.tolist(), strict=True))
    words = sum(_kind(token[0]) in ("letter", "alone") for token in _expected(text))
    assert value["log_words"] == pytest.approx([math.log1p(words), math.log1p(6)])
    read = text.replace("\r\n", "\n")
    assert value["length"] == pytest.approx([math.log1p(len(read)), math.log1p(32)])
    place = found.names["clarity"].index("words_per_sentence")
    per_sentence = found.responses["clarity"][:, 0, place].tolist()
    expected = math.log1p(words / max(_sentences(text), 1))
    assert per_sentence == pytest.approx([expected, math.log1p(3)])


def test_nothing_is_read_of_nothing(spell: Spell) -> None:
    batch = _read((("",), ("",), ("",)))
    assert spell(batch) == [[], [], []]
    assert batch.words.tolist() == batch.sentences.tolist() == batch.characters.tolist() == [0] * 3


def test_no_battles_make_an_empty_batch(spell: Spell) -> None:
    batch = read_batch([], [], [])
    assert batch.battles == len(batch.hashes) == 0
    assert spell(batch) == []


def test_a_lone_surrogate_is_read_as_a_mark(spell: Spell) -> None:
    assert len(spell(_read((("a\ud83db",), ("",), ("",))))[0]) == 3


def test_threads_read_batches_of_growing_size_alike() -> None:
    texts = [chr(0x4E00 + size) + f" word{size} ABC" * (1 << size) for size in range(15)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda text: _read(((text,), ("",), ("",))), texts))
    finally:
        sys.setswitchinterval(interval)
    for text, batch in zip(texts, read, strict=True):
        assert batch.hashes.tolist() == _read(((text,), ("",), ("",))).hashes.tolist()
