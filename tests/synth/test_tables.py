"""Tables keep their form, whatever the cells of a batch are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from judge.errors import InputError
from synth.tables import renamed, table_writer


def test_a_batch_of_nothing_does_not_change_what_a_column_is(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    with table_writer(file) as table:
        table.append(pd.DataFrame({"prompt": [("a", "b")], "time": [None], "note": [None]}))
        half = pd.Series(["\ud800!"], dtype=object)
        table.append(pd.DataFrame({"prompt": ["c"], "time": [1], "note": half}))
        assert table.rows == 2
    found = pd.read_parquet(file)
    assert [list(turns) for turns in found["prompt"]] == [["a", "b"], ["c"]]
    assert found["time"].isna().tolist() == [True, False]
    assert found["note"].tolist()[1] == "?!"


@pytest.mark.parametrize(("name", "cell"), [("time", "soon"), ("sample", "x"), ("sample", 0.5)])
def test_a_number_that_is_none_is_an_error_in_a_line(
    tmp_path: Path, name: str, cell: object
) -> None:
    with (
        pytest.raises(InputError, match=f"column {name}: holds what is no number"),
        table_writer(tmp_path / "t.parquet") as table,
    ):
        table.append(pd.DataFrame({name: [cell]}))


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    assert renamed("time", ["time"]) == "file_time"
    assert renamed("time", ["time", "file_time"]) == "file_file_time"


def test_a_full_disk_is_said_without_the_draft_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
    with (
        pytest.raises(InputError, match=r"^t\.parquet: cannot be written \(No space left"),
        table_writer(tmp_path / "t.parquet") as table,
    ):
        table.append(pd.DataFrame({"time": [1.0]}))
