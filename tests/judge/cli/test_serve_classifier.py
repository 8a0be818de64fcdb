"""`arena-judge serve` with a fine-tuned judge: requests that come together are judged together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from click.testing import Result

pytest.importorskip("torch")
pytest.importorskip("transformers")

from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.judge.cli.server import Start, asking, question, until
from tests.judge.judges.tiny_judge import SIAMESE, tiny_judge

Run = Callable[..., Result]

OUTCOMES = ["winner_model_a", "winner_model_b", "winner_tie"]
CROWD = 12


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("tuned"), "bert", **SIAMESE)


def battle(number: int) -> dict[str, str]:
    """One of a length of its own; the number stands at its end, for the gated judge."""
    return {**question(number), "response_a": "yes and " * (1 + number % 5)}


def expected(folder: Path, count: int) -> np.ndarray[Any, Any]:
    battles = pd.DataFrame([battle(number) for number in range(count)])
    table = battles.map(lambda text: (text,)).assign(id=[str(n) for n in range(count)])
    running = ClassifierSettings(device=("cpu",), dtype="float32", lengths=(96,))
    return load_judge(folder, running=running).predict_proba(table)


def proba(reply: httpx.Response | Exception) -> np.ndarray[Any, Any]:
    assert isinstance(reply, httpx.Response), reply
    assert reply.status_code == 200, reply.text
    return np.array([[one[name] for name in OUTCOMES] for one in reply.json()["judgments"]])


@pytest.mark.slow
def test_requests_that_wait_together_are_one_batch(serve: Start, folder: Path, tuned: Path) -> None:
    # The gated judge holds the first request back until all others are waiting.
    (folder / "gated.judge").mkdir()
    (folder / "gated.judge" / "judge.yaml").write_text(json.dumps({"kind": "gated"}))
    recipe = {"kind": "cascade", "judges": ["gated.judge", str(tuned)], "sure": 2}
    (folder / "held.yaml").write_text(json.dumps(recipe))
    options = ("--device", "cpu", "--device", "cpu", "--dtype", "float32", "--lengths", "96")
    server = serve("--judge", "held.yaml", *options)

    def waiting() -> int:
        with server.client() as client:
            return int(client.get("/healthz").json()["waiting"])

    with asking(server, battle(0)) as first:
        until((folder / "judging").exists)
        with asking(server, *(battle(number) for number in range(1, CROWD))) as others:
            until(lambda: waiting() == CROWD - 1)
            (folder / "open").touch()
    with server.client() as client:
        metrics = client.get("/metrics").text
    together = server.post({"battles": [battle(number) for number in range(CROWD)]})
    code, said = server.stop()
    assert code == 0, said
    assert "Traceback" not in said
    assert re.search(r"^arena_judge_batch_battles_count 2\.0$", metrics, re.MULTILINE)
    assert re.search(rf"^arena_judge_batch_battles_sum {CROWD}\.0$", metrics, re.MULTILINE)
    wanted = expected(tuned, CROWD)
    # What shares a batch with a battle may change its last bits, no more.
    np.testing.assert_allclose(proba(together), wanted, atol=1e-5)
    found = np.concatenate([proba(reply) for reply in (*first, *others)])
    order = [wanted[np.abs(wanted - row).max(axis=1).argmin()] for row in found]
    np.testing.assert_allclose(found, order, atol=1e-5)
    assert np.abs(np.sort(found, axis=0) - np.sort(wanted, axis=0)).max() < 1e-5


@pytest.mark.slow
def test_it_is_ready_when_it_says_so_and_ends_when_told(serve: Start, tuned: Path) -> None:
    server = serve("--judge", str(tuned), "--dtype", "float32", "--lengths", "96")
    assert server.said["judge"] == "made"
    wanted = expected(tuned, 3)
    np.testing.assert_allclose(proba(server.post(battle(2))), wanted[2:], atol=1e-5)
    silent = {"battles": [battle(1), {"prompt": "", "response_a": "", "response_b": ""}]}
    found = proba(server.post(silent))
    np.testing.assert_allclose(found[:1], wanted[1:2], atol=1e-5)
    assert found[1, 0] == found[1, 1]  # nobody wins against itself
    assert server.stop()[0] == 0
    assert server.summary["unanswered"] == 0


def test_what_it_has_no_use_for_is_refused_before_it_serves(run: Run, tuned: Path) -> None:
    result = run("serve", "--judge", str(tuned), "--port", "0", "--order", "ab")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--order says nothing to made" in result.stderr
