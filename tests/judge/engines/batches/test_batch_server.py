"""Servers of batches that are slow, full, faulty, strange or not there."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from judge.engines.base import Message, Parameters, Request
from judge.engines.batch import WAITING, BatchEngine, Collected, Progress
from judge.errors import ArenaJudgeError

SECRET = "sk-not-to-be-seen-anywhere"


def ask(count: int, model: str = "tiny") -> list[Request]:
    made = Parameters(model)
    return [Request((Message("user", f"prompt {number}"),), made) for number in range(count)]


def errors(asked: BatchEngine, requests: list[Request]) -> list[str | None]:
    found = dict(asked.answer(iter(requests)))
    return [found[number].error for number in range(len(requests))]


def sent(engine: Any, count: int = 3, **changed: Any) -> BatchEngine:
    """An engine whose requests are under way."""
    made: BatchEngine = engine(**changed)
    errors(made, ask(count))
    assert made.submit() >= 1
    return made


# Waiting.


def test_waiting_ends_when_the_last_batch_has(engine: Any, host: Any, clock: Any) -> None:
    made = sent(engine, 25, most_requests=10)

    def tick() -> None:
        batches = [b for b in host.batches.values() if b["status"] != "completed"]
        if len(clock.slept) % 3 == 0:
            host._finish(batches[-1], "completed", None)
        else:
            batches[0].update(status="in_progress")
            batches[0]["request_counts"] = {"total": 10, "completed": 4, "failed": 0}

    clock.tick = tick
    told: list[Progress] = []
    assert made.wait(60.0, told.append).replies == 25
    assert set(clock.slept) == {60.0}
    assert [progress.pending for progress in told] == [3, 3, 3, 2, 2, 2, 1, 1, 1, 0]
    assert (told[1].completed, told[-1].completed, told[-1].total) == (4, 25, 25)
    assert told[1].files[0].status == "in_progress"
    assert errors(made, ask(25)) == [None] * 25


def test_waiting_outlasts_a_server_that_is_away(engine: Any, host: Any, clock: Any) -> None:
    made = sent(engine)
    host.faults["GET", "batches"] = [503] * 40
    clock.tick = lambda: host.finish() if len(clock.slept) == 30 else None
    assert made.wait(60.0).replies == 3
    assert clock.now > 60.0  # the patience of one call
    assert any("same command again" in note for note in made.notes)


def test_waiting_ends_when_a_server_stays_away(engine: Any, host: Any, clock: Any) -> None:
    made = sent(engine)
    host.close()
    with pytest.raises(ArenaJudgeError, match="cannot be reached"):
        made.wait(60.0)
    assert clock.now >= 30 * 60.0
    assert made.progress().pending == 1


def test_what_a_server_has_no_room_for_is_sent_later(engine: Any, host: Any, clock: Any) -> None:
    host.room = 1
    made = sent(engine, 30, most_requests=10)
    clock.tick = host.finish
    assert made.wait(60.0).replies == 30
    assert sorted(b["status"] for b in host.batches.values()).count("completed") == 3
    assert len([f for f in host.files.values() if f["purpose"] == "batch"]) == 3
    assert errors(made, ask(30)) == [None] * 30


def test_a_file_that_never_fits_is_named(engine: Any, host: Any, clock: Any) -> None:
    host.room = 0
    made = sent(engine, 3)
    assert made.wait(60.0) == Collected()
    assert any("ask for less a file" in note for note in made.notes)
    assert any("token_limit_exceeded" in note for note in made.notes)
    assert made.progress().files[0].status == "failed"
    assert errors(made, ask(3)) == [WAITING] * 3


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_a_busy_server_is_asked_again(engine: Any, host: Any, status: int) -> None:
    made = sent(engine)
    host.finish()
    host.faults["GET", "batches"] = [status] * 4
    host.faults["GET", "files"] = [status] * 4
    assert made.collect().replies == 3


@pytest.mark.parametrize("fault", [0, -1])
def test_a_download_that_breaks_off_is_begun_anew(
    engine: Any, host: Any, tmp_path: Path, fault: int
) -> None:
    made = sent(engine)
    host.finish()
    host.faults["GET", "files"] = [fault] * 2
    assert made.collect().replies == 3
    assert len((tmp_path / "batch" / "replies-0001.jsonl").read_bytes().splitlines()) == 3


def test_a_collect_that_was_killed_goes_on(engine: Any, host: Any) -> None:
    made = sent(engine, 20, most_requests=10)
    host.finish()
    host.faults["GET", "files/file-0004"] = [400]
    with pytest.raises(ArenaJudgeError, match="answered 400"):
        made.collect()
    again = engine()
    assert again.collect().replies == 10
    assert errors(again, ask(20)) == [None] * 20


def test_of_several_servers_the_first_has_the_batches(engine: Any, host: Any) -> None:
    made = sent(engine, base_urls=[host.url, "http://127.0.0.1:9/v1"])
    assert made.notes == [f"batches go to {host.url}, the first that is named, alone"]


# Refusals.


@pytest.mark.parametrize("server", ["none", 404, 405, 501])
def test_where_no_batches_are_taken_it_is_said_how_else(
    engine: Any, host: Any, tmp_path: Path, server: str | int
) -> None:
    host.has_batches = False
    if isinstance(server, int):
        host.faults["GET", "batches"] = [server]
    made = engine()
    errors(made, ask(2, "org/a model"))
    assert made.submit() == 0
    folder = tmp_path / "batch"
    assert made.notes == [
        f"{host.url} takes no batches; where vLLM is: python -m vllm.entrypoints.openai.run_batch "
        f"-i {folder}/requests-0001.jsonl -o {folder}/replies-0001.jsonl --model 'org/a model'; "
        "then give the same command again"
    ]
    assert made.progress().pending == 0
    assert made.wait() == Collected()
    strict = engine(upload=True)
    errors(strict, ask(2, "org/a model"))
    with pytest.raises(ArenaJudgeError, match="takes no batches"):
        strict.submit()


def test_without_upload_no_server_is_asked(engine: Any, host: Any) -> None:
    made = engine(upload=False)
    errors(made, ask(2))
    assert (made.submit(), made.collect()) == (0, Collected())
    assert "run_batch" in made.notes[0]
    assert host.calls == []


@pytest.mark.parametrize(
    ("status", "words"), [(401, "set OPENAI_API_KEY"), (402, "credit"), (400, "answered 400")]
)
def test_a_refusal_ends_at_once(
    engine: Any, host: Any, clock: Any, status: int, words: str
) -> None:
    made = engine()
    errors(made, ask(2))
    host.faults["POST", "files"] = [status]
    with pytest.raises(ArenaJudgeError, match=words):
        made.submit()
    assert clock.slept == []
    assert made.submit() == 1
    assert len(host.batches) == 1


def test_an_empty_account_is_not_waited_for(engine: Any, host: Any, clock: Any) -> None:
    made = engine()
    errors(made, ask(2))
    host.faults["POST", "batches"] = [429]
    host.fault_code = "insufficient_quota"
    with pytest.raises(ArenaJudgeError, match="credit"):
        made.submit()
    assert clock.slept == []


def test_the_key_is_shown_to_the_server_and_to_nobody_else(
    engine: Any, host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    host.reply = lambda body: (200, host.completion(f"your key is {SECRET}"))
    made = sent(engine, 2, key_variable="MY_KEY")
    assert {headers["Authorization"] for headers in host.headers} == {f"Bearer {SECRET}"}
    host.finish()
    host.faults["GET", "batches"] = [403, 400, 404]
    said = []
    for _ in range(2):
        with pytest.raises(ArenaJudgeError) as caught:
            made.collect()
        said.append(str(caught.value))
    assert made.collect() == Collected()  # of 404
    assert "MY_KEY" in said[0]
    assert all("[key]" in text for text in [*said, *made.notes])
    made.collect()
    reply = dict(made.answer(ask(1)))[0]
    assert reply.text == "your key is [key]"
    made.close()
    for path in (tmp_path / "batch").iterdir():
        if path.name != "replies-0001.jsonl":  # as the server wrote it
            assert SECRET not in path.read_text()
    assert SECRET not in repr(vars(made))


def test_a_password_in_the_address_is_kept_to_the_server(
    engine: Any, host: Any, tmp_path: Path
) -> None:
    made = sent(engine, 2, base_urls=[f"http://me:open-sesame@127.0.0.1:{host.port}/v1"])
    assert {headers["Authorization"][:6] for headers in host.headers} == {"Basic "}
    assert "open-sesame" not in (tmp_path / "batch" / "batch.yaml").read_text()
    assert made.progress().pending == 1


def test_batches_of_another_server_are_left_alone(engine: Any, host: Any, clock: Any) -> None:
    sent(engine)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    made = engine(base_urls=[other])
    assert made.collect() == Collected()
    assert f"is at {host.url}" in made.notes[0]
    assert errors(made, ask(3)) == [WAITING] * 3
    assert made.submit() == 0
    host.finish()
    assert engine().collect().replies == 3


def test_a_batch_that_cannot_be_found_is_not_paid_for_again(engine: Any, host: Any) -> None:
    sent(engine)
    kept, host.batches = host.batches, {}
    made = engine()
    made.collect()
    assert "batch_0001 of requests-0001.jsonl cannot be found" in made.notes[0]
    assert errors(made, ask(3)) == [WAITING] * 3
    assert made.submit() == 0
    host.batches = kept
    host.finish()
    assert engine().collect().replies == 3


def test_replies_that_are_gone_are_asked_for_anew(engine: Any, host: Any) -> None:
    made = sent(engine)
    host.finish()
    for name in [name for name, file in host.files.items() if file["purpose"] != "batch"]:
        del host.files[name]
    assert made.collect() == Collected()
    assert "cannot be had any more" in made.notes[0]
    again = engine()
    assert errors(again, ask(3)) == [WAITING] * 3
    assert again.submit() == 1
    assert len(host.batches) == 2


def test_an_upload_that_is_gone_is_made_anew(engine: Any, host: Any) -> None:
    made = engine()
    errors(made, ask(3))
    host.faults["POST", "batches"] = [401]
    with pytest.raises(ArenaJudgeError, match="401"):
        made.submit()
    host.files.clear()
    again = engine()
    errors(again, ask(3))
    assert again.submit() == 1


def test_a_web_page_is_no_server_of_batches(engine: Any, host: Any) -> None:
    host.page = "<html>Welcome</html>"
    made = engine()
    errors(made, ask(1))
    assert made.submit() == 0
    assert "takes no batches" in made.notes[0]


def test_a_web_page_in_place_of_a_batch_is_explained(engine: Any, host: Any) -> None:
    made = sent(engine)
    host.page = "<html>Log in first</html>"
    with pytest.raises(ArenaJudgeError, match="something else than batches"):
        made.collect()
    host.page = None
    host.finish()
    assert made.collect().replies == 3


@pytest.mark.parametrize("made_of", [None, 7, "", "x" * 600, "two\nlines"])
def test_what_is_no_batch_is_not_taken_for_one(engine: Any, host: Any, made_of: object) -> None:
    made = engine(patience=0.0)
    errors(made, ask(1))
    put = host.put

    def strange(content: bytes, purpose: str, name: str = "out.jsonl") -> str:
        found = put(content, purpose, name)
        host.files[found]["id"] = made_of
        return str(found)

    host.put = strange
    with pytest.raises(ArenaJudgeError, match="something else than batches"):
        made.submit()
    state = yaml.safe_load((Path(made._folder.path) / "batch.yaml").read_text())
    assert state["files"][0]["upload"] == ""


def test_hundreds_of_batches_of_others_are_looked_through(engine: Any, host: Any) -> None:
    made = sent(engine)
    state = Path(made._folder.path) / "batch.yaml"
    noted = yaml.safe_load(state.read_text())
    for number in range(250):
        host.batches[f"other_{number}"] = {**host.batches["batch_0001"], "id": f"other_{number}"}
        host.batches[f"other_{number}"]["metadata"] = {"arena_judge_sha256": str(number)}
    made.close()
    noted["files"][0].update(batch="", status="uploaded")
    state.write_text(yaml.safe_dump(noted))
    again = engine()
    errors(again, ask(3))
    assert again.submit() == 1
    assert again.progress().files[0].batch == "batch_0001"
    assert len(host.batches) == 251
