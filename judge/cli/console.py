"""What a person sees: lines made safe for a terminal, aligned tables, progress.

Text from files is hostile: an escape sequence in a prompt could rename the window, hide a row or
answer for the user. Nothing reaches a terminal here without going through `clean`.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from types import TracebackType

import click

LOG_SECONDS = 30.0
_REFRESH_SECONDS = 0.1
_SAMPLE_BYTES = 1 << 22


def clean(text: str) -> str:
    """`text` on one line: no control, format, unassigned or surrogate characters (so no escape
    sequences and no right-to-left overrides), white space squeezed."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = (
        character if unicodedata.category(character)[0] not in "CZ" else _blank(character)
        for character in text
    )
    return " ".join("".join(kept).split())


def _blank(character: str) -> str:
    """A space for what parts words (line breaks, tabs, spaces), nothing for the rest."""
    return " " if character.isspace() else ""


def _columns(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def width(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def fit(text: str, columns: int) -> str:
    """`text` cleaned and cut, with an ellipsis, to at most `columns` columns."""
    # Cut before cleaning as well, since a cell can hold megabytes; marks that take no column are
    # limited by this, too.
    long = len(text) > 8 * columns
    text = clean(text[: 8 * columns])
    if width(text) <= columns and not long:
        return text
    taken, room = [], columns - 1
    for character in text[: 4 * columns]:
        room -= _columns(character)
        if room < 0:
            break
        taken.append(character)
    return "".join(taken).rstrip() + "…"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Lines of an aligned table; the first `left` columns are flush left, the others right."""
    cells = [list(header), *(list(map(clean, row)) for row in rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = []
        for place, (cell, columns) in enumerate(zip(row, widths, strict=True)):
            blank = " " * (columns - width(cell))
            padded.append(cell + blank if place < left else blank + cell)
        lines.append("  ".join(padded).rstrip())
    return [lines[0], "  ".join("-" * columns for columns in widths), *lines[1:]]


def say(line: str) -> None:
    """One line to standard error, where everything for people goes that is not the result."""
    click.echo(clean(line), err=True)


def count(number: int, noun: str) -> str:
    """1 battle, 2,000 battles."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def rate(number: float, seconds: float) -> str:
    """How many a second: 1,200 a second, 4.5 a second, 0.31 a second."""
    speed = number / max(seconds, 1e-9)
    return f"{speed:,.0f} a second" if speed >= 9.95 else f"{speed:.2g} a second"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0.04 s, 4.2 s, 52 s, 3 min 07 s, 2 h 05 min."""
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Rows done, rate and time left: one moving line on a terminal, a plain line now and then
    elsewhere (none for what is quickly done).

    Args:
        what: what the rows are, for the line.
        total: how many there will be, None when that is not known.
        about: the total is an estimate.
        more: what else the line is to say at its end, asked when it is shown.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        about: bool = False,
        more: Callable[[], str] | None = None,
    ) -> None:
        self._what, self._total, self._about, self._more = what, total, about, more
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._started = self._shown = time.monotonic()
        self._done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            click.echo("\r\x1b[K", err=True, nl=False)

    def advance(self, rows: int) -> None:
        """`rows` more are done."""
        self._done += rows
        now = time.monotonic()
        if now - self._shown < (_REFRESH_SECONDS if self._live else LOG_SECONDS):
            return
        self._shown = now
        line = self._line(now - self._started) + (self._more() if self._more else "")
        if self._live:
            room = shutil.get_terminal_size().columns - 1
            click.echo(f"\r{line[:room]}\x1b[K", err=True, nl=False)
        else:
            say(line)

    def _line(self, seconds: float) -> str:
        line = f"{count(self._done, self._what.removesuffix('s'))}, {rate(self._done, seconds)}"
        if self._total is None:
            return line
        # An estimate can fall short of what comes; it must not claim to be done.
        total = max(self._total, self._done + self._about)
        share = self._done / max(total, 1)
        left = duration((total - self._done) * seconds / max(self._done, 1))
        about = "about " if self._about else ""
        line = f"{about}{share:.0%} of {about}{total:,}: {line}, {about}{left} left"
        return f"[{'#' * int(20 * share):<20}] {line}" if self._live else line


def expected_rows(source: str) -> tuple[int | None, bool]:
    """How many battles a file holds, as far as that can be told without reading it.

    Returns:
        The number or None, and whether it is an estimate. Parquet states it; for plain CSV and
        JSONL the first megabytes are counted and the rest taken to be alike; what is compressed
        cannot be told.
    """
    suffix = os.path.splitext(source)[1].lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_metadata(source).num_rows, False
        if suffix not in (".csv", ".jsonl", ".ndjson") or not os.path.isfile(source):
            return None, True
        with open(source, "rb") as file:
            sample = file.read(_SAMPLE_BYTES)
            size = os.fstat(file.fileno()).st_size
    except (OSError, ValueError):
        return None, True  # whatever is wrong with the file is said by whoever reads it
    pieces = sample.split(b'"')[::2] if suffix == ".csv" else [sample]
    rows = sum(piece.count(b"\n") for piece in pieces) - (suffix == ".csv")
    return (max(1, round(rows * size / len(sample))) if rows > 0 else None), True
