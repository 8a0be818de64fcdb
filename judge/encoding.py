"""The text of a battle, counted and cut in a model's tokens.

    counter = load_counter("models/phi3")        # the model's own tokenizer
    counter = load_counter()                     # an estimate on the safe side
    counter.count(text), counter.head(text, 100), counter.tail(text, 100)

Whoever cuts one text more than once measures it first: `Measured` holds where each token of it
begins and ends, so a text of any length is encoded once. What `head` and `tail` give has been
counted again by itself, because a piece of a text need not have the tokens that it had in the
whole. `judge.chunking` makes conversations fit a budget with this.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from judge.context.graphemes import after_cluster, before_cluster
from judge.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BattleText:
    """A battle's turns: what was asked, and what each side answered; as many in each."""

    prompt: tuple[str, ...]
    response_a: tuple[str, ...]
    response_b: tuple[str, ...]

    def swapped(self) -> BattleText:
        """The same battle in the other order."""
        return BattleText(self.prompt, self.response_b, self.response_a)


class TokenCounter(ABC):
    """How long texts are in tokens, without the special tokens around them, and where to cut them.

    Attributes:
        exact: whether this is the model's own tokenizer, and no estimate.
    """

    exact: bool

    @abstractmethod
    def counts(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text by itself."""

    @abstractmethod
    def measure(self, texts: Sequence[str]) -> list[Measured]:
        """Each text with where its tokens are, encoded once."""

    def bound(self, text: str) -> int | None:
        """A number of tokens that the text surely does not exceed, at no cost; None for none."""
        del text
        return None

    def count(self, text: str) -> int:
        """The number of tokens of a text by itself."""
        return self.counts([text])[0]

    def head(self, text: str, tokens: int) -> str:
        """The longest beginning of whole characters found that has at most `tokens` tokens."""
        return self.measure([text])[0].head(tokens)

    def tail(self, text: str, tokens: int) -> str:
        """The longest end of whole characters found that has at most `tokens` tokens."""
        return self.measure([text])[0].tail(tokens)


class Measured:
    """A text and its tokens.

    Attributes:
        text: the text.
        count: how many tokens it has.
    """

    def __init__(
        self, text: str, count: int, counter: TokenCounter, spans: Callable[[], Iterable[Any]]
    ) -> None:
        """`spans` gives the (first, last + 1) characters of the tokens, and is asked only once."""
        self.text, self.count, self._counter, self._spans = text, count, counter, spans
        self._edges: tuple[Positions, Positions] | None = None

    def excess(self, piece: str, tokens: int) -> int:
        """By how many tokens a piece of text, counted by itself, exceeds `tokens`; 0 for none."""
        return max(0, self._counter.count(piece) - tokens)

    def head(self, tokens: int) -> str:
        """A beginning of the text that has at most `tokens` tokens."""
        return self._piece(tokens, lambda room: self.text[: self.head_end(room)])

    def tail(self, tokens: int) -> str:
        """An end of the text that has at most `tokens` tokens."""
        return self._piece(tokens, lambda room: self.text[self.tail_start(room) :])

    def head_end(self, tokens: int) -> int:
        """Where the first `tokens` tokens end, no character or grapheme split."""
        if tokens >= self.count:
            return len(self.text)
        if tokens <= 0:
            return 0
        starts, ends = self.edges
        # A character of several tokens has all of them start at it: it is left out whole.
        return before_cluster(self.text, int(min(starts[tokens], ends[tokens - 1])))

    def tail_start(self, tokens: int) -> int:
        """Where the last `tokens` tokens start, no character or grapheme split."""
        if tokens >= self.count:
            return 0
        if tokens <= 0:
            return len(self.text)
        # White space that no token covers goes with the token after it, beside which it stood.
        return after_cluster(self.text, int(self.edges[1][self.count - tokens - 1]))

    def tokens_between(self, start: int, end: int) -> int:
        """How many tokens lie wholly within the characters from `start` to before `end`."""
        if start <= 0 and end >= len(self.text):
            return self.count
        starts, ends = self.edges
        first = int(np.searchsorted(starts, start, side="left"))
        return max(0, int(np.searchsorted(ends, end, side="right")) - first)

    @property
    def edges(self) -> tuple[Positions, Positions]:
        """Two (count,) arrays that never fall: the characters that tokens start at and end before.

        Normalisers may report an order that goes back by a character; it is evened out.
        """
        if self._edges is None:
            pairs = np.array(self._spans(), dtype=np.int64).reshape(-1, 2)
            starts = np.minimum.accumulate(pairs[::-1, 0])[::-1]
            self._edges = starts, np.maximum.accumulate(pairs[:, 1])
        return self._edges

    def _piece(self, tokens: int, cut: Callable[[int], str]) -> str:
        if tokens >= self.count:
            return self.text
        return shortened(tokens, cut, lambda piece: self.excess(piece, tokens))[1]


def shortened(
    room: int, cut: Callable[[int], str], excess: Callable[[str], int]
) -> tuple[int, str]:
    """The largest room found at which what `cut` makes of it has no `excess`, and that piece.

    The room shrinks by the excess, and by ever more where that takes many attempts. It is 0 and
    the piece empty where there is no such room.
    """
    step = 1
    while room > 0:
        piece = cut(room)
        over = excess(piece)
        if not over:
            return room, piece
        room -= max(over, step // 4)
        step *= 2
    return 0, ""


# --- a tokenizer ----------------------------------------------------------------------------------

# By how much a normaliser may lengthen text in UTF-8, found over all of Unicode; ASCII it leaves as
# long as it is. One that is not here may do what it likes.
_GROWTH = {"NFC": 3, "NFD": 3, "NFKC": 11, "NFKD": 11, "Lowercase": 2, "Strip": 1}
# Characters that are put before a text or a section of it.
_PREFIX = 4


class TokenizerCounter(TokenCounter):
    """Counts with the model's own tokenizer.

    Args:
        tokenizer: one of the `tokenizers` package, or a fast one of `transformers`. It is copied:
            truncation and padding, which some models bring along, would make every count wrong.
    """

    exact = True

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer

        serialised = getattr(tokenizer, "backend_tokenizer", tokenizer).to_str()
        self._tokenizer: Tokenizer = Tokenizer.from_str(serialised)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._growth = _growth(json.loads(serialised))

    @classmethod
    def from_file(cls, file: str | Path) -> TokenizerCounter:
        """From a tokenizer.json.

        Raises:
            InputError: for a file that is no tokenizer.
        """
        from tokenizers import Tokenizer

        try:
            return cls(Tokenizer.from_file(str(file)))
        except Exception as error:  # the package raises bare Exceptions for all that can be wrong
            reason = " ".join(str(error).split())
            raise InputError(f"is no tokenizer ({reason})", file=file) from None

    def bound(self, text: str) -> int | None:
        """No token is shorter than a byte."""
        if self._growth is None:
            return None
        of_ascii, of_others = self._growth
        plain = len(text) if text.isascii() else len(text.encode("ascii", errors="ignore"))
        others = 0 if plain == len(text) else len(text.encode(errors="surrogatepass")) - plain
        return of_ascii * plain + of_others * others + _PREFIX

    def counts(self, texts: Sequence[str]) -> list[int]:
        encoded = self._tokenizer.encode_batch_fast(sound(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encoded]

    def measure(self, texts: Sequence[str]) -> list[Measured]:
        encoded = self._tokenizer.encode_batch(sound(texts), add_special_tokens=False)
        return [
            Measured(text, len(encoding), self, partial(getattr, encoding, "offsets"))
            for text, encoding in zip(texts, encoded, strict=True)
        ]


def _growth(tokenizer: dict[str, Any]) -> tuple[int, int] | None:
    """By how much normalisers lengthen ASCII and other text at most; None where nobody knows."""
    # Where short tokens part a text into sections, each may be given a prefix.
    added = tokenizer.get("added_tokens") or []
    ascii_growth = growth = 2 if any(len(token["content"]) < 3 for token in added) else 1
    waiting = [tokenizer.get("normalizer")]
    while waiting:
        part = waiting.pop()
        if part is None or part["type"] == "Prepend":
            continue
        if part["type"] == "Sequence":
            waiting += part["normalizers"]
        elif part["type"] in _GROWTH:
            growth *= _GROWTH[part["type"]]
        elif part["type"] == "Replace" and part["pattern"].get("String"):
            # A space becomes U+2581, which is a token at most, as a space is.
            more = max(1, -(-len(part["content"]) // len(part["pattern"]["String"])))
            ascii_growth, growth = ascii_growth * more, growth * more
        else:
            return None
    return ascii_growth, growth


_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def sound(texts: Sequence[str]) -> list[str]:
    """Texts that can be encoded at all; as many characters, so that positions stay."""
    try:
        for text in texts:
            if not text.isascii():
                text.encode()
    except UnicodeEncodeError:
        return [_LONE_SURROGATES.sub("\ufffd", text) for text in texts]
    return list(texts)


# --- an estimate ----------------------------------------------------------------------------------

# An estimate is a sum over characters in twelfths of a token, so that no rounding creeps in.
_TOKEN = 12
_LOWER, _UPPER, _DIGIT, _SPACE, _BREAK, _SIGN = range(6)
_ASCII = np.array(
    [
        _BREAK if chr(code) in "\n\r\t\v\f"
        else _SPACE if chr(code) == " "
        else _DIGIT if chr(code).isdigit()
        else _UPPER if chr(code).isupper()
        else _LOWER if chr(code).islower()
        else _SIGN
        for code in range(128)
    ]
)  # fmt: skip
# What a character costs by itself, and as one more of a run of its kind (letters: of a word;
# anything else: of the very same character).
_ALONE = np.array([12, 12, 12, 0, 12, 12])
_IN_RUN = np.array([2, 7, 12, 2, 4, 6])
# What a letter costs from this one on in a run of letters: no word is so long, it is random text.
_LONG_RUN, _IN_LONG_RUN = 15, 8
# Beyond ASCII, by script: from which code point on, and twelfths of a token a character.
_SCRIPTS = (
    (0x80, 14),  # Latin with marks
    (0x250, 18),
    (0x370, 14),  # Greek
    (0x400, 9),  # Cyrillic
    (0x530, 14),  # Armenian, Hebrew, Arabic, Syriac
    (0x900, 24),  # the scripts of India and South-East Asia, Georgian, Ethiopic
    (0x1E00, 16),  # Vietnamese, old Greek
    (0x2000, 20),  # signs
    (0x2150, 36),  # numerals, circled letters
    (0x2500, 20),
    (0x2E80, 16),  # Chinese, Japanese, Korean
    (0xA000, 36),  # Yi and rarer ones
    (0xAC00, 20),  # Hangul
    (0xD7B0, 36),
    (0xF900, 16),  # more Chinese
    (0xFB00, 24),
    (0xFF00, 16),  # full-width forms
    (0x10000, 48),
    (0x1F1E6, 36),  # flags, emoji
    (0x20000, 48),
)
_FROM = np.array([start for start, _ in _SCRIPTS])
_COST = np.array([cost for _, cost in _SCRIPTS])


class EstimatingCounter(TokenCounter):
    """Counts without a tokenizer, by words, digits, signs and scripts; rather too many than few.

    Args:
        safety: what the estimate is multiplied by, for a model known to need more or fewer tokens.
    """

    exact = False

    def __init__(self, safety: float = 1.0) -> None:
        if not safety > 0:
            raise ValueError("safety must be above 0")
        self._token = max(1, round(_TOKEN / safety * 100))

    def bound(self, text: str) -> int | None:
        """What the text would be if every character were of the dearest kind."""
        dearest = int(_ALONE.max() if text.isascii() else _COST.max())
        return -(-len(text) * dearest * 100 // self._token)

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [self._tokens(self._costs(text)) for text in texts]

    def measure(self, texts: Sequence[str]) -> list[Measured]:
        measured = []
        for text in texts:
            costs = self._costs(text)
            spans = partial(self._spans, costs)
            measured.append(Measured(text, self._tokens(costs), self, spans))
        return measured

    def _tokens(self, costs: Positions) -> int:
        return -(-int(costs.sum()) // self._token)

    def _costs(self, text: str) -> Positions:
        """What each character adds, in hundredths of twelfths; depends on what stands before."""
        codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
        kinds = _ASCII[np.minimum(codes, 127)]
        letters = (kinds == _LOWER) | (kinds == _UPPER)
        same = codes[1:] == codes[:-1]
        # A capital after a small letter begins a word, as in camelCase.
        word = letters[1:] & letters[:-1] & ((kinds[1:] == _LOWER) | (kinds[:-1] == _UPPER))
        costs = _ALONE[kinds]
        at = np.arange(len(codes))
        run = at - np.maximum.accumulate(np.where(letters, 0, at + 1))
        costs[1:] = np.where(word | (same & ~letters[1:]), _IN_RUN[kinds[1:]], costs[1:])
        costs[run >= _LONG_RUN] = _IN_LONG_RUN
        beyond = codes > 127
        if beyond.any():
            costs[beyond] = _COST[np.searchsorted(_FROM, codes[beyond], side="right") - 1]
        scaled: Positions = costs.astype(np.int64) * 100
        return scaled

    def _spans(self, costs: Positions) -> Iterable[Any]:
        """The token that a character's cost falls into covers it, as where tokens are real."""
        until = np.cumsum(costs)
        marks = np.arange(self._tokens(costs)) * self._token
        starts = np.searchsorted(until, marks, side="right")
        ends = np.searchsorted(until, np.minimum(marks + self._token, until[-1:]), side="left") + 1
        return np.stack([starts, ends], axis=1)


# --- finding one ----------------------------------------------------------------------------------


def load_counter(source: str | Path | None = None) -> TokenCounter:
    """The counter for a model, from what of it is on this machine; nothing is downloaded.

    Args:
        source: a tokenizer.json, a model folder, or a model's name, which is looked for where
            downloaded models are kept. None, or a name that is not there, gives an estimate.

    Raises:
        InputError: a file or folder that has no tokenizer, or a package that is missing.
    """
    if source is None:
        return EstimatingCounter()
    path = Path(source)
    if not path.exists():
        if isinstance(source, Path) or path.suffix == ".json":
            raise InputError("not found", file=path, mend="name a tokenizer.json or a model folder")
        found = _downloaded(str(source))
        return TokenizerCounter.from_file(found) if found else EstimatingCounter()
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        raise InputError(
            "needs the package tokenizers to be read", file=path, mend="pip install tokenizers"
        ) from None
    if path.is_file():
        return TokenizerCounter.from_file(path)
    if (path / "tokenizer.json").is_file():
        return TokenizerCounter.from_file(path / "tokenizer.json")
    return _converted(path)


def _downloaded(name: str) -> Path | None:
    try:
        import tokenizers  # noqa: F401
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "tokenizer.json")
    except (ImportError, ValueError):  # not installed; no name that a model could have
        return None
    return Path(found) if isinstance(found, str) else None


def _converted(folder: Path) -> TokenizerCounter:
    """From the files of a slow tokenizer, such as tokenizer.model, which transformers converts."""
    try:
        transformers = import_module("transformers")
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except ImportError as error:
        missing = getattr(error, "name", None) or "transformers"
        mend = f"pip install {missing}, or put the model's tokenizer.json there"
        raise InputError("has no tokenizer.json", file=folder, mend=mend) from None
    except Exception as error:  # whatever the files of a stranger's model make it raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"has no tokenizer that can be read ({reason})", file=folder) from None
    if not hasattr(tokenizer, "backend_tokenizer"):
        mend = "put the model's tokenizer.json there"
        raise InputError("has only a slow tokenizer", file=folder, mend=mend)
    return TokenizerCounter(tokenizer)
