"""The benchmark of calibration runs from start to end, on made-up votes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ninety battles about thirty prompts, and a judge that is right two times in three."""
    generator = np.random.default_rng(0)
    winner = generator.choice(["a", "b", "tie"], 90)
    wrong = generator.random(90) < 1 / 3
    ids = [f"made_{n}" for n in range(90)]
    pd.DataFrame(
        {
            "id": ids,
            "prompt": [json.dumps([f"prompt {n % 30}"]) for n in range(90)],
            "response_a": [json.dumps([f"one {n}"]) for n in range(90)],
            "response_b": [json.dumps([f"two {n}"]) for n in range(90)],
            "winner": winner,
        }
    ).to_parquet(tmp_path / "made.parquet")
    (tmp_path / "recorded").mkdir()
    votes = np.where(wrong, generator.permutation(winner), winner).astype(object)
    votes[4] = "invalid: no vote"
    pd.DataFrame(
        {
            "battles": "made",
            "id": ids,
            "judge": "oracle",
            "order": "ab",
            "vote": votes,
            "reply": "",
        }
    ).to_parquet(tmp_path / "recorded" / "judge_votes.parquet")
    return tmp_path


def test_calibrated_votes_beat_the_prior_and_the_unfitted(data: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.bench.calibration", "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    head, _, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    found = dict(zip(head, row, strict=True))
    assert (found["set"], found["judge"], found["battles"]) == ("made", "oracle", "89")
    assert found["prompts"] == "30"
    calibrated = float(found["calibrated, out of fold, 95 %"].split()[0])
    assert calibrated < float(found["prior, out of fold"])
    assert calibrated < float(found["unfitted"])
