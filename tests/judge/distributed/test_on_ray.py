"""`score --on ray` on a real cluster of this machine."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

if find_spec("ray") is None:  # it is to be told how to behave before it is imported
    pytest.skip("Ray is not installed", allow_module_level=True)

from judge.battles import iter_battles
from judge.cli.main import cli
from judge.distributed.cluster import Cluster, joined
from judge.distributed.runs import folder_of
from judge.distributed.scoring import Found, judged
from judge.errors import ArenaJudgeError
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from judge.judges.prompted_settings import PromptedSettings
from tests.judge.distributed.hands import Noted

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

TWO = Cluster(actors=2)
ROWS, BLOCK = 60, 7


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        root = str(Path(__file__).parents[3])  # workers are to know `tests`
        patch.setenv(
            "PYTHONPATH",
            os.pathsep.join([root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
        )
        with joined(TWO):
            yield


@pytest.fixture
def battles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    with Path("battles.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "prompt", "response_a", "response_b", "winner", "else"])
        for row in range(ROWS):
            texts = [
                f'["What is {row}?", "é \\u2028 \\"x\\""]',
                f'["{"a " * row}", "1"]',
                '["b", ""]',
            ]
            rows.writerow([f"x{row}", *texts, ["model_a", "tie", "model_b"][row % 3], f"{row}%"])
    return "battles.csv"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="arena-judge")


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl.gz"])
def test_what_a_cluster_writes_is_what_one_machine_writes(battles: str, ending: str) -> None:
    """To the last byte, ballots too, and nothing else is left."""
    same = ("--chunk-rows", str(BLOCK))
    here = run("score", battles, "-o", f"here.{ending}", *same, "--ballots", "h.parquet")
    there = run(
        *("score", battles, "-o", f"there.{ending}", *same, "--ballots", "t.parquet"),
        *("--on", "ray", "--actors", "2"),
    )
    assert here.exit_code == there.exit_code == 0, there.output
    assert Path(f"here.{ending}").read_bytes() == Path(f"there.{ending}").read_bytes()
    assert Path("h.parquet").read_bytes() == Path("t.parquet").read_bytes()
    assert not folder_of(Path(f"there.{ending}")).exists()


@pytest.mark.usefixtures("two_workers")
def test_unjudged_battles_stay_where_they_are(battles: str) -> None:
    """With their reasons, and the exit code that says so."""
    lines = [f"x{row},ab,{'invalid' if row % 4 == 0 else 'a'}" for row in range(ROWS)]
    Path("votes.csv").write_text("\n".join(["id,order,vote", *lines]) + "\n")
    assert run("import", "votes.csv", "-o", "recorded.parquet").exit_code == 0
    Path("judge").mkdir()
    Path("judge", "judge.yaml").write_text("kind: recorded\n")
    Path("recorded.parquet").rename("judge/ballots.parquet")
    same = ("--judge", "judge", "--chunk-rows", str(BLOCK))
    here = run("score", battles, "-o", "here.csv", *same)
    there = run("score", battles, "-o", "there.csv", *same, "--on", "ray", "--actors", "2")
    assert here.exit_code == there.exit_code == 3, there.output
    for name in ("{}.csv", "{}.csv.unjudged.csv"):
        said = [Path(name.format(where)).read_bytes() for where in ("here", "there")]
        assert said[0] == said[1]
        assert said[0]


def noted(notes: Path, **how: object) -> Noted:
    notes.mkdir(exist_ok=True)
    asking, running = PromptedSettings(), ClassifierSettings()
    return Noted("statistical", asking, running, 0, False, str(notes), **how)  # type: ignore[arg-type]


def spread(battles: str, how: Noted, ticks: list[int]) -> Found:
    return judged(
        how,
        load_judge("statistical"),
        battles,
        Path("out.parts"),
        TWO,
        chunk_rows=BLOCK,
        on_gpus=False,
        fresh=False,
        tick=ticks.append,
    )


def checked(found: Found, battles: str) -> None:
    """What was found is what the judge says, in the order of the file."""
    judge = load_judge("statistical")
    rows = 0
    for table in iter_battles(battles, chunk_rows=BLOCK):
        assert np.array_equal(found.judge(table).proba, judge.judge(table).proba)
        rows += len(table)
    assert rows == ROWS


@pytest.mark.usefixtures("two_workers")
def test_a_worker_that_is_killed_loses_nothing(battles: str, tmp_path: Path) -> None:
    ticks: list[int] = []
    found = spread(battles, noted(tmp_path / "notes", dies="000003"), ticks)
    assert (tmp_path / "notes" / "died-000003").exists()
    assert sum(ticks) == ROWS
    checked(found, battles)


@pytest.mark.usefixtures("two_workers")
def test_a_block_that_kills_every_worker_is_told_of(battles: str, tmp_path: Path) -> None:
    with pytest.raises(ArenaJudgeError, match=r"ended 3 workers.*fewer battles a block"):
        spread(battles, noted(tmp_path / "notes", dies="000002", always=True), [])


@pytest.mark.usefixtures("two_workers")
def test_what_a_worker_refuses_is_said_in_one_line_and_the_rest_is_kept(
    battles: str, tmp_path: Path
) -> None:
    """And the same run again does only what is missing."""
    notes = tmp_path / "notes"
    with pytest.raises(ArenaJudgeError) as raised:
        spread(battles, noted(notes, refuses="000008"), [])
    assert str(raised.value) == "battles.csv, row 7: cannot be judged; mend it"
    before = {one.name for one in notes.glob("did-*")}
    assert "did-000008" not in before
    kept = len(list(Path("out.parts").glob("*-*.parquet")))
    assert kept >= len(before)


@pytest.mark.usefixtures("two_workers")
def test_what_was_mended_is_tried_again(battles: str, tmp_path: Path) -> None:
    """However often it failed before: attempts count within a run."""
    notes = tmp_path / "notes"
    how = noted(notes, refuses="000008")
    for _ in range(4):
        with pytest.raises(ArenaJudgeError, match="row 7: cannot be judged"):
            spread(battles, how, [])
    (notes / "mended").touch()
    checked(spread(battles, how, []), battles)


@pytest.mark.usefixtures("two_workers")
def test_a_run_goes_on_from_what_was_finished(battles: str, tmp_path: Path) -> None:
    notes, ticks = tmp_path / "notes", list[int]()
    how = noted(notes)
    spread(battles, how, [])
    gone = sorted(Path("out.parts").glob("000004-*.parquet"))
    assert len(gone) == 1
    gone[0].unlink()
    checked(spread(battles, how, ticks), battles)
    did = {one.name: len(one.read_bytes()) for one in notes.glob("did-*")}
    assert did.pop("did-000004") == 2
    assert set(did.values()) == {1}
    assert sum(ticks) == ROWS


@pytest.mark.usefixtures("two_workers")
def test_parts_of_another_run_are_not_taken(battles: str, tmp_path: Path) -> None:
    spread(battles, noted(tmp_path / "notes"), [])
    with pytest.raises(ArenaJudgeError, match="another judge or other settings"):
        spread(battles, noted(tmp_path / "others"), [])


@pytest.mark.usefixtures("two_workers")
def test_more_workers_than_there_is_room_for(battles: str) -> None:
    result = run("score", battles, "-o", "out.csv", "--on", "ray", "--actors", "500")
    assert result.exit_code == 2
    assert "no room for 500 workers" in result.output
    assert not Path("out.csv").exists()


def test_a_killed_command_goes_on_and_says_no_more_than_here(battles: str) -> None:
    """A cluster of its own, whose driver is killed once the first block is done."""
    command = [sys.executable, "-m", "judge", "score", battles, "--chunk-rows", "3"]
    here = subprocess.run([*command, "-o", "here.csv"], capture_output=True, check=True, text=True)
    there = [*command, "-o", "there.csv", "--on", "ray", "--actors", "2"]
    killed = subprocess.Popen(there, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = folder_of(Path("there.csv"))
    done: list[Path] = []
    while killed.poll() is None and not done:
        done = [one for one in parts.glob("*.parquet") if ".battles." not in one.name]
    if killed.poll() is None:
        os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    again = subprocess.run(there, capture_output=True, check=True, text=True)
    assert Path("here.csv").read_bytes() == Path("there.csv").read_bytes()
    assert len(again.stderr.splitlines()) <= len(here.stderr.splitlines()) + 1
    assert not parts.exists()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("--actors", "2"), "--actors is for --on ray"),
        (("--on", "ray", "-o", "-"), "no standard stream"),
        (("--on", "ray", "--device", "cuda:1"), "--device is for judges"),
    ],
)
def test_what_does_not_go_together(battles: str, said: tuple[str, ...], told: str) -> None:
    result = run("score", battles, *said)
    assert result.exit_code == 2
    assert told in result.output
