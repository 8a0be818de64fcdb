"""`arena-judge synth run`, over a server that annotates as it is told."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

pytest.importorskip("aiohttp")

from aiohttp import web
from click.testing import CliRunner, Result

from judge.ballots import CRITERIA
from judge.cli.main import cli
from judge.files.folders import written_folder
from synth.data import AnnotatedSet, read_annotated
from synth.plans import written_plan

Body = dict[str, Any]
Script = Callable[[Body, int], "str | web.Response"]
Synth = Callable[..., Result]
KEY = "sk-test-0123456789abcdef"
TURNED = {"A": "B", "B": "A", "AB": "AB"}


class Model:
    """A server with models that say what a script makes of the call and of how many it had."""

    def __init__(self) -> None:
        self.script: Script = honest
        self.bodies: list[Body] = []
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,))
        self._thread.start()
        ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> int:
        return len(self.bodies)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.01, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self.port = runner.addresses[0][1]
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        said = self.script(body, len(self.bodies) - 1)
        return said if isinstance(said, web.Response) else completion(said)


def completion(text: str, finish: str = "stop") -> web.Response:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 1000, "completion_tokens": 200}
    return web.json_response(
        {"choices": [{"finish_reason": finish, "message": message}], "usage": usage}
    )


def shown(body: Body, side: str) -> str:
    """The response that stands first (A) or second (B)."""
    text = body["messages"][-1]["content"]
    found = re.search(rf"=== (\w+) response {side}, turn 1 ===\n(.*?)\n=== \1", text, re.DOTALL)
    assert found is not None
    return found[2]


def annotation(vote: str, body: Body) -> str:
    """A reply that the prompt asks for, with a reason that names what it is about."""
    members: Body = {}
    if "critique of each response" in body["messages"][-1]["content"]:
        members = {f"critique_{side.lower()}": f"On {shown(body, side)}" for side in "AB"}
    for name in CRITERIA:
        members[name] = {"reason": f"{vote} it is on {name}.", "vote": vote}
    return json.dumps({**members, "verdict": vote})


def honest(body: Body, number: int) -> str:
    """The longer response is better, wherever it stands."""
    a, b = len(shown(body, "A")), len(shown(body, "B"))
    return annotation("AB" if a == b else "A" if a > b else "B", body)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ARENA_JUDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.chdir(tmp_path)
    server = Model()
    yield server
    server.close()


def plan_of(battles: int, **settings: Any) -> None:
    """A plan in the folder `plan`; who is better goes by length, as in `winner`."""
    number = range(battles)
    table = pd.DataFrame(
        {
            "id": [f"b{n}" for n in number],
            "prompt": [(f"Say {n}.",) for n in number],
            "response_a": [("x" * (1 + n % 4),) for n in number],
            "response_b": [("y" * (1 + n % 3),) for n in number],
            "category": ["talk"] * battles,
            "write": [""] * battles,
        }
    )
    with written_folder(Path("plan")) as folder, written_plan(folder) as plan:
        for start in range(0, battles, 100):
            plan.append(table.iloc[start : start + 100])
        plan.settings = {"size": battles, "seed": 0, **settings}


def winner(n: int) -> str:
    return "A" if n % 4 > n % 3 else "B" if n % 4 < n % 3 else "AB"


def run(model: Model, *arguments: str, output: str = "data", annotator: str = "m") -> Result:
    options = ("--annotator", f"endpoint:{annotator}") if annotator else ()
    return CliRunner().invoke(
        cli,
        ["synth", "run", "plan", "-o", output, "--base-url", model.url, *options, *arguments],
    )


def done(result: Result, output: str = "data") -> AnnotatedSet:
    assert result.exit_code == 0, result.output
    return read_annotated(output)


def test_every_battle_is_annotated_in_both_orders(model: Model) -> None:
    plan_of(30)
    data = done(run(model))
    said = data.annotations
    assert model.calls == len(said) == 60
    assert said["id"].tolist() == [f"b{n // 2}" for n in range(60)]
    assert said["order"].tolist() == ["AB", "BA"] * 30
    expected = [winner(n // 2) for n in range(60)]
    for name in (*CRITERIA, "verdict"):
        assert said[name].tolist() == expected
        assert (said[f"{name}_A"] == [float(vote == "A") for vote in expected]).all()
    as_shown = [TURNED[v] if n % 2 else v for n, v in enumerate(expected)]
    assert said["accuracy_reason"].tolist() == [f"{vote} it is on accuracy." for vote in as_shown]
    assert [json.loads(reply)["verdict"] for reply in said["reply"]] == as_shown
    assert set(said["judge"]) == {"endpoint:m"}
    assert set(said["model"]) == {"m"}
    assert set(said["prompt"]) == {"annotated"}
    assert json.loads(said["parameters"].iloc[0])["max_tokens"] == 768
    assert said["prompt_tokens"].sum() == 60_000
    assert said["completion_tokens"].sum() == 12_000
    assert (said["time"] > 1.6e9).all()
    assert (said["attempts"] == 1).all()
    assert data.battles["prompt"].tolist() == [(f"Say {n}.",) for n in range(30)]
    assert data.battles["category"].tolist() == ["talk"] * 30
    (annotator,) = data.manifest["annotators"]
    assert annotator["records"] == annotator["readable"] == 60
    assert data.manifest["plan"]["size"] == 30


def test_critiques_speak_of_the_battle_as_it_stands_in_the_file(model: Model) -> None:
    plan_of(3)
    said = done(run(model, "--critique", "--samples", "2")).annotations
    assert len(said) == 12
    assert said["sample"].tolist() == [0, 1] * 6
    assert set(said["prompt"]) == {"critiqued"}
    for row in said.itertuples():
        n = int(str(row.id)[1:])
        assert row.critique_a == "On " + "x" * (1 + n % 4)
        assert row.critique_b == "On " + "y" * (1 + n % 3)


def test_the_same_command_asks_nothing_twice_and_makes_the_same_set(model: Model) -> None:
    plan_of(20)
    first = done(run(model))
    again = done(run(model))
    assert model.calls == 40
    pd.testing.assert_frame_equal(first.annotations, again.annotations)


def test_several_annotators_go_side_by_side(model: Model) -> None:
    model.script = lambda body, number: (
        honest(body, number) if body["model"] == "good" else annotation("A", body)
    )
    plan_of(12)
    result = run(model, "--annotator", "endpoint:good", annotator="first")
    said = done(result).annotations
    assert said["judge"].tolist() == ["endpoint:first"] * 24 + ["endpoint:good"] * 24
    assert set(said["verdict"][:24]) == {"A", "B"}
    assert said["verdict"][24:].tolist() == [winner(n // 2) for n in range(24)]
    assert "endpoint:first: 24 calls" in result.stderr
    assert "the same verdict in 0.0%" in result.stderr


def test_a_trial_is_the_beginning_of_the_plan(model: Model) -> None:
    plan_of(150)
    data = done(run(model, "--first", "110"))
    assert data.battles["id"].tolist() == [f"b{n}" for n in range(110)]
    assert len(data.annotations) == 220
    assert done(run(model)).battles.shape[0] == 150
    assert model.calls == 300


def test_a_set_that_was_made_again_from_the_ledger_is_the_same_to_the_byte(model: Model) -> None:
    Path("prices.yaml").write_text(PRICES, encoding="utf-8")
    plan_of(12)
    options = ("--prices", "prices.yaml")
    done(run(model, *options, "--first", "5"))
    (part,) = done(run(model, *options)).manifest["annotators"]
    assert part["cost"] == pytest.approx(24 * 0.003)  # with what an earlier run paid
    done(run(model, *options, output="again"), "again")
    assert model.calls == 24
    for file in Path("data").iterdir():
        assert file.read_bytes() == Path("again", file.name).read_bytes(), file.name


def test_what_cannot_be_read_is_kept_with_its_reason(model: Model) -> None:
    def script(body: Body, number: int) -> str:
        return "I would rather not." if "Say 3." in str(body["messages"]) else honest(body, number)

    model.script = script
    plan_of(6)
    result = run(model, "--retries", "1")
    assert result.exit_code == 3
    assert "b3 has no annotation: unreadable, asked 2 times" in result.stderr
    said = read_annotated("data").annotations
    lost = said[said["id"] == "b3"]
    assert lost["verdict"].isna().all()
    assert lost["reply"].tolist() == ["I would rather not."] * 2
    assert lost["attempts"].tolist() == [2, 2]
    assert lost["completion_tokens"].tolist() == [400, 400]
    assert len(said) == 12


PRICES = "models:\n  m: {prompt: 1.0, completion: 10.0}\n"  # 0.003 dollars a call


def test_a_budget_stops_it_cleanly_and_more_money_goes_on(model: Model) -> None:
    Path("prices.yaml").write_text(PRICES, encoding="utf-8")
    plan_of(40)
    options = ("--prices", "prices.yaml", "--concurrency", "1")
    result = run(model, *options, "--max-cost", "0.06")
    assert result.exit_code == 3
    spent = model.calls
    assert 0 < spent <= 20
    said = read_annotated("data").annotations
    assert len(said) == 80
    assert said["verdict"].notna().sum() == spent
    assert set(said["reason"].dropna()) == {"not asked: the budget was spent"}
    assert said["cost"].sum() == pytest.approx(0.003 * spent)
    assert "run the same command again" in result.stderr
    assert done(run(model, *options)).annotations["verdict"].notna().all()
    assert model.calls == 80


def test_a_budget_is_divided_among_annotators(model: Model) -> None:
    prices = PRICES + "  n: {prompt: 0.5, completion: 5.0}\n"
    Path("prices.yaml").write_text(prices, encoding="utf-8")
    plan_of(40)
    options = ("--prices", "prices.yaml", "--concurrency", "1", "--max-cost", "0.09")
    assert run(model, *options, "--annotator", "endpoint:n").exit_code == 3
    asked = [body["model"] for body in model.bodies]
    assert 0 < asked.count("m") <= 20
    assert 0 < asked.count("n") <= 20


def test_a_dry_run_says_what_it_costs_and_does_nothing(model: Model) -> None:
    Path("prices.yaml").write_text(PRICES, encoding="utf-8")
    plan_of(20)
    result = run(model, "--dry-run", "--prices", "prices.yaml", "--json")
    assert result.exit_code == 0, result.output
    (cost,) = json.loads(result.stdout)["dry_run"]
    assert cost["calls"] == 40
    assert cost["expected_tokens"] == 40 * 260
    assert cost["most_tokens"] == 40 * 768
    usual = (cost["prompt_tokens"] + 10 * cost["expected_tokens"]) / 1e6
    assert cost["expected"] == pytest.approx(usual)
    assert cost["most"] > cost["expected"]
    text = run(model, "--dry-run", "--prices", "prices.yaml")
    assert re.search(r"^m +annotate +40 +0 ", text.stdout, re.MULTILINE)
    assert "about $0." in text.stderr
    assert model.calls == 0
    assert not Path("data").exists()
    assert not Path("ledger.sqlite").exists()


def test_the_plan_says_who_annotates_and_the_command_line_goes_before_it(model: Model) -> None:
    plan_of(4, annotators=["endpoint:planned"], prompt="discriminator", orders=["AB"], samples=2)
    model.script = lambda body, number: json.dumps(dict.fromkeys(CRITERIA, "B"))
    said = done(run(model, annotator="")).annotations
    assert set(said["judge"]) == {"endpoint:planned"}
    assert said["order"].tolist() == ["AB"] * 8
    assert said["verdict"].isna().all()
    assert set(said["clarity"]) == {"B"}
    said = done(run(model, "--order", "both", "--samples", "1", annotator="other")).annotations
    assert set(said["judge"]) == {"endpoint:other"}
    assert len(said) == 8


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--annotator", "endpoint:"], "names no model"),
        (["--annotator", "statistical"], "statistical asks no model"),
        (["--annotator", "endpoint:m"], "two annotators are called endpoint:m"),
        (["--prompt", "reasoned", "--critique"], "--critique chooses a prompt"),
        (["--prompt", "nothing"], "no prompt is called nothing"),
    ],
)
def test_faults_of_the_command_line_are_one_line(
    model: Model, arguments: list[str], why: str
) -> None:
    plan_of(3)
    result = run(model, *arguments)
    assert result.exit_code == 2
    assert why in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("data").exists()


def test_faults_of_plans_are_one_line(model: Model) -> None:
    for make, why in (
        (lambda: None, "plan: is not there"),
        (lambda: Path("plan").mkdir(), "plan: is no plan"),
        (lambda: Path("plan/plan.yaml").write_text("kind: plan\nformat: 99\n"), "later version"),
        (lambda: Path("plan/plan.yaml").write_text("kind: plan\nformat: 1\n"), "has no size"),
        (lambda: Path("plan/plan.yaml").write_text("kind: plan\nformat: 1\nsize: 3\n"), "has no b"),
        (lambda: Path("plan/plan.yaml").write_text("[" * 5000), "is not YAML"),
    ):
        make()
        result = run(model)
        assert result.exit_code == 2
        assert why in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_a_folder_that_is_no_annotated_set_is_left_alone(model: Model) -> None:
    plan_of(2)
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("dear", encoding="utf-8")
    result = run(model, output="mine")
    assert result.exit_code == 2
    assert "is there already and is no annotated set" in result.stderr
    assert Path("mine/thesis.txt").read_text(encoding="utf-8") == "dear"
    assert model.calls == 0


def test_a_failure_ends_all_annotators_and_leaves_nothing_half_written(model: Model) -> None:
    def script(body: Body, number: int) -> str | web.Response:
        if body["model"] == "lost":
            return web.json_response({"error": {"message": "model not found"}}, status=404)
        return honest(body, number)

    model.script = script
    plan_of(30)
    result = run(model, "--annotator", "endpoint:lost")
    assert result.exit_code == 2
    assert "lost" in result.stderr
    assert sorted(path.name for path in Path().iterdir() if path.is_dir()) == ["plan"]


@pytest.mark.slow
def test_killed_and_run_again_nothing_is_asked_twice_and_nothing_is_lost(
    model: Model, tmp_path: Path
) -> None:
    plan_of(300)
    command = [
        *(sys.executable, "-m", "judge", "synth", "run", "plan", "-o", "data"),
        *("--annotator", "endpoint:m", "--base-url", model.url, "--concurrency", "4"),
    ]
    for kill in range(3):
        enough = model.calls + 60
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while model.calls < enough and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not Path("data").exists(), kill
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    said = read_annotated("data").annotations
    assert len(said) == 600
    assert said["verdict"].tolist() == [winner(n // 2) for n in range(600)]
    # What was under way at a kill may have been answered to nobody.
    assert model.calls <= 600 + 3 * 2 * 4
    assert KEY not in (tmp_path / "data" / "synth.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load((tmp_path / "data" / "synth.yaml").read_text())["records"] == 600


# --- what is written first ------------------------------------------------------------------------


def writes(body: Body, number: int) -> str:
    """Answers a user, and annotates what is a battle."""
    asked = str(body["messages"][-1]["content"])
    if "=== " in asked:
        return honest(body, number)
    return {"short": "s", "long": "a long answer", "m": "the reference"}[body["model"]]


def plan_to_write(battles: int) -> None:
    number = range(battles)
    table = pd.DataFrame(
        {
            "id": [f"b{n}" for n in number],
            "prompt": [(f"Say {n}.",) for n in number],
            "response_a": [("",)] * battles,
            "response_b": [("",)] * battles,
            "model_a": ["endpoint:short" if n % 2 else "long" for n in number],
            "model_b": ["long" if n % 2 else "endpoint:short" for n in number],
            "write": ["ab"] * battles,
        }
    )
    with written_folder(Path("plan")) as folder, written_plan(folder) as plan:
        plan.append(table)
        plan.settings = {"size": battles, "seed": 0, "writers": ["endpoint:short", "long"]}


def test_models_answer_first_and_are_annotated_then(model: Model) -> None:
    model.script = writes
    plan_to_write(6)
    data = done(run(model))
    assert data.battles["response_a"].tolist() == [("a long answer",), ("s",)] * 3
    assert data.battles["write"].fillna("").tolist() == [""] * 6
    assert data.annotations["verdict"].tolist() == ["A", "A", "B", "B"] * 3
    written = pd.read_parquet("data/written.parquet")
    assert len(written) == 12
    assert set(written["what"]) == {"response_a", "response_b"}
    assert written["completion_tokens"].sum() == 12 * 200
    checked = ["synth", "check", "data", "--keep", "near-duplicate", "--drop", "low-confidence"]
    result = CliRunner().invoke(cli, [*checked, "--filter", "kept"])
    assert result.exit_code == 0, result.output
    kept = read_annotated("kept")
    assert kept.written is not None
    assert set(kept.written["id"]) == set(kept.battles["id"])
    calls = model.calls
    assert calls == 24
    done(run(model))
    assert model.calls == calls


def test_a_reference_is_written_once_a_battle_and_shown_in_both_orders(model: Model) -> None:
    model.script = writes
    plan_of(5)
    data = done(run(model, "--reference", "endpoint:m"))
    assert [list(turns) for turns in data.battles["reference"]] == [["the reference"]] * 5
    assert set(data.annotations["prompt"]) == {"annotated_referenced"}
    asked = [str(body["messages"][-1]["content"]) for body in model.bodies]
    assert sum("reference answer, turn 1 ===\nthe reference" in text for text in asked) == 10
    assert model.calls == 15


def test_a_battle_without_a_response_is_kept_and_never_annotated(model: Model) -> None:
    def script(body: Body, number: int) -> str:
        if body["model"] == "long" and "Say 2." in str(body["messages"]):
            return ""
        return writes(body, number)

    model.script = script
    plan_to_write(4)
    result = run(model, "--retries", "0")
    assert result.exit_code == 3
    assert "1 battle without what was to be written" in result.stderr
    said = read_annotated("data").annotations
    (lost,) = said[said["id"] == "b2"].itertuples()
    assert lost.reason == "nobody wrote response a"
    assert lost.order in ("", None) or lost.order != lost.order
    assert len(said) == 7


def test_what_writing_costs_is_known_beforehand(model: Model) -> None:
    prices = "models:\n" + "".join(
        f"  {name}: {{prompt: 1.0, completion: 10.0}}\n" for name in ("m", "short", "long")
    )
    Path("prices.yaml").write_text(prices, encoding="utf-8")
    plan_to_write(6)
    options = ("--prices", "prices.yaml", "--reference", "endpoint:m", "--dry-run", "--json")
    costs = json.loads(run(model, *options).stdout)["dry_run"]
    assert [(cost["task"], cost["model"], cost["calls"]) for cost in costs] == [
        ("write", "short", 6),
        ("write", "long", 6),
        ("reference", "m", 6),
        ("annotate", "m", 12),
    ]
    annotate = costs[-1]
    # Two responses and a reference of the usual length stand in every prompt.
    assert annotate["prompt_tokens"] > 12 * 3 * 200
    assert all(0 < cost["expected"] <= cost["most"] for cost in costs)
    assert model.calls == 0


# --- by batch files -------------------------------------------------------------------------------


def answer_files(folder: str, lose: int = 0) -> int:
    """Answers the request files in a folder as `vllm run-batch` would; how many requests."""
    total = 0
    for file in sorted(Path(folder).glob("requests-*.jsonl")):
        replies = Path(folder) / file.name.replace("requests", "replies")
        if replies.exists():
            continue
        lines = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            request = json.loads(line)
            total += 1
            if number < lose:
                continue
            message = {"role": "assistant", "content": honest(request["body"], 0)}
            body = {
                "choices": [{"finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 200},
            }
            response = {"status_code": 200, "body": body}
            lines.append({"custom_id": request["custom_id"], "response": response, "error": None})
        replies.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return total


def test_by_batch_files_that_are_answered_elsewhere(model: Model) -> None:
    plan_of(20)
    first = run(model, "--batch", "batch")
    assert first.exit_code == 3, first.output
    assert "40 records waiting; the same command again collects" in first.stderr
    assert not Path("data").exists()
    assert answer_files("batch", lose=3) == 40
    second = run(model, "--batch", "batch")
    assert second.exit_code == 3, second.output
    assert "collected 37 replies" in second.stderr
    assert answer_files("batch") == 3
    said = done(run(model, "--batch", "batch")).annotations
    assert said["verdict"].tolist() == [winner(n // 2) for n in range(40)]
    assert model.calls == 0


def test_waiting_is_for_batches(model: Model) -> None:
    plan_of(2)
    result = run(model, "--wait")
    assert result.exit_code == 2
    assert "--wait is for the batches of --batch" in result.stderr
    assert run(model, "--batch", "batch", "--no-cache").exit_code == 2
