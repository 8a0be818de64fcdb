"""`arena-judge score` and `fit` as users run them, with vLLM as a server and on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml

from judge.ballots import CRITERIA, VOTES
from judge.battles import read_battles
from judge.encoding import BattleText, load_counter
from judge.engines.ledger import Ledger
from judge.engines.vllm import INTERPRETER
from judge.predictions import read_predictions
from judge.prompt_files import load_prompt

if TYPE_CHECKING:
    from conftest import Server, TinyModel

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("vllm")]

ROOT = Path(__file__).parents[2]
BATTLES = ROOT / "examples" / "battles.csv"
LENGTH = 4096  # of the server's model
PATIENCE = 600.0

Command = list[str | Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


# --- the command, and who stands between it and the server ----------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vllm_python: str) -> Path:
    """Where the command runs, with a ledger of its own."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("ARENA_JUDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv(INTERPRETER, vllm_python)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def program(*arguments: str | Path) -> Command:
    return [sys.executable, "-m", "judge", *arguments]


@pytest.fixture
def run(folder: Path) -> Run:
    """Runs a command to its end."""

    def invoke(*arguments: str | Path, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            program(*arguments),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == exit_code, done.stderr
        return done

    return invoke


class Gate:
    """Hands calls on to a server, counts them, and keeps back all from one on until it is closed.

    Attributes:
        url: where it listens; a base URL.
        calls: how many came.
    """

    def __init__(self, target: str, most: int | None = None, host: str = "127.0.0.1") -> None:
        self.calls = 0
        counting, closing = threading.Lock(), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(handler) -> None:
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                with counting:
                    self.calls += 1
                    kept = most is not None and self.calls > most
                if kept:
                    closing.wait()
                    handler.close_connection = True
                    return
                headers = {"Content-Type": "application/json"}
                call = urllib.request.Request(f"{target}/chat/completions", body, headers)
                with urllib.request.urlopen(call, timeout=PATIENCE) as reply:
                    said = reply.read()
                handler.send_response(200)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", str(len(said)))
                handler.end_headers()
                handler.wfile.write(said)

            def log_message(handler, *ignored: object) -> None:
                pass

        self._closing = closing
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://{host}:{self._server.server_port}/v1"

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def killed_after(command: Command, folder: Path, replies: int, ledger: Path) -> Iterator[None]:
    """Runs a command until the ledger holds so many replies, then ends it with SIGKILL."""
    with (folder / "killed.txt").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        until = time.monotonic() + PATIENCE
        while kept(ledger) < replies:
            assert process.poll() is None, (folder / "killed.txt").read_text()
            assert time.monotonic() < until, f"no {replies} replies in {PATIENCE:.0f} s"
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


def kept(path: Path) -> int:
    """How many replies a ledger has."""
    if not path.exists():
        return 0
    with Ledger(path) as ledger:
        return ledger.count()


def served(server: Server) -> int:
    """How many requests the server has answered, by vLLM's own counter."""
    with urllib.request.urlopen(f"{server.url.removesuffix('/v1')}/metrics", timeout=60) as reply:
        lines = reply.read().decode().splitlines()
    found = [line for line in lines if line.startswith("vllm:request_success_total{")]
    assert found
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in found))


def asking(server: Server, *urls: str) -> list[str]:
    addresses = [word for url in urls or (server.url,) for word in ("--base-url", url)]
    return ["--judge", f"endpoint:{server.model}", *addresses]


def read_votes(path: Path) -> pd.DataFrame:
    """A ballot file; the vote NA is a vote."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def distributions(votes: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(M, 5, 4)"""
    names = [f"{criterion}_{vote}" for criterion in CRITERIA for vote in VOTES]
    return votes[names].to_numpy(dtype=np.float64).reshape(-1, len(CRITERIA), len(VOTES))


def requests_of(prompt_name: str, battles: pd.DataFrame) -> int:
    """How many different calls both orders of these battles come to."""
    prompt = load_prompt(prompt_name)
    return len(
        {
            prompt.render(texts, order, question, "an answer")
            for texts in map(
                BattleText, battles["prompt"], battles["response_a"], battles["response_b"]
            )
            for order in ("AB", "BA")
            for question in prompt.questions
        }
    )


def write_battles(path: Path, rows: list[dict[str, object]]) -> Path:
    pd.DataFrame(rows).to_json(path, orient="records", lines=True)
    return path


# --- a server -------------------------------------------------------------------------------------


def test_battles_are_judged_by_a_server(run: Run, folder: Path, vllm_server: Server) -> None:
    asked = ("score", BATTLES, *asking(vllm_server), "--ballots", "votes.parquet")
    before = served(vllm_server)
    done = run(*asked, "-o", "first.csv")
    count = requests_of("discriminator", read_battles(BATTLES))
    assert served(vllm_server) - before == count == kept(folder / "ledger.sqlite")

    table = read_predictions(folder / "first.csv")
    proba = table.iloc[:, 1:].to_numpy()
    assert table["id"].tolist() == read_battles(BATTLES)["id"].tolist()
    assert np.abs(proba.sum(axis=1) - 1).max() < 1e-9
    assert (proba > 0).all()
    assert not (folder / "first.csv.unjudged.csv").exists()

    votes = read_votes(folder / "votes.parquet")
    assert votes["order"].tolist() == ["AB", "BA"] * len(table)
    shares = distributions(votes)
    assert np.abs(shares.sum(axis=2) - 1).max() < 1e-9
    # The model has said how likely each vote is, and not only which it takes.
    assert ((shares > 0) & (shares < 1)).any(axis=2).mean() > 0.5

    for said in (
        f"endpoint:{vllm_server.model}: {count} calls",
        f"0 of {len(votes)} ballots unreadable",
        f"asked in both orders about {len(table)}",
        "first.csv: written",
        "votes.parquet: written",
    ):
        assert said in done.stderr
    assert "tokens: " in done.stderr

    # Once more: nothing is asked, and every byte is the same.
    before = served(vllm_server)
    again = run(*asked, "-o", "again.csv", "--force")
    assert served(vllm_server) == before
    assert f"0 calls, {len(votes)} from the ledger" in again.stderr
    assert (folder / "again.csv").read_bytes() == (folder / "first.csv").read_bytes()
    pd.testing.assert_frame_equal(read_votes(folder / "votes.parquet"), votes)


def test_a_killed_run_goes_on_where_it_stopped(run: Run, folder: Path, vllm_server: Server) -> None:
    # Without log-probabilities: their last digits depend on what is computed beside them.
    options = ("--no-logprobs", "--concurrency", "4")
    run("score", BATTLES, *asking(vllm_server), *options, "-o", "whole.csv")
    count = kept(folder / "ledger.sqlite")

    ledger = folder / "killed.sqlite"
    options = (*options, "--ledger", str(ledger), "-o", "killed.csv")
    with Gate(vllm_server.url, most=count // 2) as gate:
        command = program("score", BATTLES, *asking(vllm_server, gate.url), *options)
        with killed_after(command, folder, count // 2, ledger):
            assert not (folder / "killed.csv").exists()
    assert kept(ledger) == count // 2

    before = served(vllm_server)
    done = run("score", BATTLES, *asking(vllm_server), *options, "--json")
    assert served(vllm_server) - before == count - count // 2
    (report,) = json.loads(done.stdout)["asked"]
    assert report["statistics"]["calls"] == count - count // 2
    assert (folder / "killed.csv").read_bytes() == (folder / "whole.csv").read_bytes()


@pytest.mark.parametrize("prompt", ["criterion", "reasoned", "referenced"])
def test_every_prompt_is_answered(run: Run, folder: Path, vllm_server: Server, prompt: str) -> None:
    battles = read_battles(BATTLES).head(6)
    sides = ("id", "prompt", "response_a", "response_b")
    rows = [
        {**{name: row[name] for name in sides}, "reference": f"The right answer is {place}."}
        for place, row in enumerate(battles.to_dict("records"))
    ]
    file = write_battles(folder / "battles.jsonl", rows)
    # A model that says anything would say it for ever without some warmth.
    warmth = ("--temperature", "1") if prompt == "reasoned" else ()
    options = ("--prompt", prompt, *warmth, "-o", "out.csv", "--ballots", "votes.csv", "--json")
    done = run("score", file, *asking(vllm_server), *options)
    summary = json.loads(done.stdout)
    (report,) = summary["asked"]
    statistics = report["statistics"]
    asked = statistics["calls"] + statistics["from_ledger"] - report["unreadable_replies"]
    assert asked == len(rows) * 2 * (5 if prompt == "criterion" else 1)
    assert report["notes"] == []
    votes = read_votes(folder / "votes.csv")
    assert votes["reason"].isna().all()
    assert np.abs(distributions(votes).sum(axis=2) - 1).max() < 1e-9
    replies = votes["reply"].tolist()
    if prompt == "criterion":
        assert all(line.split(": ")[1] in VOTES for text in replies for line in text.split("\n"))
    elif prompt == "reasoned":
        assert all(list(json.loads(text)) == ["reason", *CRITERIA] for text in replies)
    else:
        assert all(list(json.loads(text)) == list(CRITERIA) for text in replies)


ROUNDS = 4


@pytest.fixture
def long_battle(folder: Path, tiny_model: TinyModel) -> Path:
    """Two battles, the first of which is several times as long as the context."""
    words = "The water boils when the pot is hot enough, and then the rice goes in. "
    turns = {
        "prompt": [f"Question {n}: {words * 4}" for n in range(ROUNDS)],
        "response_a": [f"First answer {n}: {words * 40}" for n in range(ROUNDS)],
        "response_b": [f"Other answer {n}: {words * (20 + 20 * n)}" for n in range(ROUNDS)],
    }
    count = load_counter(tiny_model.model).count
    assert sum(count(text) for side in turns.values() for text in side) > 2 * LENGTH
    short = {"prompt": ["Which?"], "response_a": ["This one."], "response_b": ["That one."]}
    rows = [{"id": name, **sides} for name, sides in (("long", turns), ("short", short))]
    return write_battles(folder / "battles.jsonl", rows)


@pytest.mark.parametrize("policy", ["head-tail", "proportional", "recent", "chunks"])
def test_a_battle_longer_than_the_context_is_fitted(
    run: Run,
    folder: Path,
    vllm_server: Server,
    tiny_model: TinyModel,
    long_battle: Path,
    policy: str,
) -> None:
    """The server refuses what is a token too long, so that it answers is the proof."""
    fitting = ("--context", str(LENGTH), "--fit-context", policy, "--tokenizer", tiny_model.model)
    options = (*fitting, "-o", "out.csv", "--ballots", "votes.csv", "--json")
    done = run("score", long_battle, *asking(vllm_server), *options)
    votes = read_votes(folder / "votes.csv")
    cut = votes["id"] == "long"
    assert (votes.loc[~cut, "cut"] == 0).all()
    parts = votes.loc[cut, "part"].nunique()
    if policy == "chunks":
        assert parts > 1
        assert (votes.loc[cut, "weight"] > 0).all()
    else:
        assert parts == 1
        assert (votes.loc[cut, "cut"] > 1000).all()
    (report,) = json.loads(done.stdout)["asked"]
    assert report["statistics"]["calls"] == len(votes) == 2 * (parts + 1)
    assert report["statistics"]["failed"] == 0
    # Not cut for nothing either: what is kept fills most of the context.
    assert report["statistics"]["prompt_tokens"] > 0.7 * LENGTH


def test_a_battle_too_long_for_the_server_is_unjudged(
    run: Run, folder: Path, vllm_server: Server, long_battle: Path
) -> None:
    done = run("score", long_battle, *asking(vllm_server), "-o", "out.csv", exit_code=3)
    table = read_predictions(folder / "out.csv")
    assert table.iloc[:, 1:].isna().all(axis=1).tolist() == [True, False]
    listed = pd.read_csv(folder / "out.csv.unjudged.csv", dtype=str)
    assert listed.iloc[:, 0].tolist() == ["long"]
    assert "the prompt is too long" in listed.iloc[0, 2]
    assert "Traceback" not in done.stderr


def test_two_base_urls_share_the_load(run: Run, folder: Path, vllm_server: Server) -> None:
    with Gate(vllm_server.url) as one, Gate(vllm_server.url, host="localhost") as other:
        options = ("--no-logprobs", "--concurrency", "8", "-o", "out.csv", "--json")
        done = run("score", BATTLES, *asking(vllm_server, one.url, other.url), *options)
    count = requests_of("discriminator", read_battles(BATTLES))
    assert one.calls + other.calls == count
    assert min(one.calls, other.calls) >= count // 4
    (report,) = json.loads(done.stdout)["asked"]
    assert report["statistics"]["calls"] == count
    assert report["notes"] == []


def test_a_fitted_judge_scores(run: Run, folder: Path, vllm_server: Server) -> None:
    options = ("--no-logprobs", "--order", "ab")
    asked = ("fit", BATTLES, *asking(vllm_server), *options, "--folds", "3")
    fitted = run(*asked, "-o", "judges/tiny")
    assert "cross-fitted: log loss" in fitted.stderr
    recipe = yaml.safe_load((folder / "judges" / "tiny" / "judge.yaml").read_text())
    assert recipe["judge"] == f"endpoint:{vllm_server.model}"
    assert recipe["asking"] == {"logprobs": False, "orders": ["AB"]}
    assert recipe["measured"]["battles"] == len(read_battles(BATTLES))

    # It asks as it was fitted, so all that it has to ask is known.
    before = served(vllm_server)
    address = ("--base-url", vllm_server.url)
    done = run("score", BATTLES, "--judge", "judges/tiny", *address, "-o", "out.csv", "--json")
    assert served(vllm_server) == before
    (report,) = json.loads(done.stdout)["asked"]
    assert report["statistics"]["calls"] == 0
    assert report["statistics"]["from_ledger"] == len(read_battles(BATTLES))
    proba = read_predictions(folder / "out.csv").iloc[:, 1:].to_numpy()
    assert np.abs(proba.sum(axis=1) - 1).max() < 1e-9


# --- on this machine ------------------------------------------------------------------------------


def test_a_model_on_this_machine_says_what_its_server_says_also_when_killed(
    run: Run, folder: Path, vllm_server: Server, tiny_model: TinyModel
) -> None:
    rows = [
        {
            "id": f"{battle['id']}-{copy}",
            "prompt": [f"{copy}. {battle['prompt'][0]}"],
            "response_a": battle["response_a"][:1],
            "response_b": battle["response_b"][:1],
        }
        for copy in range(2)
        for battle in read_battles(BATTLES).to_dict("records")
    ]
    file = write_battles(folder / "battles.jsonl", rows)
    options = ("--no-logprobs", "--json")
    run("score", file, *asking(vllm_server), *options, "-o", "served.csv")
    count = kept(folder / "ledger.sqlite")

    ledger = folder / "killed.sqlite"
    votes = ("--ballots", "votes.csv")
    here = ("--judge", f"vllm:{tiny_model.model}", "--ledger", ledger, *options, *votes)
    command = program("score", file, *here, "-o", "here.csv")
    with killed_after(command, folder, 1, ledger):
        pass
    assert not (folder / "here.csv").exists()
    before = kept(ledger)
    assert 0 < before < count

    done = run("score", file, *here, "-o", "here.csv")
    (report,) = json.loads(done.stdout)["asked"]
    assert report["statistics"]["calls"] == count - before
    assert report["statistics"]["failed"] == 0
    assert len(read_votes(folder / "votes.csv")) == 2 * len(rows)
    assert (folder / "here.csv").read_bytes() == (folder / "served.csv").read_bytes()

    # All known, and the context said, so that not even the model is loaded.
    again = run("score", file, *here, "--context", str(LENGTH), "-o", "again.csv", "--force")
    (report,) = json.loads(again.stdout)["asked"]
    assert report["statistics"]["calls"] == 0
    assert (folder / "again.csv").read_bytes() == (folder / "here.csv").read_bytes()


def test_a_model_on_this_machine_fills_in_ballots(
    run: Run, folder: Path, tiny_model: TinyModel, long_battle: Path
) -> None:
    """Its context is known without being said, and its votes are distributions."""
    folders = ("--judge", f"vllm:{tiny_model.model}", "--adapter", tiny_model.adapter)
    files = ("-o", "out.csv", "--ballots", "votes.parquet")
    done = run("score", long_battle, *folders, "--prompt", "criterion", *files)
    votes = read_votes(folder / "votes.parquet")
    assert (votes["cut"] > 0).tolist() == [True, True, False, False]
    shares = distributions(votes)
    assert np.abs(shares.sum(axis=2) - 1).max() < 1e-9
    assert ((shares > 0) & (shares < 1)).any()
    assert f"vllm:{tiny_model.model}: 20 calls, 0 from the ledger" in done.stderr
    assert "0 of 4 ballots unreadable" in done.stderr
    assert "out.csv: written" in done.stderr
