"""Where the bytes of a table come from: a file or standard input, plain or compressed.

A source is known by its first bytes, because names lie and standard input has none; what they say
is unpacked on the way, so that no more than a block is held. Only Parquet and zip, which keep
their index at the end, are laid on disk where they come through a pipe.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from judge.errors import InputError
from judge.files.atomic import STANDARD_STREAM

_BLOCK = 1 << 20
_STREAMS = {b"\x1f\x8b": ("gzip", ".gz"), b"\x28\xb5\x2f\xfd": ("zstd", ".zst")}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PARQUET = b"PAR1"
_BROKEN = (OSError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException)
_WHOLE = "check that the file is whole: copy or download it again"


class _Counted(io.RawIOBase):
    """Any byte stream behind one face, which knows how far it has been read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self._given += len(block)
        return len(block)

    def tell(self) -> int:
        return self._given


@dataclass(frozen=True)
class Source:
    """Unpacked bytes.

    Args:
        name: what to call the source in a message.
        data: the bytes from the first on; `peek` looks ahead.
        inner: the file's name without the endings of its compression; "" for a pipe.
        path: the file itself where it isn't compressed and can be read out of order.
    """

    name: str
    data: io.BufferedReader
    inner: str
    path: Path | None

    @property
    def is_parquet(self) -> bool:
        named = self.inner.lower().endswith(".parquet")
        return named or self.data.peek(4).startswith(_PARQUET)

    def seekable(self, stack: ExitStack) -> IO[bytes]:
        """The same bytes as a file that can be read in any order, closed by `stack`."""
        if self.path is not None:
            return stack.enter_context(self.path.open("rb"))
        spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        shutil.copyfileobj(self.data, spool, _BLOCK)
        spool.seek(0)
        return spool


def source_name(source: str | Path) -> str:
    """What to call a source in a message."""
    return "standard input" if str(source) == STANDARD_STREAM else str(source)


@contextmanager
def open_source(source: str | Path) -> Iterator[Source]:
    """Opens a file, or standard input for "-", and takes off every compression.

    Raises:
        InputError: also for whatever goes wrong with the bytes while the block runs, in one line.
    """
    name = source_name(source)
    with _explained(name), ExitStack() as stack:
        if str(source) == STANDARD_STREAM:
            opened = Source(name, _buffered(sys.stdin.buffer), "", None)
        else:
            path = Path(source)
            file = stack.enter_context(path.open("rb"))
            regular = path if path.is_file() else None
            opened = Source(name, _buffered(file), path.name, regular)
        opened = _unpacked(opened, stack)
        if not opened.data.peek(1):
            raise InputError("is empty", file=name)
        yield opened


def _buffered(stream: Any) -> io.BufferedReader:
    return io.BufferedReader(_Counted(stream), _BLOCK)


def _unpacked(source: Source, stack: ExitStack) -> Source:
    head = source.data.peek(4)[:4]
    if head.startswith(_ZIP):
        member, inner = _only_member(source, stack)
        return _unpacked(Source(source.name, _buffered(member), inner, None), stack)
    for mark, (codec, ending) in _STREAMS.items():
        if head.startswith(mark):
            plain = stack.enter_context(pa.CompressedInputStream(source.data, codec))
            inner = source.inner
            inner = inner[: -len(ending)] if inner.lower().endswith(ending) else inner
            return _unpacked(Source(source.name, _buffered(plain), inner, None), stack)
    return source


def _only_member(source: Source, stack: ExitStack) -> tuple[IO[bytes], str]:
    archive = stack.enter_context(zipfile.ZipFile(source.seekable(stack)))
    members = [member for member in archive.namelist() if not _is_litter(member)]
    if "[Content_Types].xml" in members:
        raise InputError("is an Office file", file=source.name, mend="save the table as CSV")
    if len(members) != 1:
        some = ", ".join(ascii(member) for member in members[:5]) or "none"
        raise InputError(
            f"holds {len(members)} data files ({some}{', …' if len(members) > 5 else ''})",
            file=source.name,
            mend="put exactly one in the archive",
        )
    try:
        data = stack.enter_context(archive.open(members[0]))
    except (NotImplementedError, RuntimeError) as error:  # a lost compression, or a password
        reason = _first_line(error)
        mend = "unpack the archive first"
        raise InputError(f"cannot be unpacked ({reason})", file=source.name, mend=mend) from error
    return data, os.path.basename(members[0])


def _is_litter(member: str) -> bool:
    """Whether an archive's member is a folder, or one of the files macOS leaves beside the data."""
    return member.endswith("/") or any(
        part == "__MACOSX" or part.startswith(".") for part in member.split("/")
    )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Says in one line what the operating system and the unpackers say in theirs."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError("there is no such file", file=name) from error
    except IsADirectoryError as error:
        raise InputError("is a folder", file=name, mend="name a file in it") from error
    except PermissionError as error:
        mend = "give yourself the permission to read it"
        raise InputError("may not be read", file=name, mend=mend) from error
    except _BROKEN as error:
        reason = _first_line(error)
        raise InputError(f"cannot be read ({reason})", file=name, mend=_WHOLE) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
