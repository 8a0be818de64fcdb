"""A batch of battles as arrays: characters, words, sentences and lines, found once for everything.

Everything a feature needs is computed with numpy over the concatenated text of a batch, so the cost
a battle is a few array passes and no Python loop. The rules know Unicode's classes and no language:
letters run together into words, ideographs and kana stand alone, runs of one punctuation mark are
one token, line breaks are tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

# Kinds of characters. Letters have the lowest numbers so that "is a letter" is one comparison.
LOWER, UPPER, LETTER, IDEOGRAPH, DIGIT, STOP, PUNCTUATION, SYMBOL, LINE, SPACE = range(10)
_KINDS = 10
_UNSEEN = 255

TURN_BREAK = "\n\n"
# More than any conversation has, and little enough that no single battle fills the memory.
LONGEST_DOCUMENT = 1 << 20
_DOCUMENT_BREAK = "\x1e"
_STOPS = frozenset(".!?。！？…؟।॥։")
_APOSTROPHES = "'’ʼ＇"

_kinds: Bytes | None = None
_lower: npt.NDArray[np.uint32] | None = None


def _classify(code: int) -> tuple[int, int]:
    """The kind and the lower-case form of one code point."""
    character = chr(code)
    if character in "\n\r\x0b\x0c\x85\u2028\u2029\x1e":
        return LINE, ord("\n")
    # Before the letters: Unicode counts one of the apostrophes among them.
    if character in _APOSTROPHES:
        return PUNCTUATION, ord("'")
    category = unicodedata.category(character)
    if category in ("Zs", "Cc", "Cf", "Cn"):
        return SPACE, ord(" ")
    if category[0] in "LM":
        lowered = character.lower()
        low = ord(lowered) if len(lowered) == 1 else code
        name = unicodedata.name(character, "")
        if name.startswith(("CJK", "IDEOGRAPH", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")):
            return IDEOGRAPH, code
        return {"Ll": LOWER, "Lu": UPPER}.get(category, LETTER), low
    if category[0] == "N":
        return DIGIT, code
    if character in _STOPS:
        return STOP, code
    return (PUNCTUATION if category[0] == "P" else SYMBOL), code


def _character_tables(codes: npt.NDArray[np.uint32]) -> tuple[Bytes, npt.NDArray[np.uint32]]:
    """The tables of kinds and lower-case forms, filled in for the code points in `codes`.

    Classifying all 1.1 million code points would take most of a second; a text holds a few hundred.
    """
    global _kinds, _lower
    if _kinds is None or _lower is None:
        _lower = np.arange(0x110000, dtype=np.uint32)
        _kinds = np.full(0x110000, _UNSEEN, dtype=np.uint8)
    unseen = codes[_kinds[codes] == _UNSEEN]
    for code in np.unique(unseen).tolist():
        kind, low = _classify(code)
        _lower[code] = low
        _kinds[code] = kind
    return _kinds, _lower


_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_powers: tuple[Hashes, Hashes] | None = None


def _power_tables(size: int) -> tuple[Hashes, Hashes]:
    """Powers of the hash's base and of its inverse modulo 2^64, at least `size` of each."""
    global _powers
    if _powers is None or len(_powers[0]) < size:
        tables = []
        for base in (_BASE, _INVERSE):
            table = np.full(max(size, 1 << 16), base, dtype=np.uint64)
            table[0] = 1
            tables.append(np.multiply.accumulate(table))
        # Another thread may put smaller tables there at any time: what is returned is ours.
        _powers = made = (tables[0], tables[1])
        return made
    return _powers


def mix(hashes: Hashes) -> Hashes:
    """Spreads every bit over the whole word (the finaliser of splitmix64, Steele et al. 2014)."""
    z = hashes ^ (hashes >> np.uint64(30))
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


@dataclass(frozen=True)
class TextBatch:
    """The texts of N battles: 3N documents, first the prompts, then responses A, then responses B.

    Attributes:
        battles: N.
        codes: (C,) lower-case code points of all documents.
        kinds: (C,) what each character is (`LOWER` ... `SPACE`).
        documents: (3N + 1,) where each document starts in `codes`; a separator ends each.
        last_turns: (3N,) where each document's last turn starts.
        starts, ends: (T,) the tokens' places in `codes`.
        hashes: (T,) a 64-bit hash of each token's lower-case text.
        token_kinds: (T,) the kind of each token's first character.
        token_documents: (3N + 1,) where each document's tokens start.
    """

    battles: int
    codes: npt.NDArray[np.uint32]
    kinds: Bytes
    documents: Ints
    last_turns: Ints
    starts: Ints
    ends: Ints
    hashes: Hashes
    token_kinds: Bytes
    token_documents: Ints

    @cached_property
    def document_of(self) -> Ints:
        """(T,) which document each token is of."""
        return np.repeat(np.arange(3 * self.battles), np.diff(self.token_documents))

    @cached_property
    def token_place(self) -> Ints:
        """(T,) how many tokens of its document stand before each token."""
        return np.arange(len(self.hashes)) - self.token_documents[:-1][self.document_of]

    @cached_property
    def lengths(self) -> Ints:
        """(T,) characters of each token."""
        return self.ends - self.starts

    @cached_property
    def is_word(self) -> Bools:
        """(T,) letters or an ideograph."""
        return self.token_kinds <= IDEOGRAPH

    @cached_property
    def characters(self) -> Floats:
        """(3N,) characters of each document."""
        return (np.diff(self.documents) - 1).astype(np.float64)

    @cached_property
    def words(self) -> Floats:
        """(3N,) words of each document."""
        return self.count(self.is_word)

    @cached_property
    def line_starts(self) -> Bools:
        """(T,) tokens that open a line."""
        opens = np.zeros(len(self.hashes), dtype=bool)
        opens[1:] = self.token_kinds[:-1] == LINE
        opens[self.token_documents[:-1][np.diff(self.token_documents) > 0]] = True
        return np.asarray(opens & (self.token_kinds != LINE))

    @cached_property
    def sentence_starts(self) -> Bools:
        """(T,) tokens that open a sentence: the first of a line, or after a stop and a space."""
        after = np.zeros(len(self.hashes), dtype=bool)
        spaced = self.starts[1:] > self.ends[:-1]
        wide = self.codes[self.starts[:-1]] > 0x2FFF
        after[1:] = (self.token_kinds[:-1] == STOP) & (spaced | wide)
        return np.asarray((after | self.line_starts) & (self.token_kinds != LINE))

    @cached_property
    def sentences(self) -> Floats:
        """(3N,) sentences of each document."""
        return self.count(self.sentence_starts)

    @cached_property
    def _ngrams(self) -> list[Hashes]:
        return [self.hashes]

    def ngrams(self, size: int) -> Hashes:
        """(T,) hash of each run of `size` tokens, by its first token. A run that leaves its
        document means nothing: `whole` tells which do not."""
        while len(self._ngrams) < size:
            step = len(self._ngrams)
            following = np.roll(self.hashes, -step)
            self._ngrams.append(mix(self._ngrams[-1] * _BASE + following))
        return self._ngrams[size - 1]

    def whole(self, size: int) -> Bools:
        """(T,) tokens whose run of `size` tokens ends within the document."""
        ends = self.token_documents[1:][self.document_of]
        return np.arange(len(self.hashes)) + size <= ends

    def prompts(self, values: Floats) -> Floats:
        """(N,) the prompts' part of a value for each document."""
        return values[: self.battles]

    def responses(self, values: Floats) -> Floats:
        """(2, N) the responses' part of a value for each document: A, then B."""
        return values[self.battles :].reshape(2, self.battles)

    def count(self, tokens: npt.NDArray[np.generic]) -> Floats:
        """(3N,) sum over each document of a value for each token, shape (T,)."""
        return _segment_sums(tokens, self.token_documents)

    def count_characters(self, characters: Bools) -> Floats:
        """(3N,) how many of the chosen characters, shape (C,), each document has."""
        # Every document has a character, if only its separator, as `reduceat` requires.
        counts = np.add.reduceat(characters, self.documents[:-1], dtype=np.int64)
        return counts.astype(np.float64)

    def characters_of(self, *kinds: int) -> Floats:
        """(3N,) how many characters of the kinds each document has."""
        return np.asarray(self._kind_counts[:, list(kinds)].sum(axis=1))

    @cached_property
    def _kind_counts(self) -> Floats:
        documents = 3 * self.battles
        cell = np.repeat(np.arange(documents) * _KINDS, np.diff(self.documents))
        counts = np.bincount(cell + self.kinds, minlength=documents * _KINDS)
        return counts.reshape(documents, _KINDS).astype(np.float64)


def _segment_sums(values: npt.NDArray[np.generic], bounds: Ints) -> Floats:
    exact = np.int64 if values.dtype.kind in "bui" else np.float64
    running = np.zeros(len(values) + 1, dtype=exact)
    np.cumsum(values, dtype=exact, out=running[1:])
    return np.asarray(running[bounds[1:]] - running[bounds[:-1]], dtype=np.float64)


def read_batch(
    prompts: Sequence[tuple[str, ...]],
    responses_a: Sequence[tuple[str, ...]],
    responses_b: Sequence[tuple[str, ...]],
) -> TextBatch:
    """Reads N battles, each text as a tuple of turns, into one batch."""
    turns = [*prompts, *responses_a, *responses_b]
    if any("\r" in turn for text in turns for turn in text):
        turns = [tuple(turn.replace("\r\n", "\n") for turn in text) for text in turns]
    texts = [_document(text) for text in turns]
    joined = _DOCUMENT_BREAK.join([*texts, ""])
    raw = np.frombuffer(joined.encode("utf-32-le", "replace"), dtype=np.uint32)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    documents = np.concatenate([[0], np.cumsum(lengths + 1)])
    last = np.fromiter((len(text[-1]) for text in turns), dtype=np.int64, count=len(turns))
    last = np.minimum(last, lengths)
    table_of_kinds, table_of_lower = _character_tables(raw)
    kinds, codes = table_of_kinds[raw], table_of_lower[raw]
    starts, ends = _tokens(codes, kinds, documents)
    return TextBatch(
        battles=len(prompts),
        codes=codes,
        kinds=kinds,
        documents=documents,
        last_turns=documents[1:] - 1 - last,
        starts=starts,
        ends=ends,
        hashes=_token_hashes(codes, starts, ends),
        token_kinds=kinds[starts],
        token_documents=np.searchsorted(starts, documents),
    )


def _document(turns: tuple[str, ...]) -> str:
    """The turns as one text; of one beyond a million characters, the beginning and the end."""
    text = turns[0] if len(turns) == 1 else TURN_BREAK.join(turns)
    if len(text) <= LONGEST_DOCUMENT:
        return text
    half = LONGEST_DOCUMENT // 2
    return text[:half] + text[-half:]


def _tokens(codes: npt.NDArray[np.uint32], kinds: Bytes, documents: Ints) -> tuple[Ints, Ints]:
    """Where tokens start and end; the separators between documents are no tokens."""
    if not len(codes):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    group = kinds.copy()
    group[group <= LETTER] = LETTER
    inner = np.flatnonzero(codes[1:-1] == ord("'")) + 1
    inner = inner[(group[inner - 1] == LETTER) & (group[inner + 1] == LETTER)]
    group[inner] = LETTER
    group[documents[1:] - 1] = SPACE
    same = group[1:] == group[:-1]
    # Runs of letters and of digits hold together whatever the letters; a run of marks only while
    # the mark repeats, and each ideograph is a token of its own.
    loose = (group[1:] == LETTER) | (group[1:] == DIGIT) | (codes[1:] == codes[:-1])
    joined = same & loose & (group[1:] != IDEOGRAPH)
    breaks = np.concatenate([[0], np.flatnonzero(~joined) + 1, [len(codes)]])
    starts, ends = breaks[:-1], breaks[1:]
    kept = group[starts] != SPACE
    return starts[kept], ends[kept]


def _token_hashes(codes: npt.NDArray[np.uint32], starts: Ints, ends: Ints) -> Hashes:
    """A polynomial hash of each token from one running sum over the whole text: the base is odd, so
    it has an inverse modulo 2^64 that takes a token's place in the text out of its hash."""
    powers, inverses = _power_tables(len(codes) + 1)
    running = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes.astype(np.uint64) * powers[: len(codes)], out=running[1:])
    return mix((running[ends] - running[starts]) * inverses[starts])
