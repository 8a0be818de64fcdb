"""Texts in temporary files: any number of them, found again by number, searched for words.

The files have no name, so nothing is left of them when the process ends, however it ends. All
texts are added before the first is read.
"""

from __future__ import annotations

import re
import tempfile
import threading
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError

# Compressing less than this gains nothing.
_SHORT = 256
_BLOCK = 1 << 22
_MOST_WORDS = 16
_END, _FIELD = "\0", "\x1f"
_WORDS = re.compile(r'"([^"]+)"|(\S+)')


class Spool:
    """Texts by number, from 0 in the order they were added."""

    def __init__(self) -> None:
        self._file = _temporary()
        self._lock = threading.Lock()
        self._starts = array("q", [0])
        # A text's bytes before compression; 0 where it is not compressed.
        self._lengths = array("q")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, text: str) -> None:
        """Adds the next text.

        Raises:
            ArenaJudgeError: the disk is full.
        """
        data, length = text.encode("utf-8", "surrogatepass"), 0
        if len(data) >= _SHORT:
            length, data = len(data), _codec().compress(data, asbytes=True)
        _write(self._file, data)
        self._starts.append(self._starts[-1] + len(data))
        self._lengths.append(length)

    def __getitem__(self, number: int) -> str:
        start, end = self._starts[number], self._starts[number + 1]
        with self._lock:
            self._file.seek(start)
            data = self._file.read(end - start)
        if self._lengths[number]:
            data = _codec().decompress(data, self._lengths[number], asbytes=True)
        return data.decode("utf-8", "surrogatepass")

    def close(self) -> None:
        self._file.close()


class SearchFile:
    """Texts folded, for finding those that have some words in them.

    A search reads the file from end to end, a few megabytes at a time, so it needs no index and no
    memory, and finds any string of any script: `print(` as well as `straße`.
    """

    def __init__(self) -> None:
        self._file = _temporary()
        self._lock = threading.Lock()
        self._ends = array("q", [0])

    def add(self, fields: Sequence[str]) -> None:
        """Adds the next text, of several fields; no match reaches from one into another.

        Raises:
            ArenaJudgeError: the disk is full.
        """
        folded = (fold(field).translate({0: " ", 0x1F: " "}) for field in fields)
        data = (_FIELD.join(folded) + _END).encode("utf-8", "surrogatepass")
        _write(self._file, data)
        self._ends.append(self._ends[-1] + len(data))

    def find(self, query: str) -> npt.NDArray[np.bool_]:
        """(N,) which texts have all the words of the query, somewhere; "words in quotes" side by
        side."""
        found = np.ones(len(self._ends) - 1, dtype=np.bool_)
        needles = [word.encode("utf-8", "surrogatepass") for word in words(query)]
        if not needles:
            return found
        for first, last, block in self._blocks():
            starts = [end - self._ends[first] for end in self._ends[first : last + 1]]
            for needle in needles:
                found[first:last] &= _having(block, needle, starts)
        return found

    def _blocks(self) -> Iterator[tuple[int, int, bytes]]:
        """The file in pieces of whole texts: the first text, the one after the last, the bytes."""
        first, texts = 0, len(self._ends) - 1
        while first < texts:
            last = max(bisect_right(self._ends, self._ends[first] + _BLOCK) - 1, first + 1)
            with self._lock:
                self._file.seek(self._ends[first])
                block = self._file.read(self._ends[last] - self._ends[first])
            yield first, last, block
            first = last

    def close(self) -> None:
        self._file.close()


def words(query: str) -> list[str]:
    """The folded words that a query asks for, those in quotes as one."""
    found = (phrase or word.strip('"') for phrase, word in _WORDS.findall(query))
    return [folded for folded in map(fold, found) if folded][:_MOST_WORDS]


def fold(text: str) -> str:
    """The text without what makes no difference when searching: case, compatible forms of a
    character (ﬁ, full-width letters), line breaks."""
    if text.isascii():
        return text.lower().replace("\n", " ")
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return text.casefold().replace("\n", " ")


def _having(block: bytes, needle: bytes, starts: Sequence[int]) -> npt.NDArray[np.bool_]:
    """(texts,) which texts of a block have it; `starts` is where each starts, and the last ends."""
    having = np.zeros(len(starts) - 1, dtype=np.bool_)
    at = block.find(needle)
    while at >= 0:
        text = bisect_right(starts, at) - 1
        having[text] = True
        at = block.find(needle, starts[text + 1])
    return having


def _temporary() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="arena-judge-")


def _codec() -> Any:
    import pyarrow as pa

    return pa.Codec("zstd", compression_level=1)


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        folder, reason = tempfile.gettempdir(), error.strerror or error
        raise ArenaJudgeError(
            f"{folder}: cannot keep the battles' text there ({reason}); "
            "set TMPDIR to a folder with more room"
        ) from error
