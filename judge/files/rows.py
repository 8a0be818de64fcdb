"""Rows of a table, whatever the file: CSV, JSON lines or Parquet, streamed a chunk at a time.

Nothing here knows what a battle is. Cells come as the file has them (CSV: str; JSON and Parquet:
Python values), each row with its number as an editor counts, so that whoever finds a cell wrong
can say where it stands.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import itertools
import json
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from judge.errors import InputError
from judge.files.sources import Source, open_source

Cells = list[object]

# A chunk is bounded by characters too: 4,096 rows of long conversations would be gigabytes.
CHUNK_CHARACTERS = 16_000_000
# Beyond this a cell or line is a quote left open or not a table at all; reading on would only
# fill the memory.
LONGEST_CELL = 1 << 26

_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does, so it is asked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ONE_A_LINE = "write one object a line, for instance with jq -c '.[]'"
_PARQUET_BATCH = 256


@dataclass(frozen=True)
class Rows:
    """A run of rows, column by column.

    Args:
        file: the source's name, for messages.
        columns: each column's cells, all of the same length.
        numbers: each row's number in the file, from 1; in CSV the header is row 1, in JSON lines
            a row's number is its line's.
        size: about how many characters they hold.
    """

    file: str
    columns: dict[str, Cells]
    numbers: Sequence[int]
    size: int

    def __len__(self) -> int:
        return len(self.numbers)

    def error(self, message: str, at: int, column: str, mend: str | None = None) -> InputError:
        """What is wrong with the cell at position `at` of a column."""
        return InputError(message, file=self.file, row=self.numbers[at], column=column, mend=mend)


def stream_rows(
    source: str | Path, *, required: Sequence[str], chunk_rows: int = 4096
) -> Generator[Rows, None, None]:
    """The rows of a file, or of standard input for "-", at most `chunk_rows` at a time.

    Raises:
        InputError: for anything that keeps the file from being read, or a required column missing.
    """
    with open_source(source) as opened:
        if opened.is_parquet:
            yield from _parquet_rows(opened, required, chunk_rows)
        else:
            yield from _text_rows(opened, required, chunk_rows)


def decode_json(text: str) -> Any:
    """A JSON value, with U+FFFD for the halves of characters that cut-off escapes leave behind.

    Raises:
        ValueError: if it isn't JSON, names a field twice, or is nested too deep to be meant.
    """
    try:
        value = _DECODER.decode(text)
        escaped = "\\ud" in text or "\\uD" in text
        return _without_surrogates(value) if escaped else value
    except RecursionError:
        raise ValueError("nested too deep") from None


def as_text(cell: object) -> str | None:
    """A name or id as text, a whole number without a fraction; None for an empty cell."""
    if isinstance(cell, float):
        if cell != cell:
            return None
        return str(int(cell)) if cell.is_integer() else str(cell)
    return None if cell is None or cell == "" else str(cell)


def quoted(value: object, longest: int = 40) -> str:
    """A value from a file as a message may show it: short, on one line, no control characters."""
    if isinstance(value, str):
        return repr(value) if len(value) <= longest else f"{value[:longest]!r}…"
    text = ascii(value)
    return text if len(text) <= longest else f"{text[:longest]}…"


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is there twice")
    return fields


# Raw control characters inside strings are against the standard and common in scraped text.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_distinct)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


def _check_columns(
    file: str, row: int | None, found: Iterable[str], required: Iterable[str]
) -> None:
    """Raises where a required column is missing, with the name that was perhaps meant for it."""
    names = list(found)
    missing = [name for name in required if name not in names]
    if not missing:
        return
    lowered = {name.lower(): name for name in names if name not in required}
    near = difflib.get_close_matches(missing[0], lowered, n=1, cutoff=0.7)
    mend = f"rename {quoted(lowered[near[0]])} to {missing[0]!r}" if near else "add it"
    also = f", and so is {', '.join(missing[1:])}" if len(missing) > 1 else ""
    listed = ", ".join(quoted(name) for name in names[:20])
    message = f"is missing{also}; found {listed}{', …' if len(names) > 20 else ''}"
    raise InputError(message, file=file, row=row, column=missing[0], mend=mend)


def _check_distinct(file: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        mend = "rename or remove one of them"
        raise InputError(f"has two columns named {quoted(twice)}", file=file, mend=mend)


# --- text -----------------------------------------------------------------------------------------


def _text_rows(source: Source, required: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
    encoding = _encoding(source)
    text = io.TextIOWrapper(source.data, encoding, newline="")
    rows = _json_rows if _is_json(source, encoding) else _csv_rows
    try:
        yield from rows(source, text, required, chunk_rows)
    except UnicodeDecodeError as error:
        # The decoder was handed the bytes up to `tell`, the last of them in `error.object`.
        byte = source.data.tell() - len(error.object) + error.start
        raise InputError(
            f"byte {byte:,} is not {encoding.removesuffix('-sig').upper()}",
            file=source.name,
            mend="save it as UTF-8, for instance with iconv -f WINDOWS-1252 -t UTF-8",
        ) from error


def _encoding(source: Source) -> str:
    head = source.data.peek(4)[:4]
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        message = "is not text, or is UTF-16 without a byte-order mark"
        raise InputError(message, file=source.name, mend="save it as UTF-8")
    return "utf-8"


def _is_json(source: Source, encoding: str) -> bool:
    ending = Path(source.inner).suffix.lower()
    if ending in (".jsonl", ".ndjson", ".json", ".csv", ".tsv"):
        return "json" in ending
    head = source.data.peek(1024)[:1024].decode(encoding, "ignore")
    return head.lstrip().startswith(("{", "["))


def _lines(text: io.TextIOWrapper, file: str) -> Iterator[str]:
    number = 0
    while line := text.readline(LONGEST_CELL):
        number += 1
        if len(line) == LONGEST_CELL:
            message = f"line {number} is longer than {LONGEST_CELL:,} characters"
            raise InputError(message, file=file, mend="check that it is a table of battles")
        yield line


def _chunks(
    rows: Iterable[tuple[int, Any, int]], chunk_rows: int
) -> Iterator[tuple[list[int], list[Any], int]]:
    """Groups rows, each with its number and its characters, by count and by characters."""
    numbers: list[int] = []
    chunk: list[Any] = []
    characters = 0
    for number, row, length in rows:
        numbers.append(number)
        chunk.append(row)
        characters += length
        if len(chunk) == chunk_rows or characters >= CHUNK_CHARACTERS:
            yield numbers, chunk, characters
            numbers, chunk, characters = [], [], 0
    if chunk:
        yield numbers, chunk, characters


# --- CSV ------------------------------------------------------------------------------------------


def _csv_rows(
    source: Source, text: io.TextIOWrapper, required: Sequence[str], chunk_rows: int
) -> Iterator[Rows]:
    # The limit is the whole process's: raised, never lowered, and not put back, because another
    # reader may be half-way.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    lines = _lines(text, source.name)
    row, first = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (0, ""))
    if not first:
        raise InputError("is empty", file=source.name)
    reader = csv.reader(
        itertools.chain([first], lines), strict=True, delimiter=_delimiter(source, first)
    )
    records = _records(reader, source.name, row)
    _, header, _ = next(records)
    names = [name.strip() for name in header]
    _check_distinct(source.name, names)
    _check_columns(source.name, row, names, required)
    records = _of_width(records, len(names), source.name)
    for numbers, chunk, size in _chunks(records, chunk_rows):
        columns = dict(zip(names, map(list, zip(*chunk, strict=True)), strict=True))
        yield Rows(source.name, columns, numbers, size)


def _delimiter(source: Source, header: str) -> str:
    if source.inner.lower().endswith(".tsv"):
        return "\t"
    return max(",\t;", key=header.count)


def _records(
    reader: Iterator[list[str]], file: str, first: int
) -> Iterator[tuple[int, list[str], int]]:
    """Each record with its number and its characters; empty lines count, but aren't records."""
    for number in itertools.count(first):
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"is not well-formed CSV ({error})",
                file=file,
                row=number,
                mend="close every quote, and double those inside a quoted cell",
            ) from error
        if record:
            yield number, record, sum(map(len, record))


def _of_width(
    records: Iterable[tuple[int, list[str], int]], width: int, file: str
) -> Iterator[tuple[int, list[str], int]]:
    for number, record, length in records:
        if len(record) != width:
            raise InputError(
                f"has {len(record)} fields where the header has {width}",
                file=file,
                row=number,
                mend="quote the cells that hold commas, quotes or line breaks",
            )
        yield number, record, length


# --- JSON lines -----------------------------------------------------------------------------------


def _json_rows(
    source: Source, text: io.TextIOWrapper, required: Sequence[str], chunk_rows: int
) -> Iterator[Rows]:
    # A field may be there from some later line on; once seen, it stays a column.
    names: dict[str, None] = {}
    needed = set(required)
    objects = _objects(_lines(text, source.name), source.name)
    for numbers, chunk, size in _chunks(objects, chunk_rows):
        for number, fields in zip(numbers, chunk, strict=True):
            if not needed <= fields.keys():
                _check_columns(source.name, number, fields, required)
            names.update(dict.fromkeys(fields))
        columns: dict[str, Cells] = {name: [row.get(name) for row in chunk] for name in names}
        yield Rows(source.name, columns, numbers, size)


def _objects(lines: Iterable[str], file: str) -> Iterator[tuple[int, dict[str, object], int]]:
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            fields = decode_json(line)
        except ValueError as error:
            reason = str(error).split(":")[0]
            message = f"is not a JSON object ({reason})"
            raise InputError(message, file=file, row=number, mend=_ONE_A_LINE) from error
        if not isinstance(fields, dict):
            raise InputError("is not a JSON object", file=file, row=number, mend=_ONE_A_LINE)
        yield number, fields, len(line)


# --- Parquet --------------------------------------------------------------------------------------


def _parquet_rows(source: Source, required: Sequence[str], chunk_rows: int) -> Iterator[Rows]:
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        # Reading ahead would hold a row group, which is often the whole file.
        table = pq.ParquetFile(source.seekable(stack), pre_buffer=False, buffer_size=1 << 20)
        names: list[str] = table.schema_arrow.names
        _check_distinct(source.name, names)
        _check_columns(source.name, None, names, required)
        batches = table.iter_batches(batch_size=min(_PARQUET_BATCH, chunk_rows))
        first = 1
        read = (_cells(batch, names, source.name) for batch in batches)
        for columns, size in _regrouped(read, names, chunk_rows):
            count = len(columns[names[0]])
            yield Rows(source.name, columns, range(first, first + count), size)
            first += count


def _regrouped(
    batches: Iterable[tuple[dict[str, Cells], int]], names: Sequence[str], chunk_rows: int
) -> Iterator[tuple[dict[str, Cells], int]]:
    """Small batches, gathered into chunks of `chunk_rows`, or fewer where the cells are long."""
    pending: dict[str, Cells] = {name: [] for name in names}
    size = 0
    for batch, length in batches:
        for name, cells in batch.items():
            pending[name] += cells
        size += length
        while len(pending[names[0]]) >= chunk_rows or size >= CHUNK_CHARACTERS:
            yield {name: cells[:chunk_rows] for name, cells in pending.items()}, size
            pending = {name: cells[chunk_rows:] for name, cells in pending.items()}
            size = 0
    if pending[names[0]]:
        yield pending, size


def _cells(batch: Any, names: Sequence[str], file: str) -> tuple[dict[str, Cells], int]:
    columns: dict[str, Cells] = {}
    for name, column in zip(names, batch.columns, strict=True):
        try:
            columns[name] = _values(column)
        except (ValueError, OverflowError, pa.ArrowException) as error:
            # Text that isn't UTF-8, a date that Python has no word for.
            message = f"holds what is no {quoted(str(column.type))}"
            mend = "write the column as UTF-8 text"
            raise InputError(message, file=file, column=name, mend=mend) from error
    return columns, batch.nbytes


def _values(column: Any) -> Cells:
    # For text, twice as fast as `to_pylist`.
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    cells: Cells = column.to_numpy(zero_copy_only=False).tolist() if is_text else column.to_pylist()
    return cells
