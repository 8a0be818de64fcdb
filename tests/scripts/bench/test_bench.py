"""The benchmarks run from start to end, and print tables, on made-up battles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge.battles import read_battles

ROOT = Path(__file__).parents[3]
PROSE = """the of a to in is that for it as with on be at by this have from or one had not but what
all were when we there can an your which their said if do will each about how up out them then"""
WORDS = PROSE.split()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the benchmarks ask for; the longer response mostly wins."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    _battles(random, 400, ties=False).to_parquet(folder / "arena_train.parquet")
    _battles(random, 80, ties=True).to_csv(folder / "arena_dev.csv", index=False)
    for name in ("pandalm_testset", "autoj_pairwise"):
        odd = _battles(random, 20, ties=True)
        odd.loc[odd.index % 2 == 0, "response_a"] = json.dumps([""])
        odd.to_parquet(folder / f"{name}.parquet")
    return folder


def _battles(random: np.random.Generator, count: int, *, ties: bool) -> pd.DataFrame:
    lengths = random.integers(3, 60, (count, 2))
    texts = {
        side: [json.dumps([_text(random, size)]) for size in lengths[:, place].tolist()]
        for place, side in enumerate(("response_a", "response_b"))
    }
    margin = lengths[:, 0] - lengths[:, 1] + random.normal(0.0, 15.0, count)
    tied = (np.abs(margin) < 12) & ties
    winners = np.stack([~tied & (margin > 0), ~tied & (margin <= 0), tied], axis=1).astype(int)
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    models = random.choice(["ash", "birch", "cedar"], (2, count)).tolist()
    return pd.DataFrame(
        {
            "id": [str(number) for number in range(count)],
            "model_a": models[0],
            "model_b": models[1],
            "prompt": [json.dumps([f"{_text(random, 9)} {number}"]) for number in range(count)],
            **texts,
            **dict(zip(names, winners.T, strict=True)),
        }
    )


def _text(random: np.random.Generator, size: int) -> str:
    return " ".join(random.choice(WORDS, size).tolist())


def _tables(module: str, *arguments: str) -> list[list[list[str]]]:
    """The tables that a benchmark printed, each a list of rows of cells, its head first."""
    done = subprocess.run(
        [sys.executable, "-m", f"scripts.bench.{module}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    blocks = [block.splitlines() for block in done.stdout.split("\n\n")]
    return [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in block]
        for block in blocks
        if block[0].startswith("|")
    ]


def test_quality_puts_every_judge_beside_the_statistical_one(data: Path) -> None:
    verdicts, by_class, by_battles = _tables("quality", "--data", str(data), "--least", "2")
    assert {len(row) for row in verdicts} == {8}
    losses = {row[0]: float(row[2]) for row in verdicts[2:]}
    assert len(losses) == 7
    assert list(losses.values()) == sorted(losses.values())
    assert losses["length logistic"] < losses["class prior of the other folds"]
    gaps = {row[0]: row[4] for row in verdicts[2:]}
    assert gaps.pop("statistical judge") == ""
    own = losses["statistical judge"]
    for name, gap in gaps.items():
        assert float(gap) == pytest.approx(losses[name] - own, abs=2e-4)
    for row in by_class[2:]:
        assert sum(map(float, row[1:4])) == pytest.approx(1.0, abs=2e-3)
    # What serves a peer best is what it is measured by.
    for row in by_battles[2:]:
        assert min(float(cell) for cell in row[1:] if cell) == losses[row[0]]


def test_speed_times_both_judges_and_whole_processes(data: Path) -> None:
    judging, whole = _tables("speed", "--data", str(data), "--runs", "1", "--least", "2")
    assert judging[0][0] == "400 battles of arena_train.parquet"
    assert [row[0].split(",")[0] for row in judging[2:]] == [
        "statistical judge",
        "statistical judge",
        "TF-IDF + LightGBM",
    ]
    assert len(whole) == 5
    # The memory of the benchmark itself is not put down to the command.
    assert float(whole[2][-1].split()[0]) < float(whole[3][-1].split()[0])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_memory_scores_as_many_battles_as_asked_for(data: Path, tmp_path: Path, kind: str) -> None:
    (found,) = _tables(
        "memory",
        "--data",
        str(data),
        "--battles",
        "150",
        "--kind",
        kind,
        "--scratch",
        str(tmp_path),
    )
    assert found[2][:2] == [kind, "150"]
    assert not list(tmp_path.iterdir())


def test_prompted_memory_asks_about_short_battles_and_real_ones(data: Path) -> None:
    pytest.importorskip("aiohttp")
    (found,) = _tables(
        *("prompted_memory", "--data", str(data), "--battles", "60", "--latency", "0"),
        *("--", "--chunk-rows", "20"),
    )
    assert [row[:2] for row in found[2:]] == [["short", "60"], ["real", "60"]]


def test_made_up_battles_can_be_read_and_differ(data: Path, tmp_path: Path) -> None:
    made = "from scripts.bench.memory import blocks, write; from pathlib import Path; import sys; "
    made += "write(Path(sys.argv[2]), blocks(Path(sys.argv[1]), 150, 0))"
    file = tmp_path / "battles.csv"
    subprocess.run(
        [sys.executable, "-c", made, str(data / "arena_dev.csv"), str(file)], check=True, cwd=ROOT
    )
    battles = read_battles(file)
    assert len(battles) == battles["response_a"].nunique() == battles["id"].nunique() == 150


def test_a_failing_command_is_no_measurement(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.bench.process", "score", str(tmp_path / "none.csv")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "none.csv" in done.stderr
