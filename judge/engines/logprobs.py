"""Log-probabilities as bytes, in which a ledger keeps them: half the room that JSON takes, a
quarter of the time to write, and next to none to read until somebody looks at them.

Numbers first: how many tokens there are, how many likely ones each has, the log-probabilities of
the tokens and then of the likely ones, all little-endian. Then the tokens and the likely ones as
UTF-8, with a separator between them. What has the separator in a token is kept as JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, overload

from judge.engines.base import TokenChoice

try:  # four times as fast; not every engine brings it
    import orjson

    _loads: Callable[[str], Any] = orjson.loads
except ImportError:
    _loads = json.loads

_SEPARATOR = "\x1f"  # "unit separator": hardly a model says it
# As `TokenChoice._make` does, without a step through Python for each.
_choice: Callable[[Any], TokenChoice] = partial(tuple.__new__, TokenChoice)


def packed(choices: Sequence[TokenChoice]) -> bytes | str:
    """The choices, to be kept."""
    if isinstance(choices, Kept):
        return choices.data
    tokens = [choice.token for choice in choices]
    values = [choice.logprob for choice in choices]
    tops = [choice.top for choice in choices]
    likely = [token for top in tops for token, _ in top]
    text = _SEPARATOR.join(chain(tokens, likely))
    if text.count(_SEPARATOR) != max(0, len(tokens) + len(likely) - 1):
        columns = tokens, values, *([[pair[n] for pair in top] for top in tops] for n in (0, 1))
        return json.dumps(columns, separators=(",", ":"))
    values += [value for top in tops for _, value in top]
    form = f"<{1 + len(tops)}I{len(values)}d"
    return struct.pack(form, len(tops), *map(len, tops), *values) + text.encode()


def unpacked(kept: bytes | str) -> Sequence[TokenChoice]:
    """What was packed, equal to what it was.

    Raises:
        ValueError: it is damaged.
    """
    if isinstance(kept, bytes):
        return Kept(kept)
    tokens, values, tops, top_values = _loads(kept)
    return _choices(tokens, values, map(tuple, map(zip, tops, top_values)))


class Kept(Sequence[TokenChoice]):
    """Choices that are made of their bytes when they are first looked at. Equal to a tuple of them.

    Args:
        data: what `packed` made.

    Raises:
        ValueError: it is damaged.
    """

    __slots__ = ("_counts", "_made", "_text", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._made: tuple[TokenChoice, ...] | None = None
        try:
            (number,) = struct.unpack_from("<I", data)
            self._counts = struct.unpack_from(f"<{number}I", data, 4)
        except struct.error:
            raise ValueError("log-probabilities have lost numbers") from None
        texts = number + sum(self._counts)
        start = 4 + 4 * number + 8 * texts
        self._text = data[start:].decode()
        if len(data) < start or self._text.count(_SEPARATOR) != max(0, texts - 1):
            raise ValueError("log-probabilities have lost tokens")

    def _all(self) -> tuple[TokenChoice, ...]:
        if self._made is None:
            counts, number = self._counts, len(self._counts)
            texts = self._text.split(_SEPARATOR)
            values = struct.unpack_from(f"<{number + sum(counts)}d", self.data, 4 + 4 * number)
            pairs = zip(texts[number:], values[number:], strict=False)
            likely = (tuple(islice(pairs, count)) for count in counts)
            self._made = _choices(texts[:number], values[:number], likely)
        return self._made

    @overload
    def __getitem__(self, place: int) -> TokenChoice: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[TokenChoice, ...]: ...
    def __getitem__(self, place: int | slice) -> TokenChoice | tuple[TokenChoice, ...]:
        return self._all()[place]

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[TokenChoice]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, Kept) else other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


def _choices(tokens: Any, values: Any, likely: Any) -> tuple[TokenChoice, ...]:
    return tuple(map(_choice, zip(tokens, values, likely, strict=False)))
