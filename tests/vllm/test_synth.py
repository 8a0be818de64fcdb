"""`arena-judge synth` from a plan to training data, with a real model behind a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from judge.ballots import CRITERIA
from judge.battles import labels, read_battles
from synth.data import read_annotated

if TYPE_CHECKING:
    from conftest import Server, TinyModel

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

ROOT = Path(__file__).parents[2]
BATTLES = ROOT / "examples" / "battles.csv"
SIZE = 2
PATIENCE = 600.0

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command of synth to its end, in a folder with a ledger of its own."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("ARENA_JUDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def invoke(*arguments: str | Path, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "judge", "synth", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == exit_code, done.stderr
        return done

    return invoke


def annotating(server: Server) -> tuple[str, ...]:
    # A model that says anything would say it for ever without some warmth.
    warm = ("--temperature", "1", "--retries", "5")
    return ("--annotator", f"endpoint:{server.model}", "--base-url", server.url, *warm)


def test_from_battles_to_training_data(run: Run, tmp_path: Path, vllm_server: Server) -> None:
    run("plan", BATTLES, "--size", str(SIZE), "-o", "plan", "--keep", "near")
    costs = json.loads(run("run", "plan", *annotating(vllm_server), "--dry-run", "--json").stdout)
    assert costs["dry_run"][0]["calls"] == 2 * SIZE
    run("run", "plan", "-o", "data", *annotating(vllm_server), "--samples", "2")

    data = read_annotated(tmp_path / "data")
    said = data.annotations
    assert len(said) == 4 * SIZE
    assert said["verdict"].notna().all()
    assert (said["completion_tokens"] > 0).all()
    shares = said[[f"verdict_{vote}" for vote in ("A", "B", "AB", "NA")]].to_numpy()
    assert (shares.max(axis=1) < 1.0).all()  # the server gives log-probabilities
    # A model that knows nothing may leave a reason empty; one that writes none is not this one.
    reasons = said[[f"{name}_reason" for name in CRITERIA]].fillna("").to_numpy()
    assert (reasons != "").any()

    again = run("run", "plan", "-o", "again", *annotating(vllm_server), "--samples", "2", "--json")
    (report,) = json.loads(again.stdout)["reports"]
    assert report["statistics"]["calls"] == 0
    pd.testing.assert_frame_equal(said, read_annotated(tmp_path / "again").annotations)

    found = json.loads(run("check", "data", "-o", "drops.csv", "--json").stdout)
    assert found["battles"] == SIZE
    # Pairs of a right and a wrong ballot take a model that is right at times: see
    # test_synth_training, where one step is trained on each of the forms.
    forms = {"preference": "train.parquet", "votes": "chat.jsonl", "hf": "hf"}
    for form, name in forms.items():
        run("export", "data", "--format", form, "-o", name)
    battles = read_battles(tmp_path / "train.parquet")
    assert labels(battles) is not None
    assert len(battles) == SIZE
    chat = [json.loads(line) for line in (tmp_path / "chat.jsonl").read_text().splitlines()]
    assert chat
    assert all(row["messages"][-1]["role"] == "assistant" for row in chat)
    assert (tmp_path / "hf" / "README.md").is_file()


def test_models_answer_prompts_and_are_annotated(
    run: Run, tmp_path: Path, vllm_server: Server, tiny_model: TinyModel
) -> None:
    prompts = "".join(
        json.dumps({"id": str(n), "prompt": f"Why is {thing} cold?"}) + "\n"
        for n, thing in enumerate(("snow", "the sea in winter when no sun shines on it"))
    )
    (tmp_path / "prompts.jsonl").write_text(prompts, encoding="utf-8")
    model = f"endpoint:{vllm_server.model}"
    run("plan", "--prompts", "prompts.jsonl", "--generate", model, "-o", "plan")
    # It goes on for as long as it may: what it answers is cut to fit what it is asked next.
    room = ("--context", "4096", "--tokenizer", tiny_model.model)
    run("run", "plan", "-o", "data", *annotating(vllm_server), *room)
    data = read_annotated(tmp_path / "data")
    assert len(data.battles) == 2
    for side in ("response_a", "response_b"):
        assert all(turns[0].strip() for turns in data.battles[side])
    assert data.battles["response_a"].tolist() != data.battles["response_b"].tolist()
    assert data.annotations["verdict"].notna().all()
    assert len(pd.read_parquet(tmp_path / "data" / "written.parquet")) == 4
