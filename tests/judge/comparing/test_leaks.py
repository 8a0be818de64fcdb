"""What judges have learned from: written beside them, inherited, and found among battles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from judge.battles import iter_battles, read_battles, swap
from judge.comparing.leaks import (
    FILE,
    Collector,
    find_leaks,
    find_repeats,
    leak_table,
    merged,
    read_seen,
    seen_by,
    seen_of,
    write_seen,
)
from judge.comparing.marks import battle_marks
from judge.comparing.near import Kind
from judge.comparing.unleaked import leak_reports
from judge.errors import InputError
from judge.judges import SHIPPED, load_judge


def write(path: Path, count: int, *, first: int = 0, winners: str = "ab") -> Path:
    """Battles, each with words of its own, the same for the same number."""
    rows = []
    for n in range(first, first + count):
        letters = np.random.default_rng(n).integers(26, size=(70, 5)) + ord("a")
        said = ["".join(map(chr, word)) for word in letters.tolist()]
        rows.append(
            {
                "id": f"b{n}",
                "prompt": " ".join(said[:10]),
                "response_a": " ".join(said[10:40]),
                "response_b": " ".join(said[40:]),
                "winner": winners[n % len(winners)],
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return write(tmp_path / "known.jsonl", 30)


def test_what_was_written_is_read_again_byte_for_byte(known: Path, tmp_path: Path) -> None:
    seen = seen_of(known)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    write_seen(tmp_path / "one", seen)
    write_seen(tmp_path / "two", iter_battles(known, chunk_rows=7), known.name)
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()
    again = read_seen(tmp_path / "one")
    assert again is not None
    assert len(again) == 30
    assert again.names == ("known.jsonl",)
    np.testing.assert_array_equal(again.marks.sketches, seen.marks.sketches)


def test_no_text_no_label_and_no_order_is_in_it(known: Path, tmp_path: Path) -> None:
    write_seen(tmp_path, seen_of(known))
    with np.load(tmp_path / FILE, allow_pickle=False) as stored:
        kinds = {name: stored[name].dtype.kind for name in stored.files}
        assert [name for name, kind in kinds.items() if kind == "U"] == ["names"]
        assert "turned" not in kinds
        assert (np.diff(stored["battles"].astype(object)) > 0).all()


@pytest.mark.parametrize(("chunk_rows", "workers"), [(1, 1), (7, 3), (4096, 2)])
def test_batches_and_threads_change_nothing(known: Path, chunk_rows: int, workers: int) -> None:
    one, other = seen_of(known), seen_of(known, chunk_rows=chunk_rows, workers=workers)
    np.testing.assert_array_equal(one.marks.battles, other.marks.battles)
    np.testing.assert_array_equal(one.marks.sketches, other.marks.sketches)


def test_battles_without_a_label_teach_nothing(tmp_path: Path) -> None:
    lines = write(tmp_path / "some.jsonl", 10).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[3]["winner"] = None
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(seen_of(tmp_path / "some.jsonl")) == 9
    for row in rows:
        del row["winner"]
    (tmp_path / "none.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(seen_of(tmp_path / "none.jsonl")) == 10


def test_several_files_are_one_and_keep_their_names(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}.jsonl", 12, first=n * 8) for n in range(3)]
    seen = seen_of(*files)
    assert len(seen) == 28  # four of each are in the next one too
    assert seen.names == ("0.jsonl", "1.jsonl", "2.jsonl")
    np.testing.assert_array_equal(np.bincount(seen.sources), [12, 8, 8])
    assert len(merged([])) == 0
    assert len(Collector().seen()) == 0


def test_a_folder_without_marks_or_with_those_of_another_rule(known: Path, tmp_path: Path) -> None:
    assert read_seen(tmp_path) is None
    write_seen(tmp_path, seen_of(known))
    with np.load(tmp_path / FILE) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(tmp_path / FILE, **(arrays | {"version": np.array(99)}))
    assert read_seen(tmp_path) is None


@pytest.mark.parametrize("harm", ["cut", "text", "names", "sketches", "sources", "missing"])
def test_damaged_marks_are_said(known: Path, tmp_path: Path, harm: str) -> None:
    write_seen(tmp_path, seen_of(known))
    path = tmp_path / FILE
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif harm == "text":
        path.write_text("marks")
    elif harm == "missing":
        np.savez(path, **{k: v for k, v in arrays.items() if k != "battles"})
    else:
        wrong = {
            "names": np.array(["x"], dtype=object),
            "sketches": arrays["sketches"][:, :5],
            "sources": arrays["sources"] + np.uint16(4),
        }
        np.savez(path, **(arrays | {harm: wrong[harm]}))
    with pytest.raises(InputError, match="holds no usable marks") as caught:
        read_seen(tmp_path)
    assert str(path) in str(caught.value)


# --- judges ---------------------------------------------------------------------------------------


def judge_folder(path: Path, **settings: object) -> Path:
    path.mkdir()
    (path / "judge.yaml").write_text(yaml.safe_dump({"kind": "calibrated", **settings}))
    return path


def test_the_shipped_judge_knows_what_it_learned_from() -> None:
    judge = load_judge("statistical")
    assert judge.folder == SHIPPED["statistical"]
    seen = seen_by(judge)
    assert seen is not None
    assert len(seen) > 9000
    assert {"arena_train.parquet", "arena_dev.csv"} < set(seen.names)
    assert (SHIPPED["statistical"] / FILE).stat().st_size < 1_000_000


def test_who_is_made_of_others_has_seen_what_they_have(known: Path, tmp_path: Path) -> None:
    judge = load_judge("statistical")
    inner = seen_by(judge)
    outer = load_judge("statistical")
    outer.members = (judge,)
    outer.folder = tmp_path
    assert inner is not None
    found = seen_by(outer)
    assert found is not None
    assert len(found) == len(inner)  # from the member alone
    write_seen(tmp_path, seen_of(known))
    found = seen_by(outer)
    assert found is not None
    assert len(found) == len(inner) + 30
    outer.members, outer.folder = (), None
    assert seen_by(outer) is None


# --- among battles --------------------------------------------------------------------------------


def test_leaks_are_found_named_and_listed(known: Path, tmp_path: Path) -> None:
    seen = seen_of(known)
    battles = read_battles(write(tmp_path / "asked.jsonl", 10, first=25))
    battles = pd.concat([swap(battles.iloc[:3]), battles.iloc[3:]])
    battles.at[8, "prompt"] = read_battles(known)["prompt"][0]
    leaks = find_leaks("mine", battle_marks(battles), seen)
    assert leaks.found.kinds.tolist() == [3] * 5 + [0] * 3 + [1, 0]
    assert leaks.learned.tolist() == [True] * 5 + [False] * 5
    table = leak_table(battles["id"].tolist(), [leaks])
    assert table["id"].tolist() == ["b25", "b26", "b27", "b28", "b29", "b33"]
    assert table["kind"].tolist() == ["exact"] * 5 + ["prompt"]
    assert set(table["seen_in"]) == {"known.jsonl"}
    assert set(table["judge"]) == {"mine"}
    assert len(leak_table([], [])) == 0


def test_figures_with_leaks_and_without(known: Path, tmp_path: Path) -> None:
    battles = read_battles(write(tmp_path / "asked.jsonl", 40, first=10))
    leaks = find_leaks("mine", battle_marks(battles), seen_of(known))
    labels = np.tile(np.eye(3)[:2], (20, 1))
    proba = np.where(leaks.learned[:, None], 0.9 * labels + 0.1 / 3, np.full((40, 3), 1 / 3))
    proba[3] = np.nan
    labels[4] = np.nan
    given = {"mine": proba, "other": proba}
    stranger = find_leaks("other", battle_marks(battles), merged([]))
    reports = leak_reports(
        [stranger, leaks], battles["id"].tolist(), labels, given, np.arange(40), rounds=200
    )
    (report,) = reports  # of the stranger there is nothing to report
    assert (report.judge, report.seen) == ("mine", 30)
    assert (report.exact, report.near, report.prompt) == (18, 0, 0)
    assert report.first == ("b10", "b11", "b12", "b15", "b16")
    assert report.files == ("known.jsonl",)
    assert (report.learned.battles, report.without.battles) == (18, 20)
    assert report.learned.log_loss == pytest.approx(-np.log(0.9 + 0.1 / 3))
    assert report.without.log_loss == pytest.approx(np.log(3))
    assert report.strange == report.without


def test_repeats_and_labels_that_oppose_one_another(tmp_path: Path) -> None:
    battles = read_battles(write(tmp_path / "one.jsonl", 6, winners="a"))
    again = pd.concat([swap(battles.iloc[:2]), battles.iloc[2:4], swap(battles.iloc[2:3])])
    table = pd.concat([battles, again], ignore_index=True)
    labels = np.tile([1.0, 0.0, 0.0], (11, 1))
    # The first comes swapped with the label swapped: it agrees. The second does not.
    labels[6], labels[7] = [0, 1, 0], [1, 0, 0]
    labels[8], labels[9], labels[10] = [0, 1, 0], np.nan, [0, 0, 1]
    found = find_repeats(battle_marks(table), labels)
    assert found.places == ((0, 6), (1, 7), (2, 8), (3, 9), (2, 10))
    assert (found.battles, found.opposed) == (5, 2)


def test_responses_that_are_the_same_cannot_oppose() -> None:
    cells = [(("q",), ("x",), ("x",))] * 2
    table = pd.DataFrame(cells, columns=["prompt", "response_a", "response_b"], dtype=object)
    labels = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    assert find_repeats(battle_marks(table), labels).opposed == 0


# --- real battles ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_shipped_judge_has_seen_the_natural_sample(shared_data: Path) -> None:
    seen = seen_by(load_judge("statistical"))
    assert seen is not None
    marks = battle_marks(read_battles(shared_data / "arena_dev.csv"))
    leaks = find_leaks("statistical", marks, seen)
    assert leaks.of(Kind.EXACT).all()
    others = battle_marks(read_battles(shared_data / "llmfao_crowd.parquet"))
    assert not find_leaks("statistical", others, seen).learned.any()
