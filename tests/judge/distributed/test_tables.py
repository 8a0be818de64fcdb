"""Tables sent to other processes come back as they were, or are refused."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.distributed.tables import mark, packed, read_packed, write_packed
from judge.errors import InputError

_TEXT = st.text() | st.just("\ud800 \x00 \u2028")
_CELLS: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def there_and_back(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    data = packed(table)
    assert mark(data) == mark(packed(table))
    write_packed(folder / "t.parquet", data)
    return read_packed(folder / "t.parquet")


@settings(max_examples=40)
@given(rows=st.lists(st.tuples(st.lists(_TEXT, max_size=3), _CELLS, st.floats()), min_size=1))
def test_what_was_sent_arrives(
    rows: list[tuple[list[str], Any, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    index = pd.RangeIndex(40, 40 + len(rows))
    table = pd.DataFrame(
        {
            "prompt": pd.Series([tuple(turns) for turns, _, _ in rows], index, dtype=object),
            "anything": pd.Series([cell for _, cell, _ in rows], index, dtype=object),
            "label_a": pd.Series([number for _, _, number in rows], index, dtype=np.float64),
        }
    )
    found = there_and_back(table, tmp_path_factory.mktemp("t"))
    assert found.index.tolist() == index.tolist()
    assert [repr(list(found[name])) for name in table] == [
        repr(list(table[name])) for name in table
    ]
    assert found.dtypes.tolist() == table.dtypes.tolist()


def test_times_arrive_and_what_nothing_can_hold_is_refused(tmp_path: Path) -> None:
    when = [datetime.datetime(2024, 5, 1, 3, 4, 5, 6), None]
    table = pd.DataFrame({"when": pd.Series(when, dtype=object)})
    assert there_and_back(table, tmp_path)["when"].tolist() == when
    mixed = pd.DataFrame({"odd": pd.Series([object(), "x"], dtype=object)})
    with pytest.raises(InputError, match="column odd: holds what cannot be sent"):
        packed(mixed)


def test_an_empty_table_arrives(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": pd.Series([], dtype=object), "b": pd.Series([], dtype=np.int64)})
    found = there_and_back(table, tmp_path)
    assert len(found) == 0
    assert found.dtypes.tolist() == table.dtypes.tolist()


def test_a_damaged_table_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    file.write_bytes(packed(pd.DataFrame({"a": [1]}))[:-9])
    with pytest.raises(InputError, match="is damaged"):
        read_packed(file)
    with pytest.raises(InputError, match="cannot be read by a worker"):
        read_packed(tmp_path / "none.parquet")
