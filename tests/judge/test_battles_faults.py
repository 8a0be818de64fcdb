"""Files that cannot be read as battles: each refused in one line with what, where and the mend."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from judge.battles import read_battles
from judge.errors import InputError
from judge.files import rows

HEADER = "id,prompt,response_a,response_b"
GOOD = f"{HEADER}\n1,q,a,b\n2,q,a,b\n"


def _write(folder: Path, content: str | bytes, name: str = "battles.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _table(rows: int = 2) -> pd.DataFrame:
    return pd.DataFrame({"prompt": "q", "response_a": "a", "response_b": "b"}, range(rows))


def _in(form: str, table: pd.DataFrame) -> bytes:
    target = io.BytesIO()
    if form == "csv":
        table.to_csv(target, index=False)
    elif form == "jsonl":
        table.to_json(target, orient="records", lines=True)
    else:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), target)
    return target.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def _refusal(source: str | Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_battles(source)
    assert str(caught.value).isprintable()
    return caught.value


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "row", "what"),
    [
        (GOOD + "3,q,a\n", 4, "has 3 fields where the header has 4"),
        (GOOD + "3,q,a,b,c\n", 4, "has 5 fields where the header has 4"),
        (f'{HEADER}\n1,"q\nq",a,b\n\n3,q\n', 4, "has 2 fields"),
        (GOOD + '3,"q,a,b\n4,q,a,b\n', 4, "unexpected end of data"),
        (GOOD + '3,"q" q,a,b\n', 4, "',' expected after '\"'"),
        (GOOD + '3,"say \\"hi\\"",a,b\n', 4, "not well-formed CSV"),
    ],
)
def test_rows_that_are_none(tmp_path: Path, content: str, row: int, what: str) -> None:
    error = _refusal(_write(tmp_path, content))
    assert error.row == row
    assert what in str(error)
    assert error.mend is not None
    assert "quote" in error.mend


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("names", "missing", "parts"),
    [
        (["prompt", "Response_A", "response_b"], "response_a", ["rename 'Response_A' to 'respo"]),
        (["prompt", "response_a", "respons_b"], "response_b", ["found 'prompt'", "'respons_b' to"]),
        (["x", "y\x1b", "z"], "prompt", ["and so is response_a, response_b", r"'y\x1b'", "add it"]),
    ],
)
def test_missing_columns(
    tmp_path: Path, form: str, names: list[str], missing: str, parts: list[str]
) -> None:
    table = pd.DataFrame([["q", "a", "b"]], columns=names)
    error = _refusal(_write(tmp_path, _in(form, table), f"b.{form}"))
    assert error.column == missing
    assert error.row == {"csv": 1, "jsonl": 1, "parquet": None}[form]
    for part in parts:
        assert part in str(error)


def test_a_field_missing_from_a_later_line(tmp_path: Path) -> None:
    lines = _in("jsonl", _table()) + b'{"prompt":"q","response_a":"a"}\n'
    error = _refusal(_write(tmp_path, lines, "b.jsonl"))
    assert (error.row, error.column) == (3, "response_b")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_two_columns_of_one_name(tmp_path: Path, form: str) -> None:
    names = ["x", "x", "prompt", "response_a", "response_b"]
    path = tmp_path / f"b.{form}"
    if form == "csv":
        path.write_text(",".join(names) + "\n1,2,q,a,b\n")
    else:
        pq.write_table(pa.table([["t"]] * 5, names=names), path)
    assert "two columns named 'x'" in str(_refusal(path))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"prompt":"q","response_a":"a"', "is not a JSON object (Expecting"),
        ('{"prompt":"q","prompt":"q"}', "a field is there twice"),
        ('["q","a","b"]', "is not a JSON object; write one object a line"),
        ('"text"', "is not a JSON object"),
        ("prompt,response_a", "is not a JSON object (Expecting value)"),
        ('{"prompt":' + "[" * 100_000, "nested too deep"),
    ],
)
def test_lines_that_are_no_objects(tmp_path: Path, line: str, what: str) -> None:
    good = '{"prompt":"q","response_a":"a","response_b":"b"}\n\n'
    error = _refusal(_write(tmp_path, good + line + "\n", "b.jsonl"))
    assert error.row == 3
    assert what in str(error)


def test_a_json_document(tmp_path: Path) -> None:
    content = json.dumps(_table().to_dict("records"), indent=1)
    error = _refusal(_write(tmp_path, content, "b.json"))
    assert error.row == 1
    assert "jq -c" in str(error)


@pytest.mark.parametrize("name", ["b.csv", "b.jsonl", "b.parquet", "b", "b.csv.gz", "b.zip"])
def test_empty_files(tmp_path: Path, name: str) -> None:
    packed = {"b.csv.gz": gzip.compress(b""), "b.zip": _zip({"b.csv": b""})}
    assert "is empty" in str(_refusal(_write(tmp_path, packed.get(name, b""), name)))


@pytest.mark.parametrize("content", ["\n \n", "\ufeff"])
def test_files_of_nothing_but_space(tmp_path: Path, content: str) -> None:
    assert "is empty" in str(_refusal(_write(tmp_path, content)))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_header_and_no_battles(tmp_path: Path, form: str) -> None:
    path = _write(tmp_path, _in(form, _table(0)), f"b.{form}")
    assert "has no battles" in str(_refusal(path))


@pytest.mark.parametrize("rows", [0, 1, 30_000])
@pytest.mark.parametrize("name", ["b.csv", "b.csv.gz"])
def test_a_byte_in_another_encoding(tmp_path: Path, rows: int, name: str) -> None:
    before = (HEADER + "\n" + "1,q,é,b\n" * rows + "1,q,caf").encode()
    content = before + b"\xe9,b\n" + b"1,q,a,b\n" * 1000
    content = gzip.compress(content) if name.endswith("gz") else content
    error = _refusal(_write(tmp_path, content, name))
    assert f"byte {len(before):,} is not UTF-8; save it as UTF-8" in str(error)


def test_json_lines_in_another_encoding(tmp_path: Path) -> None:
    assert "byte 12 is not UTF-8" in str(
        _refusal(_write(tmp_path, b'{"prompt": "\xe9"}', "b.jsonl"))
    )


def test_utf_16_without_its_mark(tmp_path: Path) -> None:
    error = _refusal(_write(tmp_path, GOOD.encode("utf-16-le")))
    assert "UTF-16 without a byte-order mark; save it as UTF-8" in str(error)


def test_cells_and_lines_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_CELL", 200_000)
    lines = b'{"prompt": "' + b"x" * 300_000 + b'"}'
    assert "line 1 is longer than 200,000" in str(_refusal(_write(tmp_path, lines, "b.jsonl")))
    limit = csv.field_size_limit(200_000)
    try:
        error = _refusal(_write(tmp_path, GOOD + '3,"q' + "x\n" * 300_000))
    finally:
        csv.field_size_limit(limit)
    assert error.row == 4
    assert "close every quote" in str(error)


def test_the_csv_limit_of_the_process_is_never_lowered(tmp_path: Path) -> None:
    limit = csv.field_size_limit(1 << 30)
    try:
        read_battles(_write(tmp_path, GOOD))
        assert csv.field_size_limit() == 1 << 30
    finally:
        csv.field_size_limit(limit)


# --- files ----------------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    assert "there is no such file" in str(_refusal(tmp_path / "none.csv"))


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder; name a file in it" in str(_refusal(tmp_path))


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):  # whoever runs the tests may read everything

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert "may not be read" in str(_refusal(path))


def _broken(content: bytes, at: int) -> bytes:
    return content[:at] + bytes(255 - byte for byte in content[at : at + 40]) + content[at + 40 :]


LONG = "".join(f"{n},q{n * n},a,b\n" for n in range(20_000))
PACKED = {
    "b.csv.gz": gzip.compress((GOOD + LONG).encode()),
    "b.csv.zst": pa.compress((GOOD + LONG).encode(), codec="zstd", asbytes=True),
    "b.zip": _zip({"b.csv": (GOOD + LONG).encode()}),
    "b.parquet": _in("parquet", _table(9000).assign(id=range(9000))),
}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_files_that_break_off(tmp_path: Path, name: str, share: float) -> None:
    path = _write(tmp_path, PACKED[name][: int(len(PACKED[name]) * share)], name)
    error = _refusal(path)
    assert "cannot be read (" in str(error)
    assert "check that the file is whole" in str(error)


@pytest.mark.parametrize("name", PACKED)
def test_files_with_a_hole(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path, _broken(PACKED[name], len(PACKED[name]) // 2), name)
    with pytest.raises(InputError):
        read_battles(path)


def test_a_name_that_promises_parquet(tmp_path: Path) -> None:
    assert "cannot be read (Parquet magic bytes" in str(
        _refusal(_write(tmp_path, GOOD, "b.parquet"))
    )


def test_zips_without_exactly_one_file(tmp_path: Path) -> None:
    two = _write(tmp_path, _zip({"a.csv": b"x", "b\x1b.csv": b"y"}), "b.zip")
    assert r"holds 2 data files ('a.csv', 'b\x1b.csv'); put exactly one" in str(_refusal(two))
    none = _write(tmp_path, _zip({"folder/": b""}), "b.zip")
    assert "holds 0 data files" in str(_refusal(none))
    office = _write(tmp_path, _zip({"[Content_Types].xml": b"", "xl/sheet.xml": b""}), "b.xlsx")
    assert "is an Office file; save the table as CSV" in str(_refusal(office))


def test_a_zip_with_a_password(tmp_path: Path) -> None:
    content = bytearray(_zip({"b.csv": GOOD.encode()}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert "unpack the archive first" in str(_refusal(_write(tmp_path, bytes(content), "b.zip")))


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array([1, 2]), "is 1, not text"),
        (pa.array([b"q", b"r"]), "is b'q', not text"),
        (pa.array([[1], [2]]), "has a turn that is 1, not text"),
        (pa.array([{"x": 1}, {"x": 2}]), "is {'x': 1}, not text"),
    ],
)
def test_parquet_columns_of_another_type(tmp_path: Path, column: pa.Array, what: str) -> None:
    text = pa.array(["a", "b"])
    table = pa.table({"prompt": column, "response_a": text, "response_b": text})
    pq.write_table(table, tmp_path / "b.parquet")
    error = _refusal(tmp_path / "b.parquet")
    assert (error.row, error.column) == (1, "prompt")
    assert what in str(error)


def test_parquet_text_that_is_not_utf_8(tmp_path: Path) -> None:
    text = pa.array(["a"])
    broken = pa.array([b"\xff\xfe"]).view(pa.string())
    table = pa.table({"prompt": text, "response_a": broken, "response_b": text})
    pq.write_table(table, tmp_path / "b.parquet")
    error = _refusal(tmp_path / "b.parquet")
    assert error.column == "response_a"
