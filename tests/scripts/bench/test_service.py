"""The load generator runs from start to end, and would notice a wrong reply."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_service_measures_every_phase_and_finds_nothing_wrong(tmp_path: Path) -> None:
    texts = [json.dumps([f"word {n} " * (1 + n % 9)]) for n in range(72)]
    battles = pd.DataFrame(
        {"prompt": texts, "response_a": texts[::-1], "response_b": texts[5:] + texts[:5]}
    )
    battles.to_csv(tmp_path / "arena_dev.csv", index=False)
    command = [sys.executable, "-m", "scripts.bench.service", "--data", str(tmp_path)]
    command += ["--seconds", "0.5", "--rounds", "1", "--clients", "4", "--flood", "12"]
    command += ["--", "--queue", "64", "--max-battles", "32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    phases = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[2:]}
    assert len(phases) == 8
    for name, (rate, *_, wrong, _memory) in phases.items():
        assert wrong == "0", name
        assert float(rate.replace(",", "")) > 0, name
    flood = next(row for name, row in phases.items() if name.startswith("flood"))
    assert int(flood[-3].replace(",", "")) > 0
    assert "of the echo's rate" in done.stdout


def test_a_reply_to_another_question_is_wrong() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from scripts.bench.service import Question, right
    finally:
        sys.path.remove(str(ROOT))
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    proba = [[0.5, 0.25, 0.25], [0.125, 0.5, 0.375]]
    judged = [{"id": str(at), **dict(zip(names, row, strict=True))} for at, row in enumerate(proba)]
    question = Question(b"", ["0", "1"], proba)
    assert right(question, json.dumps({"judgments": judged}).encode())
    assert not right(question, json.dumps({"judgments": judged[::-1]}).encode())
    assert not right(question, json.dumps({"judgments": judged[:1]}).encode())
    judged[1]["winner_tie"] = 0.37500000000000006
    assert not right(question, json.dumps({"judgments": judged}).encode())
