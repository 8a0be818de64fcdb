"""One step of training on each form that `synth export` writes: the loss on those rows falls."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from judge.ballots import CRITERIA, VOTES, ballot_table
from judge.battles import read_battles
from judge.cli.main import cli
from judge.prompt_files import load_prompt
from synth.data import AnnotatedSet, write_annotated

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

HERE = Path(__file__).parent
BATTLES = Path(__file__).parents[2] / "examples" / "battles.csv"
ROWS = 3
PATIENCE = 600.0
TURN = {"A": "B", "B": "A", "AB": "AB"}

Losses = dict[str, list[float]]
Rows = list[dict[str, Any]]


def annotated(battles: pd.DataFrame) -> AnnotatedSet:
    """Three samples in each order: two for one side, the last for the other."""
    rows = [
        (name, order, sample, verdict if sample < 2 else {"A": "B", "B": "A", "AB": "A"}[verdict])
        for number, name in enumerate(battles["id"])
        for verdict in [("A", "B", "AB")[number % 3]]
        for order in ("AB", "BA")
        for sample in range(3)
    ]
    shares = [np.eye(4)[[VOTES.index(verdict)] * 5] for *_, verdict in rows]
    found = ballot_table(
        [name for name, *_ in rows],
        "teacher",
        shares,
        order=[order for _, order, *_ in rows],
        sample=[sample for _, _, sample, _ in rows],
        reply=[_reply(TURN[one] if order == "BA" else one) for _, order, _, one in rows],
        verdict=[share[0] for share in shares],
    )
    prompt = load_prompt("annotated")
    told = {"prompt": prompt.name, "prompt_version": "1", "prompt_digest": prompt.digest}
    return AnnotatedSet("data", battles, found.assign(model="teacher", **told))


def _reply(vote: str) -> str:
    votes = {name: {"reason": f"{vote}, as one sees.", "vote": vote} for name in CRITERIA}
    return json.dumps({**votes, "verdict": vote})


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """What each form has to learn from."""
    folder = tmp_path_factory.mktemp("synth")
    battles = read_battles(BATTLES)
    short = battles["prompt"].map(lambda turns: sum(map(len, turns))).argsort(kind="stable")
    write_annotated(folder / "data", annotated(battles.iloc[short.to_numpy()[:ROWS]]))
    files = {"preference": "train.jsonl", "votes": "chat.jsonl", "dpo": "pairs.parquet", "hf": "hf"}
    for form, name in files.items():
        arguments = ["synth", "export", str(folder / "data"), "--format", form]
        done = CliRunner().invoke(cli, [*arguments, "-o", str(folder / name)])
        assert done.exit_code == 0, done.output
    return {
        "preference": _lines(folder / "train.jsonl"),
        "votes": _lines(folder / "chat.jsonl")[:ROWS],
        "dpo": pq.read_table(folder / "pairs.parquet").to_pylist()[:ROWS],
        "hf": _loaded(folder / "hf"),
    }


def _lines(file: Path) -> Rows:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _loaded(folder: Path) -> Rows:
    """The battles of a data set, by the Hub's own library where it is there."""
    try:
        from datasets import load_dataset
    except ImportError:
        return list(pq.read_table(folder / "battles").to_pylist())
    cache = str(folder.parent / "cache")
    return list(load_dataset(str(folder), "battles", split="train", cache_dir=cache))


@pytest.fixture(scope="module")
def losses(
    vllm_python: str, rows: dict[str, Rows], tmp_path_factory: pytest.TempPathFactory
) -> Losses:
    """The losses before and after steps of training, by form."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    script, model = str(HERE / "train_step.py"), str(folder / "model")
    command = [vllm_python, script, model, str(folder / "rows.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: Losses = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("form", ["preference", "votes", "dpo", "hf"])
def test_the_loss_falls(losses: Losses, rows: dict[str, Rows], form: str) -> None:
    assert len(rows[form]) == ROWS
    assert all(map(math.isfinite, losses[form]))
    assert losses[form][1] < losses[form][0]
    assert losses[form][-1] < losses[form][0]


def test_a_model_prefers_nothing_before_the_first_step(losses: Losses) -> None:
    assert losses["dpo"][0] == pytest.approx(math.log(2), abs=1e-5)


def test_a_data_set_teaches_what_its_battles_teach(losses: Losses) -> None:
    assert losses["hf"] == pytest.approx(losses["preference"], rel=1e-4)
