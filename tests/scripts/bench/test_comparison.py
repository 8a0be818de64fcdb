"""The benchmark of comparing runs from start to end, and its peers measure the same thing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


def _python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_times_compare_and_its_peers() -> None:
    small = ("--battles", "300", "--judges", "3", "--rounds", "100", "--naive", "1")
    printed = _python("-m", "scripts.bench.comparison", *small)
    rows = [line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {5}
    assert rows[0][0].strip() == "300 battles, 3 judges"
    assert len(rows) == 6
    assert rows[3][4].strip().endswith("GiB")
    assert float(rows[3][3]) > 1  # a process of its own takes longer than the arrays alone


def test_the_peers_draw_the_means_that_compare_resamples() -> None:
    code = """
from scripts.bench.comparison import by_numpy, by_scikit_learn, compared, made_up
field = made_up(400, 2, 0)
slow, fast = by_scikit_learn(field, 30, 1), by_numpy(field, 30, 1)
result = compared(field, 1000, 0)
by_name = {score.name: score for score in result.scores}
scores = [by_name[name] for name in field.proba]
print(abs(slow - fast).max())
for score, draws in zip(scores, by_numpy(field, 1000, 2).T):
    print(draws.std() / ((score.high - score.low) / 3.92))
"""
    apart, *ratios = map(float, _python("-c", code).split())
    assert apart < 1e-9
    np.testing.assert_allclose(ratios, 1.0, atol=0.15)
