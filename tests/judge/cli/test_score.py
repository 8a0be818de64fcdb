"""`arena-judge score` on files, streams, unjudged battles, hostile text and interruptions."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

Run = Callable[..., Result]
Make = Callable[..., str]
Start = Callable[..., "subprocess.Popen[bytes]"]

COLUMNS = ["id", "winner_model_a", "winner_model_b", "winner_tie"]
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\r\nnext"


def _listing(folder: Path) -> set[str]:
    """Everything in a folder but judges."""
    return {path.name for path in folder.iterdir() if path.suffix != ".judge"}


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(name, dtype={"id": str})


def test_predictions_stand_in_the_order_of_the_file_and_sum_to_one(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    ids = ["007", "1.50", "7", "7", "a,b", 'quote " \n']
    result = run("score", battle_file(ids=ids), "--judge", length_judge())
    assert result.exit_code == 0
    assert result.stdout == ""
    found = _read("predictions.csv")
    assert list(found.columns) == COLUMNS
    assert found["id"].tolist() == ids
    np.testing.assert_allclose(found[COLUMNS[1:]].sum(axis=1), 1, atol=1e-9)
    lengths = np.log1p(4 * (1 + np.arange(6) % 4)) - np.log1p(3 * (1 + np.arange(6) % 3))
    np.testing.assert_array_equal(found["winner_model_a"] > 0.4, lengths > 0)


def test_the_summary_tells_what_was_done(run: Run, length_judge: Make, battle_file: Make) -> None:
    result = run("score", battle_file(count=12), "--judge", length_judge())
    lines = result.stderr.splitlines()
    assert lines[0].startswith("12 battles by length in ")
    assert lines[1].startswith("mean probabilities: A 0.")
    assert lines[2].startswith("on 12 labelled battles: log loss ")
    assert "(class prior " in lines[2]
    assert lines[3:] == ["predictions.csv: written"]


def test_without_labels_nothing_is_measured(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    result = run("score", battle_file(labels=False), "--judge", length_judge())
    assert result.exit_code == 0
    assert "log loss" not in result.stderr


def test_json_is_the_summary_and_nothing_else(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    result = run("score", battle_file(count=9), "--judge", length_judge(), "--json")
    summary = json.loads(result.stdout)
    assert result.stderr == ""
    proba = _read("predictions.csv")[COLUMNS[1:]].to_numpy()
    labels = pd.read_csv("battles.csv")[COLUMNS[1:]].to_numpy()
    assert summary["log_loss"] == pytest.approx(-np.log(proba[labels == 1]).mean())
    prior = labels.mean(axis=0)
    assert summary["class_prior_log_loss"] == pytest.approx(-(prior * np.log(prior)).sum())
    assert summary["accuracy"] == pytest.approx((proba.argmax(1) == labels.argmax(1)).mean())
    assert list(summary["mean_probabilities"].values()) == pytest.approx(proba.mean(axis=0))
    assert (summary["battles"], summary["labelled"], summary["unjudged"]) == (9, 9, 0)
    assert (summary["predictions_file"], summary["replaced"]) == ("predictions.csv", [])
    assert summary["battles_per_second"] == pytest.approx(9 / summary["seconds"])


def test_batches_and_workers_change_nothing(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file, judge = battle_file(count=50), length_judge(unjudged="question 3")
    summaries, written = [], set()
    for rows, workers in ((1, 1), (7, 3), (4096, 2), (50, 1)):
        result = run(
            *("score", file, "--judge", judge, "--json", "--ballots", "votes.csv"),
            *("--chunk-rows", str(rows), "--workers", str(workers)),
        )
        assert result.exit_code == 3
        summary = json.loads(result.stdout)
        summaries.append([summary["log_loss"], *summary["mean_probabilities"].values()])
        files = ("predictions.csv", "predictions.csv.unjudged.csv", "votes.csv")
        written.add(tuple(Path(name).read_bytes() for name in files))
    assert len(written) == 1
    np.testing.assert_allclose(summaries, [summaries[0]] * 4, rtol=1e-12)


def test_standard_output_takes_the_predictions_and_nothing_else(
    run: Run, length_judge: Make, battle_file: Make, folder: Path
) -> None:
    file, judge = battle_file(), length_judge()
    run("score", file, "--judge", judge)
    expected = Path("predictions.csv").read_text()
    Path("predictions.csv").unlink()
    result = run("score", file, "--judge", judge, "-o", "-", "--show", "2")
    assert result.stdout == expected
    assert "6 battles by length" in result.stderr
    assert "question 1" in result.stderr
    assert _listing(folder) == {"battles.csv"}


def test_battles_may_come_from_standard_input(
    start: Start, length_judge: Make, battle_file: Make, folder: Path
) -> None:
    judge = length_judge()
    with (folder / battle_file()).open("rb") as stdin:
        process = start("score", "-", "--judge", judge, "-o", "-", stdin=stdin)
        out, error = process.communicate()
    assert (process.returncode, out.count(b"\n")) == (0, 7), error


@pytest.mark.parametrize("name", ["p.csv.gz", "p.jsonl", "p.parquet"])
def test_predictions_in_other_formats_are_known_again(
    run: Run, length_judge: Make, battle_file: Make, name: str
) -> None:
    file, judge = battle_file(), length_judge()
    assert f"{name}: written" in run("score", file, "--judge", judge, "-o", name).stderr
    assert f"{name}: replaced" in run("score", file, "--judge", judge, "-o", name).stderr


# --- unjudged -------------------------------------------------------------------------------------


def test_the_unjudged_are_listed_and_left_empty(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    prompts = ["fine", "hard", "fine", "fine", "so hard", "fine"]
    ids = ["x", "x", "y", "z", "w", "v"]
    result = run(
        "score", battle_file(prompts=prompts, ids=ids), "--judge", length_judge(unjudged="hard")
    )
    assert result.exit_code == 3
    assert "2 battles unjudged, left empty" in result.stderr
    found = _read("predictions.csv")
    assert found[COLUMNS[1:]].isna().all(axis=1).tolist() == [p != "fine" for p in prompts]
    listed = _read("predictions.csv.unjudged.csv")
    assert listed[["id", "battle"]].to_numpy().tolist() == [["x", 2], ["w", 5]]
    assert listed["reason"].tolist() == ["no answer,\n\x1b[31mthey said"] * 2


def test_the_list_of_a_run_before_does_not_outlive_it(
    run: Run, length_judge: Make, battle_file: Make, folder: Path
) -> None:
    file = battle_file()
    run("score", file, "--judge", length_judge("first", unjudged="question"))
    result = run("score", file, "--judge", length_judge("second"))
    assert result.exit_code == 0
    assert "predictions.csv.unjudged.csv: removed" in result.stderr
    assert _listing(folder) == {"battles.csv", "predictions.csv"}


def test_the_unjudged_of_a_stream_are_said_and_cannot_act(
    run: Run, length_judge: Make, battle_file: Make, folder: Path
) -> None:
    file = battle_file(count=30)
    result = run("score", file, "--judge", length_judge(unjudged="question"), "-o", "-")
    assert result.exit_code == 3
    assert "battle 2 (id 101) is unjudged: no answer, [31mthey said\n" in result.stderr
    assert result.stderr.count("is unjudged") == 20
    assert "30 battles unjudged" in result.stderr
    assert _listing(folder) == {"battles.csv"}


def test_fill_gives_the_unjudged_the_judge_s_own_prior(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    judge = length_judge(unjudged="question 2", prior=[0.5, 0.3, 0.2])
    result = run("score", battle_file(), "--judge", judge, "--fill", "prior")
    assert result.exit_code == 3
    assert "1 battle unjudged, given the prior's probabilities" in result.stderr
    assert _read("predictions.csv")[COLUMNS[1:]].iloc[2].tolist() == [0.5, 0.3, 0.2]
    assert _read("predictions.csv.unjudged.csv")["id"].tolist() == ["102"]


def test_fill_falls_back_on_the_mean_of_the_run_and_never_on_labels(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    judge = length_judge(unjudged="question 0")
    run("score", battle_file(), "--judge", judge, "--fill", "prior", "--chunk-rows", "2")
    found = _read("predictions.csv")[COLUMNS[1:]].to_numpy()
    np.testing.assert_allclose(found[0], found[1:].mean(axis=0), rtol=1e-12)


def test_nothing_judged_leaves_nothing_to_fill_in_with(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    judge = length_judge(unjudged="question")
    result = run("score", battle_file(), "--judge", judge, "--fill", "prior")
    assert result.exit_code == 3
    assert "6 battles unjudged, left empty" in result.stderr
    assert "mean probabilities" not in result.stderr
    assert _read("predictions.csv")[COLUMNS[1:]].isna().all(axis=None)


# --- ballots --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["votes.csv", "votes.jsonl", "votes.parquet"])
def test_ballots_are_written_beside(
    run: Run, length_judge: Make, battle_file: Make, name: str
) -> None:
    arguments = ["score", battle_file(), "--judge", length_judge(), "--ballots", name]
    result = run(*arguments, "--chunk-rows", "4", "--workers", "1")
    assert f"{name}: written" in result.stderr
    lines = partial(pd.read_json, lines=True)
    read = {".csv": pd.read_csv, ".jsonl": lines, ".parquet": pd.read_parquet}
    votes = read[Path(name).suffix](name)
    assert votes["id"].astype(str).tolist() == _read("predictions.csv")["id"].tolist()
    assert votes["clarity_NA"].tolist() == [0.25] * 6
    assert f"{name}: replaced" in run(*arguments).stderr


def test_a_judge_without_ballots_says_so(
    run: Run, length_judge: Make, battle_file: Make, folder: Path
) -> None:
    judge = length_judge(ballots=False)
    result = run("score", battle_file(), "--judge", judge, "--ballots", "votes.parquet")
    assert result.exit_code == 2
    assert "length fills in no ballots; leave --ballots out" in result.stderr
    assert _listing(folder) == {"battles.csv"}


# --- what may be written where --------------------------------------------------------------------


def test_an_earlier_result_is_replaced_and_that_is_said(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file, judge = battle_file(), length_judge()
    run("score", file, "--judge", judge)
    again = run("score", file, "--judge", judge)
    assert "predictions.csv: replaced" in again.stderr
    told = json.loads(run("score", file, "--judge", judge, "--json").stdout)
    assert told["replaced"] == ["predictions.csv"]


def test_a_file_that_is_no_earlier_result_is_kept_unless_forced(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file, judge = battle_file(), length_judge()
    thesis = Path("thesis.csv")
    thesis.write_text("id,chapter\n1,the only copy\n")
    for option in ("-o", "--ballots"):
        result = run("score", file, "--judge", judge, option, "thesis.csv")
        assert result.exit_code == 2
        assert "thesis.csv: is there already and is no earlier result" in result.stderr
        assert "only copy" in thesis.read_text()
    forced = run("score", file, "--judge", judge, "-o", "thesis.csv", "--force")
    assert "thesis.csv: replaced" in forced.stderr
    assert _read("thesis.csv")["id"].tolist()[0] == "100"


@pytest.mark.parametrize("name", ["battles.csv", "./battles.csv", "link.csv"])
def test_the_battles_are_never_written_over(
    run: Run, length_judge: Make, battle_file: Make, name: str
) -> None:
    file, judge = battle_file(), length_judge()
    Path("link.csv").symlink_to(file)
    before = Path(file).read_bytes()
    result = run("score", file, "--judge", judge, "-o", name, "--force")
    assert result.exit_code == 2
    assert "is read by this very command" in result.stderr
    assert Path(file).read_bytes() == before


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("length.judge", "length.judge: is a folder; name a file in it"),
        ("nowhere/p.csv", "its folder is not there"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_said_before_the_work(
    run: Run, length_judge: Make, battle_file: Make, output: str, said: str
) -> None:
    result = run("score", battle_file(), "--judge", length_judge(), "-o", output)
    assert result.exit_code == 2
    assert said in result.stderr


def test_predictions_and_ballots_need_a_file_each(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    result = run(
        *("score", battle_file(), "--judge", length_judge()),
        *("-o", "same.csv", "--ballots", "./same.csv"),
    )
    assert result.exit_code == 2
    assert "name the same file" in result.stderr


def test_predictions_may_go_to_a_device(
    run: Run, length_judge: Make, battle_file: Make, folder: Path
) -> None:
    result = run("score", battle_file(), "--judge", length_judge(), "-o", "/dev/null")
    assert result.exit_code == 0
    assert not Path("/dev/null").is_file()
    assert _listing(folder) == {"battles.csv"}


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,prompt,response_a\n1,a,b\n", "response_b"),
        ("", "b.csv"),
        ("id,prompt,response_a,response_b\n", "b.csv"),
    ],
)
def test_a_file_that_holds_no_battles_is_one_line(
    run: Run, length_judge: Make, folder: Path, text: str, said: str
) -> None:
    Path("b.csv").write_text(text)
    result = run("score", "b.csv", "--judge", length_judge())
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("arena-judge: error: b.csv")
    assert result.stderr.count("\n") == 1
    assert _listing(folder) == {"b.csv"}


def test_a_fault_late_in_the_file_leaves_the_files_of_before(
    run: Run, length_judge: Make, battle_file: Make, folder: Path
) -> None:
    judge = length_judge(unjudged="question 1")
    before = run("score", battle_file("good.csv"), "--judge", judge, "--ballots", "votes.parquet")
    assert before.exit_code == 3
    kept = {name: Path(name).read_bytes() for name in _listing(folder)}
    text = Path(battle_file("bad.csv", count=40)).read_text()
    Path("bad.csv").write_text(text + "too,few\n")
    result = run(
        *("score", "bad.csv", "--judge", judge, "--ballots", "votes.parquet"),
        *("--chunk-rows", "4", "--workers", "2"),
    )
    assert result.exit_code == 2
    assert result.stderr.startswith("arena-judge: error: bad.csv, row 42")
    assert _listing(folder) == {*kept, "bad.csv"}
    assert {name: Path(name).read_bytes() for name in kept} == kept


@pytest.mark.parametrize("fault", ["full disk", "out of memory"])
def test_a_machine_that_gives_out_leaves_nothing_behind(
    run: Run, length_judge: Make, battle_file: Make, folder: Path, fault: str
) -> None:
    file = battle_file(prompts=["fine", "fine", "fine", "fine", fault, "fine"])
    result = run("score", file, "--judge", length_judge(), "--chunk-rows", "2")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert _listing(folder) == {"battles.csv"}


def test_a_judge_that_is_not_there_is_said_before_anything_is_read(run: Run, folder: Path) -> None:
    result = run("score", "missing.csv", "--judge", "statistcal")
    assert result.exit_code == 2
    assert "no such judge: 'statistcal'; did you mean statistical?" in result.stderr


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(
    start: Start, length_judge: Make, battle_file: Make, folder: Path, name: signal.Signals
) -> None:
    judge = length_judge(seconds=0.2, unjudged="question 1")
    file = battle_file(count=600)
    process = start(
        *("score", file, "--judge", judge, "--chunk-rows", "1", "--ballots", "votes.csv"),
        *("--workers", "2"),
    )
    until = time.monotonic() + 60
    while len(_listing(folder)) < 4 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    assert len(_listing(folder)) == 4, "battles and a draft of each of three outputs"
    process.send_signal(name)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.decode().strip() == "arena-judge: interrupted"
    assert (out, _listing(folder)) == (b"", {"battles.csv"})


def test_a_reader_that_has_seen_enough_is_no_error(
    start: Start, length_judge: Make, battle_file: Make
) -> None:
    process = start(
        "score", battle_file(count=4000), "--judge", length_judge(), "-o", "-", bufsize=0
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert error == b""


# --- on a terminal --------------------------------------------------------------------------------


def test_show_prints_that_many_without_letting_them_act(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file = battle_file(
        prompts=[HOSTILE, "日本語の質問" * 40, "hard", "x" * 9000, "", "last"],
        ids=[HOSTILE, "2", "3", "4", "5", "6"],
    )
    judge = length_judge(unjudged="hard")
    result = run("score", file, "--judge", judge, "--show", "5", "--chunk-rows", "2")
    lines = result.stdout.splitlines()
    assert len(lines) == 7
    assert "last" not in result.stdout
    assert lines[2].startswith("]0;owned[2Jgnp.…  ]0;owned[2Jgnp.exe next")
    assert lines[4].split() == ["3", "hard", "-", "-", "-"]
    assert not set("\x1b\x07\r\u202e") & set(result.output)
    assert max(map(len, lines)) <= 100
    assert run("score", file, "--judge", judge, "--show", "0").stdout == ""


@pytest.mark.parametrize(("count", "shown"), [(4, True), (21, False)])
def test_on_a_terminal_a_few_battles_are_shown_without_asking(
    start: Start, length_judge: Make, battle_file: Make, count: int, shown: bool
) -> None:
    ours, theirs = pty.openpty()
    process = start("score", battle_file(count=count), "--judge", length_judge(), stdout=theirs)
    assert process.stderr is not None
    os.close(theirs)
    seen = b""
    while True:
        try:
            block = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that the other side is gone
            break
        if not block:
            break
        seen += block
    os.close(ours)
    assert process.wait(timeout=60) == 0, process.stderr.read()
    process.stderr.close()
    assert (b"question 3" in seen) == shown
