"""Files a command writes: places known to be safe before the work starts, written whole or not at
all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from judge.cli.console import fit, say
from judge.errors import ArenaJudgeError, InputError
from judge.files.atomic import explained, written_whole
from judge.files.drafts import remove_stale

if TYPE_CHECKING:
    import pandas as pd

    from judge.report.page import Page

ENDINGS = (".csv", ".jsonl", ".parquet")
PREDICTIONS = ("id", "winner_model_a", "winner_model_b", "winner_tie")
BALLOTS = ("id", "judge", "order", "sample")
REPLIES = ("key", "model", "text", "finish")
UNJUDGED = ("id", "battle", "reason")
COMPARISON = ("name", "battles", "unjudged", "log_loss")
_SAID = 20
_BRAND, _HEAD_BYTES = b'<p class="brand">arena-judge</p>', 1 << 16


def target(name: str, columns: Sequence[str], *, inputs: Iterable[str], force: bool) -> Path:
    """Where a table may be written.

    A file that is there already is replaced when it is such a table itself, from an earlier run;
    anything else only under `force`, and an input never.

    Args:
        name: the path as the user wrote it.
        columns: what the table's columns begin with.
        inputs: the files the command reads.
        force: replace any file.

    Raises:
        InputError: the path is no place for the table.
    """
    path = Path(name)
    if path.is_dir():
        raise InputError("is a folder", file=name, mend="name a file in it")
    if not path.parent.is_dir():
        raise InputError("cannot be written, its folder is not there", file=name, mend="make it")
    if any(os.path.exists(source) and is_same_file(path, source) for source in inputs):
        raise InputError("is read by this very command", file=name, mend="choose another output")
    if path.is_file() and not force and not _is_such_a_table(path, columns):
        what = "is there already and is no earlier result"
        raise InputError(what, file=name, mend="choose another output, or add --force")
    return path


def report_target(name: str, *, inputs: Iterable[str], force: bool) -> Path:
    """Where a page may be written; an earlier one is replaced, anything else only under `force`.

    Raises:
        InputError: the path is no place for a page.
    """
    path = Path(name)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError("is no name for a report", file=name, mend="end it in .html")
    if path.is_dir():
        raise InputError("is a folder", file=name, mend="name a file in it")
    if not path.parent.is_dir():
        raise InputError("cannot be written, its folder is not there", file=name, mend="make it")
    if any(os.path.exists(source) and is_same_file(path, source) for source in inputs):
        raise InputError("is read by this very command", file=name, mend="choose another output")
    if path.is_file() and path.stat().st_size and not force:
        with path.open("rb") as stream:
            ours = _BRAND in stream.read(_HEAD_BYTES)
        if not ours:
            what = "is there already and is no earlier report"
            raise InputError(what, file=name, mend="choose another output, or add --force")
    return path


def put_page(path: Path, page: Page) -> None:
    """Writes a report and says so."""
    from judge.report.page import write_page

    replaced = path.is_file()
    write_page(page, path)
    say(f"{path}: {'replaced' if replaced else 'written'}")


def is_same_file(path: Path, other: str | Path) -> bool:
    """Whether two names, of files that may yet have to be written, are one file's."""
    return os.path.realpath(path) == os.path.realpath(other) or (
        path.exists() and os.path.exists(other) and path.samefile(other)
    )


def _is_such_a_table(path: Path, columns: Sequence[str]) -> bool:
    if path.stat().st_size == 0:
        return True

    from judge.files.rows import stream_rows

    try:
        with closing(stream_rows(path, required=columns, chunk_rows=1)) as rows:
            return all(list(row.columns)[: len(columns)] == list(columns) for row in [next(rows)])
    except StopIteration:  # a list of nothing has its header alone
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).startswith(",".join(columns).encode())
    except ArenaJudgeError:
        return False


@contextmanager
def table_file(path: Path) -> Iterator[TableFile]:
    """Takes tables for `path`: CSV, JSON lines or Parquet by its name."""
    with written_whole(path) as file:
        table = TableFile(path, file)
        try:
            yield table
        finally:
            table.close()


class TableFile:
    """Tables of the same columns, such as those of ballots, one after the other in one file."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._ending = path.suffix.lower()
        self._writer: Any = None

    def append(self, rows: pd.DataFrame) -> None:
        """Writes rows; the first that come say what the columns are."""
        from judge.ballot_files import json_lines

        with explained(self._path):
            if self._ending == ".parquet":
                self._append_parquet(rows)
            elif self._ending == ".jsonl":
                self._file.write(json_lines(rows))
            else:
                header = self._file.tell() == 0
                text = rows.to_csv(header=header, index=False, lineterminator="\n")
                self._file.write(text.encode("utf-8", "replace"))

    def _append_parquet(self, table: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = None if self._writer is None else self._writer.schema
        rows = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, rows.schema)
        self._writer.write_table(rows)

    def close(self) -> None:
        """Writes what Parquet keeps for the end; the file itself stays open."""
        if self._writer is not None:
            with explained(self._path):
                self._writer.close()


class UnjudgedList:
    """`<output>.unjudged.csv`: the battles that no answer could be had for, and why.

    Columns: the battle's id, its number in the file from 1 (ids may be alike), the reason. Where
    nothing is unjudged there is no such file, and one from an earlier run is taken away. Without a
    path the first few are said on standard error.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stack = ExitStack()
        if path is not None:
            remove_stale(path)  # this run may have nothing to list
        self._file: IO[bytes] | None = None
        self._count = 0

    def __enter__(self) -> UnjudgedList:
        return self

    def append(self, rows: Sequence[tuple[str, int, str]]) -> None:
        """Lists battles: id, number from 1, reason."""
        if self._path is None:
            for name, battle, reason in rows[: max(0, _SAID - self._count)]:
                say(f"battle {battle} (id {fit(name, 40)}) is unjudged: {fit(reason, 200)}")
        elif rows:
            if self._file is None:
                self._file = self._stack.enter_context(written_whole(self._path))
                self._write(self._path, [UNJUDGED])
            self._write(self._path, rows)
        self._count += len(rows)

    def _write(self, path: Path, rows: Iterable[Sequence[object]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        if self._file is not None:
            with explained(path):
                self._file.write(text.getvalue().encode("utf-8", "replace"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if error is None and self._path is not None and not self._count:
            with explained(self._path):
                self._path.unlink(missing_ok=True)
