"""Battle and ballot tables in Parquet, to be read by another process as they were.

A battle table holds tuples, numbers of any size and whatever else a file had, which Parquet would
bend: columns of objects are written as JSON, and read back to the same objects or refused.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from judge.errors import InputError
from judge.files.atomic import explained, written_whole

_TUPLES, _OBJECTS, _NATIVE = "tuples", "objects", "native"


def packed(table: pd.DataFrame) -> bytes:
    """A table as a Parquet file.

    Raises:
        InputError: a column holds what another process could not be told.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, kinds = [pa.array(table.index.to_numpy(dtype=np.int64))], []
    for name in table.columns:
        cells = table[name]
        kind = str(cells.dtype)
        if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "fiub":
            columns.append(pa.array(cells.to_numpy(), from_pandas=False))
        else:
            values = cells.tolist()
            tuples = bool(values) and all(isinstance(value, tuple) for value in values)
            if cells.dtype == object:
                kind = _TUPLES if tuples else _OBJECTS
            texts = [_told(value) for value in values]
            if None in texts:
                kind, told = _NATIVE, _native(values, str(name))
            else:
                told = pa.array(texts, pa.string())
            columns.append(told)
        kinds.append([str(name), kind])
    names = [str(number) for number in range(len(columns))]
    made = pa.table(columns, names=names)
    made = made.replace_schema_metadata({"columns": json.dumps(kinds)})
    file = io.BytesIO()
    pq.write_table(made, file, compression="zstd")
    return file.getvalue()


def mark(data: bytes) -> str:
    """By which a file is known again."""
    return hashlib.sha256(data).hexdigest()[:16]


def write_packed(path: Path, data: bytes) -> None:
    """Writes a file whole.

    Raises:
        InputError: it cannot be written.
    """
    with written_whole(path) as file, explained(path):
        file.write(data)


def read_packed(path: Path) -> pd.DataFrame:
    """The table in a file.

    Raises:
        InputError: it is not there, or is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.ParquetFile(path).read()
        kinds = json.loads(found.schema.metadata[b"columns"])
        index = pd.Index(found.column(0).to_numpy())
        series = {
            name: _cells(found.column(number), kind, index)
            for number, (name, kind) in enumerate(kinds, 1)
        }
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        mend = "is the folder on a disk that all machines share?"
        what = "cannot be read by a worker" if not path.exists() else "is damaged"
        raise InputError(what, file=path, mend=mend) from error
    return pd.DataFrame(series, index=index)


def _cells(column: Any, kind: str, index: pd.Index) -> pd.Series:
    if kind == _NATIVE:
        return pd.Series(column.to_pylist(), index, dtype=object)
    if not _is_text(column):
        return pd.Series(column.to_numpy(), index, dtype=kind)
    values = [json.loads(text) for text in column.to_pylist()]
    if kind == _TUPLES:
        values = [tuple(value) for value in values]
    return pd.Series(values, index, dtype=object if kind in (_TUPLES, _OBJECTS) else kind)


def _is_text(column: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(column.type))


def _told(value: Any) -> str | None:
    """A cell as JSON, if that says all of it."""
    if value is None:
        return "null"
    plain = list(value) if isinstance(value, tuple) else value
    try:
        text = json.dumps(plain)
    except (TypeError, ValueError, RecursionError):
        return None
    return text if isinstance(plain, str) or repr(json.loads(text)) == repr(plain) else None


def _native(values: list[Any], name: str) -> Any:
    """Cells that JSON has no word for, such as times."""
    import pyarrow as pa

    try:
        told = pa.array(values)
        if repr(told.to_pylist()) == repr(values):
            return told
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass
    mend = "leave the column out, or write it as text"
    raise InputError("holds what cannot be sent to other machines", column=name, mend=mend)
