"""`arena-judge synth plan`, as a user sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from judge.cli.main import cli
from synth.plans import read_plan

Run = Callable[..., Result]
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def some(count: int, seed: int = 0, **columns: object) -> pd.DataFrame:
    """Battles that have nothing to do with one another."""
    rng = np.random.default_rng(seed)

    def text(most: int) -> str:
        words = LETTERS[rng.integers(26, size=(int(rng.integers(6, most)), 5))]
        return " ".join("".join(word) for word in words)

    rows = [
        {
            "id": f"{seed}-{n}",
            "prompt": f"what is {text(12)}",
            "response_a": text(90),
            "response_b": text(90),
        }
        for n in range(count)
    ]
    return pd.DataFrame(rows).assign(**columns)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARENA_JUDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    some(60).to_csv("battles.csv", index=False)


@pytest.fixture
def run() -> Run:
    """`arena-judge synth plan` in this process, without a terminal."""

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(
            cli, ["synth", "plan", *arguments], prog_name="arena-judge", catch_exceptions=True
        )
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


def refused(result: Result, *words: str) -> None:
    """It ended as the user's fault, in one line that says so, and nothing was written."""
    assert result.exit_code == 2
    assert not Path("plan").exists()
    last = result.stderr.strip().splitlines()[-1]
    assert all(word in last for word in words), last
    assert "Traceback" not in result.stderr


# --- what it does ---------------------------------------------------------------------------------


def test_a_plan_is_written_and_told(run: Run) -> None:
    result = run("battles.csv", "--size", "20", "--seed", "3", "-o", "mine/plan")
    assert result.exit_code == 0
    plan = read_plan("mine/plan")
    assert plan.size == 20
    assert plan.settings["seed"] == 3
    assert len(pd.concat(list(plan.tables()))) == 20
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["by", "available", "drawn", "of", "the", "draw"]
    assert ["all", "60", "20", "100.0%"] in [line.split() for line in lines]
    assert "mine/plan: written, 20 of 60 battles from" in result.stderr
    again = run("battles.csv", "--size", "10", "-o", "mine/plan")
    assert "mine/plan: replaced, 10 of 60 battles" in again.stderr
    assert read_plan("mine/plan").size == 10


def test_the_summary_as_json_is_all_of_it(run: Run) -> None:
    table = pd.concat([some(60, category=["x", "y"] * 30), some(3)])
    table.to_csv("battles.csv", index=False)
    result = run("battles.csv", "--size", "30", "--json", "--by", "category", "-o", "plan")
    said = json.loads(result.stdout)
    assert said["plan"] == "plan"
    assert (said["size"], said["read"], said["undrawn"]) == (30, 63, 30)
    assert said["dropped"] == {"duplicate": 3}
    drawn = {one["value"]: one["drawn"] for one in said["shares"]["category"]}
    assert drawn == {"x": 15, "y": 15}
    assert said["costs"] == []
    written = yaml.safe_load(Path("plan/plan.yaml").read_text())
    assert written["strata"] == said["strata"]
    assert written["from"] == said["from"]


def test_a_dry_run_writes_nothing(run: Run) -> None:
    before = sorted(path.name for path in Path().iterdir())
    result = run("battles.csv", "--dry-run", "--annotator", "endpoint:gpt-4o-mini")
    assert result.exit_code == 0
    assert "nothing was written" in result.stderr
    assert "gpt-4o-mini" in result.stdout
    assert sorted(path.name for path in Path().iterdir()) == before


def test_fewer_than_asked_for_is_said(run: Run) -> None:
    result = run("battles.csv")
    assert "20,000 battles asked for, and there are no more than 60" in result.stderr
    assert read_plan("plan").size == 60


def test_what_is_left_out_is_counted_and_listed(run: Run) -> None:
    some(5).to_csv("held.csv", index=False)
    pd.concat([some(60), some(2).iloc[1:].assign(id="again")]).to_csv("more.csv", index=False)
    result = run("more.csv", "--held-out", "held.csv")
    assert "6 battles left out: 6 held out; listed in plan/dropped.csv" in result.stderr
    listed = pd.read_csv("plan/dropped.csv")
    assert listed["kin"].tolist() == [f"held.csv:0-{n}" for n in (0, 1, 2, 3, 4, 1)]


def test_who_annotates_is_kept_with_the_plan_and_reckoned(run: Run) -> None:
    pytest.importorskip("aiohttp")
    result = run(
        *("battles.csv", "--annotator", "endpoint:gpt-4o-mini", "--annotator", "endpoint:none"),
        *("--order", "ab", "--samples", "3", "--base-url", "http://127.0.0.1:9/v1"),
    )
    assert result.exit_code == 0
    said = read_plan("plan").settings
    assert said["annotators"] == ["endpoint:gpt-4o-mini", "endpoint:none"]
    assert (said["orders"], said["samples"]) == (["AB"], 3)
    assert said["base_urls"] == ["http://127.0.0.1:9/v1"]
    assert "prompt" not in said
    row = next(line.split() for line in result.stdout.splitlines() if "gpt-4o-mini" in line)
    assert row[2] == "180"  # 60 battles, one order, three samples
    assert row[-1].startswith("$")
    assert "cost: about $" in result.stderr


def test_close_battles_are_as_many_as_asked_for(run: Run) -> None:
    some(150).to_csv("battles.csv", index=False)
    result = run("battles.csv", "--size", "50", "--close", "0.8", "--json")
    drawn = {one["value"]: one["drawn"] for one in json.loads(result.stdout)["shares"]["closeness"]}
    assert drawn["close"] == 40
    result = run("battles.csv", "--size", "100", "--close", "1")
    assert "100% close battles asked for, and 50% is all there is" in result.stderr


def test_no_judge_is_asked_where_nobody_wants_to_know(run: Run) -> None:
    result = run("battles.csv", "--by", "length,turns", "--judge", "no-such-judge")
    assert result.exit_code == 0
    assert pd.concat(list(read_plan("plan").tables()))["closeness"].isna().all()
    refused_now = run("battles.csv", "--judge", "no-such-judge", "-o", "other")
    assert refused_now.exit_code == 2
    assert "no such judge" in refused_now.stderr


def test_responses_and_models_that_are_to_answer(run: Run) -> None:
    prompts = [{"id": f"p{n}", "prompt": row} for n, row in enumerate(some(9)["prompt"])]
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    for seed, model in enumerate(("x", "y"), 1):
        table = some(8, seed)
        rows = [{"id": f"p{n}", "response": text} for n, text in enumerate(table["response_a"])]
        Path(f"{model}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--prompts", "prompts.jsonl", "--responses", "x=x.jsonl"]
    arguments += ["--responses", "y=y.jsonl", "--generate", "m", "--generate", "endpoint:n"]
    result = run(*arguments)
    assert result.exit_code == 0
    assert "no two responses" in result.stderr  # the ninth prompt
    plan = read_plan("plan")
    found = pd.concat(list(plan.tables()))
    assert found["source"].value_counts().to_dict() == {"to write": 9, "pairs": 8}
    assert plan.settings["writers"] == ["endpoint:m", "endpoint:n"]
    written = found[found["write"] == "ab"]
    assert set(written["model_a"]) | set(written["model_b"]) == {"endpoint:m", "endpoint:n"}
    told = run(*arguments, "--annotator", "endpoint:gpt-4o-mini", "--dry-run")
    assert "without the responses that are to be written" in told.stderr


def test_text_from_files_does_nothing_to_a_terminal(run: Run) -> None:
    table = some(60, category=["\x1b[2Jred\u202e", "plain"] * 30)
    table.to_csv("battles.csv", index=False)
    result = run("battles.csv", "--size", "10")
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "[2Jred" in result.stdout


# --- what it does not do --------------------------------------------------------------------------


def test_nothing_to_draw_from_is_refused(run: Run) -> None:
    refused(run(), "nothing to draw from")
    refused(run("battles.csv", "--prompts", "p.csv"), "--prompts says nothing without")
    refused(run("battles.csv", "--pairs", "2"), "--pairs says nothing without")
    refused(run("--generate", "m"), "--prompts")
    refused(run("--responses", "x"), "NAME=FILE")
    refused(run("--responses", "x=a", "--responses", "x=b"), "named twice")


def test_files_that_cannot_be_planned_from_are_refused(run: Run) -> None:
    refused(run("none.csv"), "none.csv", "cannot be read")
    refused(run("-"), "has to be a file")
    refused(run("battles.csv", "--held-out", "none.csv"), "none.csv")
    refused(run("battles.csv", "battles.csv"), "named twice")
    refused(run("battles.csv", "--held-out", "battles.csv"), "nothing is left", "60 held out")
    Path("empty.csv").write_text("id,prompt,response_a,response_b\n")
    refused(run("empty.csv"), "has no battles")
    Path("broken.csv").write_text("prompt,response_a\nx,y\n")
    refused(run("broken.csv"), "response_b")


def test_what_is_said_is_checked_before_the_work(run: Run) -> None:
    refused(run("none.csv", "--annotator", "statistical"), "asks no model")
    refused(run("none.csv", "--annotator", "endpoint:m", "--prompt", "no-such"), "no-such")
    refused(run("none.csv", "--prices", "none.yaml"), "none.yaml")
    refused(run("battles.csv", "--by", "category,topic"), "'topic'", "category, length")
    refused(run("battles.csv", "--by", " , "), "name something")
    for option, value in (("--size", "0"), ("--seed", "-1"), ("--close", "nan"), ("--close", "0")):
        refused(run("battles.csv", option, value), option)


def test_a_dry_run_asks_no_model_which_battles_are_close(run: Run) -> None:
    pytest.importorskip("aiohttp")
    result = run("battles.csv", "--judge", "endpoint:m", "--dry-run")
    refused(result, "endpoint:m asks a model about every battle")
    assert run("battles.csv", "--judge", "endpoint:m", "--dry-run", "--by", "length").exit_code == 0


def test_no_other_folder_is_written_over(run: Run) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    result = run("battles.csv", "-o", "mine")
    assert result.exit_code == 2
    assert "is no plan" in result.stderr
    assert Path("mine/thesis.txt").read_text() == "years of work"
    assert run("battles.csv", "-o", "battles.csv").exit_code == 2
    Path("in").mkdir()
    some(5).to_csv("in/battles.csv", index=False)
    assert run("in/battles.csv", "-o", "in", "--force").exit_code == 2
    assert Path("in/battles.csv").is_file()


def test_one_battle_is_a_plan(run: Run) -> None:
    some(1).to_csv("battles.csv", index=False)
    result = run("battles.csv")
    assert result.exit_code == 0
    assert "plan: written, 1 of 1 battle," in result.stderr
    assert read_plan("plan").size == 1


def test_help_shows_how(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "arena-judge synth plan battles.parquet --size 20000" in result.stdout


# --- real battles ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_plan_of_real_battles(run: Run, shared_data: Path) -> None:
    files = [str(shared_data / name) for name in ("autoj_pairwise.parquet", "llmbar.parquet")]
    held = str(shared_data / "arena_dev.csv")
    result = run(*files, "--held-out", held, "--size", "500", "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["read"] == 1379 + 813
    assert said["size"] == 500
    assert sum(said["dropped"].values()) + said["undrawn"] + 500 == said["read"]
    assert set(said["shares"]) >= {"category", "length", "language", "closeness"}
