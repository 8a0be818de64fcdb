"""Predictions: written whole or not at all, read back to the last digit, refused when wrong."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.errors import ArenaJudgeError, InputError
from judge.predictions import COLUMNS, PredictionWriter, read_predictions, write_predictions

NAMES = ["p.csv", "p.csv.gz", "p.jsonl", "p.jsonl.gz", "p.parquet"]
HEADER = ",".join(COLUMNS)
ROW = [0.5, 0.25, 0.25]


def _proba(path: Path) -> npt.NDArray[np.float64]:
    return read_predictions(path)[list(COLUMNS[1:])].to_numpy(dtype=np.float64)


def test_the_csv_is_as_the_kaggle_files_have_it(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [[0.1, 0.2, 0.7], [np.nan] * 3, [1 / 3, 1 / 3, 1 / 3], [1e-7, 0.0, 1 - 1e-7]]
    write_predictions(path, ["7", "8", "x,y", ""], rows)
    assert path.read_bytes() == (
        b"id,winner_model_a,winner_model_b,winner_tie\n"
        b"7,0.1,0.2,0.7\n"
        b"8,,,\n"
        b'"x,y",0.3333333333333333,0.3333333333333333,0.3333333333333333\n'
        b",1e-07,0.0,0.9999999\n"
    )


@given(
    name=st.sampled_from(NAMES),
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6),
    seed=st.integers(0, 1000),
)
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, ids: list[str], seed: int
) -> None:
    path = tmp_path_factory.mktemp("p") / name
    random = np.random.default_rng(seed)
    proba = random.dirichlet([0.1, 1, 1], len(ids) + 1)
    proba[random.random(len(proba)) < 0.3] = np.nan
    notes = [None, *ids]
    with PredictionWriter(path, extra=["note"]) as writer:
        writer.append(["first"], proba[:1], {"note": notes[:1]})
        writer.append(ids, proba[1:], {"note": notes[1:]})
    found = read_predictions(path)
    assert list(found.columns) == [*COLUMNS, "note"]
    assert found["id"].tolist() == ["first", *ids]
    assert [note or None for note in found["note"]] == notes
    np.testing.assert_array_equal(_proba(path), proba)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_predictions_are_the_same_bytes(tmp_path: Path, name: str) -> None:
    written = []
    for _ in range(2):
        write_predictions(tmp_path / name, ["1"], [ROW])
        written.append((tmp_path / name).read_bytes())
        os.utime(tmp_path / name, (0, 0))
    assert written[0] == written[1]


def test_sums_are_1_to_1e_9(tmp_path: Path) -> None:
    proba = np.random.default_rng(0).dirichlet([1, 1, 1], 1000).astype(np.float32)
    write_predictions(tmp_path / "p.csv", map(str, range(1000)), proba)
    np.testing.assert_allclose(_proba(tmp_path / "p.csv").sum(axis=1), 1, rtol=0, atol=1e-9)


# --- whole or not at all --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_nothing_is_left_of_what_broke_off(
    tmp_path: Path, name: str, fault: type[BaseException]
) -> None:
    path = tmp_path / name

    def breaking_off() -> None:
        with PredictionWriter(path) as writer:
            writer.append(["1"] * 5000, [ROW] * 5000)
            raise fault

    with pytest.raises(fault):
        breaking_off()
    assert os.listdir(tmp_path) == []
    path.write_text("what was there before")
    with pytest.raises(fault):
        breaking_off()
    assert os.listdir(tmp_path) == [name]
    assert path.read_text() == "what was there before"


def test_nothing_is_at_the_path_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with PredictionWriter(path) as writer:
        writer.append(["1"], [ROW])
        assert not path.exists()
    assert path.exists()
    assert os.listdir(tmp_path) == ["p.csv"]


def test_a_killed_writer_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("what was there before")
    code = (
        "import os, signal, sys\n"
        "from judge.predictions import PredictionWriter\n"
        "with PredictionWriter(sys.argv[1]) as writer:\n"
        "    writer.append(['1'] * 9999, [[0.5, 0.25, 0.25]] * 9999)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code, path], env=environment, check=False)
    assert done.returncode == -9
    assert path.read_text() == "what was there before"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path: Path, *_: object) -> Full:
        path.touch()
        return Full()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(InputError, match=r"cannot be written .No space left on device"):
            write_predictions(tmp_path / "p.csv", ["1"] * 9999, [ROW] * 9999)
    assert os.listdir(tmp_path) == []


def test_a_link_stays_a_link_and_a_mode_a_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.write_text("")
    target.chmod(0o640)
    link.symlink_to(target)
    write_predictions(link, ["1"], [ROW])
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert len(read_predictions(target)) == 1


def test_a_new_file_has_the_mode_that_others_have(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_predictions(tmp_path / "p.csv", ["1"], [ROW])
    assert (tmp_path / "p.csv").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_predictions("-", ["é"], [ROW])
    assert capfdbinary.readouterr().out == f"{HEADER}\né,0.5,0.25,0.25\n".encode()


def test_standard_output_gets_nothing_of_what_broke_off(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    def breaking_off() -> None:
        with PredictionWriter("-") as writer:
            writer.append(["1"], [ROW])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaking_off()
    assert capfdbinary.readouterr().out == b""


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    reader.start()
    write_predictions(path, ["1"], [ROW])
    reader.join()
    assert read == [f"{HEADER}\n1,0.5,0.25,0.25\n".encode()]
    assert stat.S_ISFIFO(path.stat().st_mode)


# --- refused before any work is done --------------------------------------------------------------


def test_no_folder_to_write_into(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written .No such file.*make its folder first"):
        PredictionWriter(tmp_path / "none" / "p.csv").__enter__()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"make its folder first"):
        PredictionWriter(tmp_path / "file" / "p.csv").__enter__()


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(InputError, match=r"Is a directory.*name a file in it"):
        PredictionWriter(tmp_path / "p.csv").__enter__()


@pytest.mark.parametrize("what", ["folder", "file"])
def test_no_permission(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "p.csv"
    if what == "file":
        path.touch(0o400)
        monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs the tests may be root
    else:

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"cannot be written .Permission denied"):
        PredictionWriter(path).__enter__()
    assert os.listdir(folder) == (["p.csv"] if what == "file" else [])


@pytest.mark.parametrize("name", ["p.txt", "p", "p.gz", "p.parquet.gz"])
def test_names_that_say_no_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"choose a name that ends in \.csv, \.csv\.gz, \.jsonl"):
        PredictionWriter(tmp_path / name)


@pytest.mark.parametrize(
    "row", [[0.5, 0.5, 0.5], [-0.1, 0.6, 0.5], [np.nan, 0.5, 0.5], [np.inf, 0, 0], [0, 0, 0]]
)
def test_rows_that_are_no_distribution_are_not_written(tmp_path: Path, row: list[float]) -> None:
    with pytest.raises(ArenaJudgeError, match=r"battle 'x' was given .* which is no distribution"):
        write_predictions(tmp_path / "p.csv", ["1", "x"], [ROW, row])
    assert os.listdir(tmp_path) == []


def test_as_many_ids_as_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected"):
        write_predictions(tmp_path / "p.csv", ["1", "2"], [ROW])


# --- reading --------------------------------------------------------------------------------------


def test_numbers_of_other_makers(tmp_path: Path) -> None:
    path = tmp_path / "p.csv.gz"
    rows = "1,0.333333,0.333333,0.333334\n2,1,0,0\n3,,,\n4,0.333333,0.333333,0.333333\n"
    path.write_bytes(
        gzip.compress(
            f"note,{HEADER}\n".encode()
            + b"".join(b"n," + row.encode() + b"\n" for row in rows.splitlines())
        )
    )
    found = read_predictions(path)
    assert found["id"].tolist() == ["1", "2", "3", "4"]
    assert found["note"].tolist() == ["n"] * 4
    proba = _proba(path)
    np.testing.assert_array_equal(np.isnan(proba), [[False] * 3] * 2 + [[True] * 3, [False] * 3])
    np.testing.assert_allclose(proba[[0, 1, 3]].sum(axis=1), 1, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("row", "column", "what"),
    [
        ("2,0.5,0.5,0.1", "winner_model_a", "sums with winner_model_b and winner_tie to 1.1"),
        ("2,0.5,0.5,0.00001", "winner_model_a", "to 1.00001, not to 1"),
        ("2,-0.5,1,0.5", "winner_model_a", "is -0.5, which is not from 0 to 1"),
        ("2,0,x,1", "winner_model_b", "is 'x', not a number"),
        ("2,0.5,0.5,", "winner_tie", "is empty where winner_model_a is not"),
    ],
)
def test_rows_that_are_no_distribution_are_not_read(
    tmp_path: Path, row: str, column: str, what: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"{HEADER}\n1,0.5,0.25,0.25\n{row}\n")
    with pytest.raises(InputError) as caught:
        read_predictions(path)
    assert (caught.value.row, caught.value.column) == (3, column)
    assert what in str(caught.value)


def test_files_that_hold_no_predictions(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"{HEADER}\n")
    with pytest.raises(InputError, match="has no predictions"):
        read_predictions(path)
    path.write_text("id,winner_model_a,winner_tie\n1,0.5,0.5\n")
    with pytest.raises(InputError, match="column winner_model_b: is missing; found 'id'"):
        read_predictions(path)
