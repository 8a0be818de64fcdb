"""The files that battles come in: formats, compressions, streams."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.battles import iter_battles, read_battles
from judge.errors import InputError
from judge.files import rows

HEADER = "id,prompt,response_a,response_b"
GOOD = f"{HEADER}\n1,q,a,b\n2,q,a,b\n"


def _write(folder: Path, content: str | bytes, name: str = "battles.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _zip(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", content)
    return target.getvalue()


def _table() -> pd.DataFrame:
    texts = [
        "plain",
        'quo"ted',
        "two\nlines",
        "cr\rlf\r\n",
        "with,comma;\ttab",
        "nul\0",
        "日本語 😀",
    ]
    columns = {"id": [f"n{i}" for i in range(7)], "prompt": texts}
    columns |= {"response_a": texts[::-1], "response_b": [*texts[3:], *texts[:2], ""]}
    return pd.DataFrame(columns)


def _as_csv(table: pd.DataFrame, **dialect: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, **dialect)  # type: ignore[arg-type]
    writer.writerows([table.columns, *table.to_numpy().tolist()])
    return text.getvalue().encode()


def _as_jsonl(table: pd.DataFrame) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table.to_dict("records")).encode()


def _as_parquet(table: pd.DataFrame) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table), target, row_group_size=3)
    return target.getvalue()


FORMATS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": _as_csv,
    "tsv": lambda table: _as_csv(table, delimiter="\t"),
    "jsonl": _as_jsonl,
    "ndjson": _as_jsonl,
    "parquet": _as_parquet,
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
    ".zip": _zip,
}


def _same(found: pd.DataFrame, table: pd.DataFrame) -> None:
    assert found["id"].tolist() == table["id"].tolist()
    for name in ("prompt", "response_a", "response_b"):
        assert found[name].tolist() == [(cell,) for cell in table[name]]


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_in_every_packing(tmp_path: Path, form: str, packing: str) -> None:
    content = PACKINGS[packing](FORMATS[form](_table()))
    _same(read_battles(_write(tmp_path, content, f"b.{form}{packing}")), _table())


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", FORMATS)
def test_content_is_known_without_a_name(
    tmp_path: Path, form: str, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = PACKINGS[packing](FORMATS[form](_table()))
    _same(read_battles(_write(tmp_path, content, "battles")), _table())
    stdin = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(sys, "stdin", stdin)
    _same(read_battles("-"), _table())
    assert not stdin.buffer.closed


def test_parquet_columns_of_all_kinds_pass(tmp_path: Path) -> None:
    text = pa.array(["a", "b"]).dictionary_encode()
    when = pa.array([1, None], pa.timestamp("ns"))
    table = pa.table(
        {"id": pa.array([1.0, None]), "prompt": text, "response_a": text, "response_b": text}
        | {"model_a": pa.nulls(2), "when": when, "tags": pa.array([["x"], []])}
    )
    pq.write_table(table, tmp_path / "b.parquet")
    battles = read_battles(tmp_path / "b.parquet")
    assert battles["id"].tolist() == ["1", "1"]
    assert battles["model_a"].tolist() == [None, None]
    assert battles["tags"].tolist() == [["x"], []]
    assert battles["when"][1] is None


def test_a_name_may_lie_about_what_is_packed(tmp_path: Path) -> None:
    _same(read_battles(_write(tmp_path, _as_parquet(_table()), "b.csv")), _table())
    _same(read_battles(_write(tmp_path, gzip.compress(_as_csv(_table())), "b.csv")), _table())
    _same(read_battles(_write(tmp_path, _as_csv(_table()), "b.csv.gz")), _table())


def test_a_packing_inside_another(tmp_path: Path) -> None:
    content = _zip(gzip.compress(_as_parquet(_table())))
    _same(read_battles(_write(tmp_path, content, "b.zip")), _table())


def test_gzip_of_several_parts(tmp_path: Path) -> None:
    content = _as_csv(_table())
    parts = gzip.compress(content[:50]) + gzip.compress(content[50:])
    _same(read_battles(_write(tmp_path, parts, "b.csv.gz")), _table())


def test_a_zip_with_what_macos_leaves_in_it(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("folder/", b"")
        archive.writestr("folder/.DS_Store", b"x")
        archive.writestr("folder/b.csv", _as_csv(_table()))
        archive.writestr("__MACOSX/folder/._b.csv", b"x")
    _same(read_battles(_write(tmp_path, target.getvalue(), "b.zip")), _table())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    ("form", "name"), [("csv", "b.csv"), ("csv", "b"), ("jsonl", "b.jsonl"), ("jsonl", "b")]
)
def test_byte_order_marks(tmp_path: Path, encoding: str, name: str, form: str) -> None:
    content = FORMATS[form](_table()).decode().encode(encoding)
    _same(read_battles(_write(tmp_path, content, name)), _table())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    content = GOOD.replace("\n", end).replace("2,q", f'2,"q{end}{end}"')
    battles = read_battles(_write(tmp_path, content))
    assert battles["prompt"].tolist() == [("q",), (f"q{end}{end}",)]


def test_empty_lines_between_rows_are_no_rows(tmp_path: Path) -> None:
    assert len(read_battles(_write(tmp_path, "\n" + GOOD.replace("\n", "\n\n")))) == 2
    lines = '\n{"prompt":"q","response_a":"a","response_b":"b"}\n  \n'
    assert len(read_battles(_write(tmp_path, lines, "b.jsonl"))) == 1


def test_semicolons_as_some_spreadsheets_write_them(tmp_path: Path) -> None:
    content = _as_csv(_table(), delimiter=";")
    _same(read_battles(_write(tmp_path, content)), _table())


def test_cells_of_hundreds_of_thousands_of_characters(tmp_path: Path) -> None:
    long = 'long "cell",\n' * 20_000
    table = _table().assign(response_a=long)
    for form in FORMATS:
        _same(read_battles(_write(tmp_path, FORMATS[form](table), f"b.{form}")), table)


def test_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, _as_csv(_table()))
    os.close(writer)
    _same(read_battles(f"/dev/fd/{reader}"), _table())
    os.close(reader)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ROWS = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=6)


@given(rows=ROWS, form=st.sampled_from(sorted(FORMATS)), packing=st.sampled_from(sorted(PACKINGS)))
def test_any_text_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    form: str,
    packing: str,
) -> None:
    # The first row keeps the columns from looking like lists.
    rows = [("-", "-", "-"), *rows]
    table = pd.DataFrame(rows, columns=["prompt", "response_a", "response_b"])
    table.insert(0, "id", [f"n{i}" for i in range(len(rows))])
    content = PACKINGS[packing](FORMATS[form](table))
    folder = tmp_path_factory.mktemp("any")
    _same(read_battles(_write(folder, content, f"b.{form}{packing}")), table)


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("chunk_rows", [7, 1000, 1001])
def test_chunks_are_as_long_as_asked_for(tmp_path: Path, form: str, chunk_rows: int) -> None:
    table = pd.concat([_table()] * 300, ignore_index=True)
    path = _write(tmp_path, FORMATS[form](table), f"b.{form}")
    chunks = list(iter_battles(path, chunk_rows=chunk_rows))
    assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_rows}
    assert all(b.index[0] == a.index[-1] + 1 for a, b in pairwise(chunks))
    _same(pd.concat(chunks), table)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_chunks_of_long_battles_are_short(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CHUNK_CHARACTERS", 5_000)
    monkeypatch.setattr(rows, "_PARQUET_BATCH", 2)
    table = pd.concat([_table()] * 5, ignore_index=True).assign(response_a="x" * 1000)
    path = _write(tmp_path, FORMATS[form](table), f"b.{form}")
    chunks = list(iter_battles(path))
    assert max(map(len, chunks)) <= 6
    _same(pd.concat(chunks), table)


def test_what_comes_before_a_fault_is_yielded_first(tmp_path: Path) -> None:
    content = HEADER + "\n" + "1,q,a,b\n" * 100_000 + "1,q,a\n"
    chunks = iter_battles(_write(tmp_path, content))
    assert sum(len(next(chunks)) for _ in range(24)) == 24 * 4096
    with pytest.raises(InputError, match="row 100002: has 3 fields where the header has 4"):
        list(chunks)


def test_no_more_is_read_than_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        """Rows without end."""

        given = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            block = (b"q,a,b\n" if self.given else b"prompt,response_a,response_b\n") * 100
            self.given += len(block)
            return block if self.given > len(block) else block[:29]

    endless = Endless()
    stdin = type("Stdin", (), {"buffer": endless})
    monkeypatch.setattr(sys, "stdin", stdin)
    chunks = iter_battles("-", chunk_rows=100)
    for _ in range(50):
        assert len(next(chunks)) == 100
    assert endless.given < 1_000_000
    chunks.close()  # type: ignore[attr-defined]
    assert not endless.closed


@pytest.mark.parametrize("name", ["b.csv", "b.csv.gz", "b.zip", "b.parquet"])
def test_files_are_closed_when_nobody_reads_on(tmp_path: Path, name: str) -> None:
    content = _as_parquet(_table()) if name == "b.parquet" else _as_csv(_table())
    ending = "" if name in ("b.csv", "b.parquet") else Path(name).suffix
    path = _write(tmp_path, PACKINGS[ending](content), name)
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    chunks = iter_battles(path, chunk_rows=1)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    if before is not None:
        assert set(os.listdir("/proc/self/fd")) <= before


def test_chunk_rows_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="chunk_rows"):
        next(iter_battles(_write(tmp_path, GOOD), chunk_rows=0))
