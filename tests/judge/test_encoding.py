"""Counting and cutting in tokens: never too many, no character split, whatever the text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from judge.encoding import (
    BattleText,
    EstimatingCounter,
    TokenCounter,
    TokenizerCounter,
    load_counter,
)
from judge.errors import InputError

tokenizers = pytest.importorskip("tokenizers")

EXAMPLES = Path(__file__).parents[2] / "examples" / "battles.csv"


def _trained(kind: str):  # type: ignore[no-untyped-def]
    """A small tokenizer of each of the sorts that models have, trained on the examples."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    lines = EXAMPLES.read_text(encoding="utf-8").splitlines()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=900, initial_alphabet=alphabet, special_tokens=["<|end|>"]
        )
    elif kind == "sentencepiece":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        tokenizer.decoder = decoders.ByteFallback()
        octets = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=1100, special_tokens=["<unk>", *octets])
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=["[UNK]"])
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    return tokenizer


COUNTERS: dict[str, TokenCounter] = {
    kind: TokenizerCounter(_trained(kind)) for kind in ("byte-level", "sentencepiece", "wordpiece")
} | {"estimate": EstimatingCounter()}

CLUSTERS = ["👩‍👩‍👧", "👍🏽", "🇩🇪", "e\u0301", "\r\n", "각", "नि", "❤️"]
PIECES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [*CLUSTERS, "今天的天气很好。", "Hello, world! ", "  \n\n", "<|end|>", "<0x0A>", "aaaaaaaa"]
    ),
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@pytest.fixture(params=list(COUNTERS))
def counter(request: pytest.FixtureRequest) -> TokenCounter:
    return COUNTERS[request.param]


@pytest.mark.parametrize("name", COUNTERS)
@settings(deadline=None, max_examples=100)
@given(TEXTS, st.integers(-1, 60))
@example("🇩🇪" * 9, 10)
@example("a" + "\u0301" * 500, 7)
def test_a_piece_is_an_end_of_the_text_and_never_too_long(name: str, text: str, n: int) -> None:
    counter = COUNTERS[name]
    head, tail = counter.head(text, n), counter.tail(text, n)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert counter.count(head) <= max(n, 0)
    assert counter.count(tail) <= max(n, 0)
    if counter.count(text) <= n:
        assert head == tail == text


@pytest.mark.parametrize("name", COUNTERS)
@settings(deadline=None, max_examples=100)
@given(TEXTS)
def test_the_bound_holds_and_measuring_counts_the_same(name: str, text: str) -> None:
    counter = COUNTERS[name]
    [measured] = counter.measure([text])
    assert measured.count == counter.count(text) == counter.counts(["x", text])[1]
    starts, ends = measured.edges
    assert len(starts) == len(ends) == measured.count
    assert (starts[1:] >= starts[:-1]).all()
    assert (ends <= len(text)).all()
    bound = counter.bound(text)
    assert bound is None or bound >= measured.count


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_what_is_read_as_one_character_is_kept_or_left_out_whole(
    counter: TokenCounter, cluster: str
) -> None:
    text = f"x{cluster * 12}y"
    for n in range(counter.count(text) + 1):
        head, tail = counter.head(text, n), counter.tail(text, n)
        assert head in (text, "") or len(head[1:]) % len(cluster) == 0
        assert tail in (text, "") or len(tail[:-1]) % len(cluster) == 0


@pytest.mark.parametrize("name", ["byte-level", "sentencepiece"])
def test_cuts_in_running_text_use_what_they_may(name: str) -> None:
    counter = COUNTERS[name]
    text = EXAMPLES.read_text(encoding="utf-8")[:4000]
    for n in (10, 50, 200):
        assert n - 3 <= counter.count(counter.head(text, n)) <= n
        assert n - 3 <= counter.count(counter.tail(text, n)) <= n


def test_truncation_and_padding_of_the_model_do_not_count() -> None:
    tokenizer = _trained("byte-level")
    counter = TokenizerCounter(tokenizer)
    assert counter.count("word " * 500) >= 500
    assert counter.count("") == 0
    assert len(tokenizer.encode("a").ids) == 16  # the caller's own is as it was


def test_a_lone_surrogate_is_counted_and_not_an_error(counter: TokenCounter) -> None:
    text = "a\ud800b" * 20
    assert counter.count(text) > 0
    assert text.startswith(counter.head(text, 5))


@pytest.mark.slow
def test_a_megabyte_in_one_line(counter: TokenCounter) -> None:
    for text in ("a" * 1_000_000, "word " * 200_000):
        [measured] = counter.measure([text])
        for n in (1, 100, 4000):
            assert counter.count(measured.head(n)) <= n
            assert counter.count(measured.tail(n)) <= n


# --- the estimate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10, 15),
        ("今天的天气很好，我们一起去公园散步吧。", 19, 28),
        ("これは日本語の文章です。", 9, 17),
        ("안녕하세요. 오늘은 날씨가 좋습니다.", 18, 30),
        ("1234567890", 5, 10),
        ("👍" * 10, 20, 40),
        ("\n" * 12, 1, 6),
        ("", 0, 0),
    ],
)
def test_an_estimate_is_about_right_by_script(text: str, least: int, most: int) -> None:
    assert least <= EstimatingCounter().count(text) <= most


def test_an_estimate_is_rather_too_high(shared_data: Path) -> None:
    from judge.battles import read_battles

    battles = read_battles(shared_data / "arena_dev.csv").head(300)
    texts = [turn for turns in battles["response_a"] for turn in turns if len(turn) > 100]
    words = [len(text.split()) for text in texts]
    estimates = EstimatingCounter().counts(texts)
    # No tokenizer in use needs fewer tokens than words, save for code and rows of signs.
    assert sum(e >= w for e, w in zip(estimates, words, strict=True)) >= 0.99 * len(texts)


def test_safety_scales_the_estimate() -> None:
    text = EXAMPLES.read_text(encoding="utf-8")
    plain, careful = EstimatingCounter().count(text), EstimatingCounter(safety=1.5).count(text)
    assert careful == pytest.approx(1.5 * plain, rel=0.01)
    with pytest.raises(ValueError, match="safety"):
        EstimatingCounter(safety=0)


# --- finding one ----------------------------------------------------------------------------------


def test_the_model_s_own_tokenizer_is_found_in_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    _trained("byte-level").save(str(file))
    text = "Tokens of the model's own."
    for source in (file, tmp_path, str(tmp_path)):
        counter = load_counter(source)
        assert counter.exact
        assert counter.count(text) == COUNTERS["byte-level"].count(text)


def test_without_a_tokenizer_there_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not load_counter().exact
    assert not load_counter("nobody/has-this-model-here").exact
    assert not load_counter("gpt-4o-mini").exact
    assert not load_counter("a name: with/things/that no model/has").exact


def _broken(folder: Path) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps({"model": "none"}))
    return folder


def _missing(folder: Path) -> Path:
    return folder / "nothing" / "tokenizer.json"


def _without(folder: Path) -> Path:
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("made", [_broken, _missing, _without])
def test_what_is_no_tokenizer_is_one_line(made: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_counter(made(tmp_path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_swapping_a_battle_s_text() -> None:
    texts = BattleText(("q",), ("a",), ("b",))
    assert texts.swapped() == BattleText(("q",), ("b",), ("a",))
    assert unicodedata.normalize("NFC", texts.swapped().swapped().prompt[0]) == "q"
