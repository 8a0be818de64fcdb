"""Files that come from elsewhere: run by hand, copied, cut, garbled, from another plan."""

from __future__ import annotations

import json
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judge.engines.base import Message, Parameters, Reply, Request
from judge.engines.batch import WAITING, BatchEngine, Collected
from judge.engines.ledger import Ledger
from judge.errors import ArenaJudgeError, InputError


def ask(numbers: Any, **parameters: Any) -> list[Request]:
    if isinstance(numbers, int):
        numbers = range(numbers)
    made = Parameters("tiny", **parameters)
    return [Request((Message("user", f"prompt {number}"),), made) for number in numbers]


def errors(asked: BatchEngine, requests: list[Request]) -> list[str | None]:
    found = dict(asked.answer(iter(requests)))
    return [found[number].error for number in range(len(requests))]


def texts(asked: BatchEngine, requests: list[Request]) -> list[str]:
    found = dict(asked.answer(iter(requests)))
    assert {reply.error for reply in found.values()} == {None}
    return [found[number].text for number in range(len(requests))]


def echoed(requests: list[Request]) -> list[str]:
    return [request.messages[-1].content for request in requests]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "batch"


@pytest.fixture
def written(engine: Any) -> Any:
    """Files of so many requests, and an engine that sends nothing."""

    def write(count: int = 5, **changed: Any) -> BatchEngine:
        made: BatchEngine = engine(upload=False, **changed)
        errors(made, ask(count))
        return made

    return write


@pytest.fixture
def by_vllm(host: Any, folder: Path) -> Any:
    """The lines that vLLM's run_batch would answer a file of requests with."""

    def run(name: str = "requests-0001.jsonl") -> list[bytes]:
        lines = []
        for number, text in enumerate((folder / name).read_text().splitlines()):
            request = json.loads(text)
            status, body = host.echo(request["body"])
            response = {"status_code": status, "request_id": f"vllm-batch-{number}", "body": body}
            line = {"id": f"vllm-{number}", "custom_id": request["custom_id"]}
            lines.append(json.dumps({**line, "response": response, "error": None}).encode() + b"\n")
        return lines

    return run


def put(folder: Path, lines: list[bytes], name: str = "replies-0001.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join(lines))
    return path


# Replies.


def test_files_that_vllm_answered_are_read(written: Any, by_vllm: Any, folder: Path) -> None:
    made = written()
    assert made.submit() == 0
    put(folder, by_vllm())
    assert made.collect().replies == 5
    assert made.collect() == Collected()
    assert texts(made, ask(5)) == echoed(ask(5))
    assert made.submit() == 0
    (each,) = made.progress().files
    assert (each.status, each.completed, each.pending) == ("answered", 5, False)


def test_another_process_finds_answered_files_and_says_nothing(
    written: Any, engine: Any, by_vllm: Any, folder: Path
) -> None:
    written()
    put(folder, by_vllm())
    made = engine(upload=False)
    made.collect()
    assert texts(made, ask(5)) == echoed(ask(5))
    assert made.notes == []
    assert made.progress().files[0].status == "answered"


def test_files_that_are_submitted_first_see_replies_that_lie_there(
    written: Any, engine: Any, by_vllm: Any, folder: Path, host: Any
) -> None:
    written()
    put(folder, by_vllm())
    made = engine()
    assert made.submit() == 0
    assert host.batches == {}
    assert texts(made, ask(5)) == echoed(ask(5))
    assert made.collect().replies == 5


def test_what_one_s_own_vllm_answers_costs_nothing(
    written: Any, by_vllm: Any, folder: Path, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {tiny: {prompt: 10, completion: 20}}")
    made = written(2, prices=prices)
    first, second = by_vllm()
    put(folder, [first, second.replace(b'"vllm-1"', b'"batch_req_1"')])
    made.collect()
    found = dict(made.answer(iter(ask(2))))
    assert [found[0].cost, found[1].cost] == [0, pytest.approx(0.012)]


def test_half_of_the_replies_leave_the_other_half_to_be_asked(
    written: Any, by_vllm: Any, folder: Path
) -> None:
    made = written()
    put(folder, by_vllm()[:2])
    made.collect()
    assert errors(made, ask(5)) == [None, None, WAITING, WAITING, WAITING]
    assert made.waiting == 3
    put(folder, by_vllm("requests-0002.jsonl"), "replies-0002.jsonl")
    assert made.collect().replies == 3
    assert texts(made, ask(5)) == echoed(ask(5))


def test_a_file_that_grows_is_read_again(written: Any, by_vllm: Any, folder: Path) -> None:
    made = written()
    lines = by_vllm()
    put(folder, [*lines[:2], lines[2][:50]])
    found = made.collect()
    assert (found.replies, found.truncated) == (2, 1)
    assert found.faults == (f"{folder}/replies-0001.jsonl, line 3: ends in the middle",)
    put(folder, lines)
    found = made.collect()
    assert (found.replies, found.known, found.truncated) == (3, 2, 0)


def test_whatever_is_wrong_is_counted_and_named(written: Any, by_vllm: Any, folder: Path) -> None:
    made = written()
    lines = by_vllm()
    strange = json.loads(lines[0])
    faults = [
        b"\n",
        b"{not json}\n",
        b"[1, 2]\n",
        b'"text"\n',
        b"\xff\xfe\n",
        json.dumps({**strange, "custom_id": 7}).encode() + b"\n",
        json.dumps({**strange, "custom_id": "request-1"}).encode() + b"\n",
        json.dumps({**strange, "custom_id": "ab" * 32}).encode() + b"\n",
        lines[0],
    ]
    put(folder, [lines[0], *faults, *lines[1:4], lines[4].rstrip()])
    found = made.collect()
    assert (found.replies, found.garbled, found.unknown) == (5, 5, 2)
    assert (found.duplicates, found.truncated) == (1, 0)
    path = folder / "replies-0001.jsonl"
    assert f"{path}, line 3: is no reply" in found.faults
    assert f"{path}, line 8: answers request-1, which was not asked" in found.faults
    assert f"{path}, line 10: answers what an earlier line does" in found.faults


def test_thousands_of_faults_are_counted_and_a_few_are_named(written: Any, folder: Path) -> None:
    made = written()
    put(folder, [b"nothing\n"] * 3000)
    found = made.collect()
    assert (found.garbled, len(found.faults)) == (3000, 5)


def test_a_reply_after_an_error_counts_and_one_after_a_reply_does_not(
    written: Any, by_vllm: Any, folder: Path, host: Any
) -> None:
    made = written(2)
    lines = by_vllm()
    ids = [json.loads(line)["custom_id"] for line in lines]
    bad = [host.line(name, 500, host.error("no luck")) for name in ids]
    put(folder, [bad[0], lines[0], lines[1], bad[1]])
    found = made.collect()
    assert (found.replies, found.failed, found.duplicates) == (2, 0, 1)
    put(folder, bad, "errors-0001.jsonl")
    assert made.collect().errors == {"no luck": 2}
    assert texts(made, ask(2)) == echoed(ask(2))


def test_errors_in_every_form_have_their_words(written: Any, by_vllm: Any, folder: Path) -> None:
    made = written(7)
    ids = [json.loads(line)["custom_id"] for line in by_vllm()]
    forms = [
        {"response": None, "error": {"code": "batch_expired", "message": "too late"}},
        {"response": {"status_code": 400, "body": None}, "error": {"error": {"message": "bad"}}},
        {"response": {"status_code": 400, "request_id": "x"}, "error": "no such URL"},
        {"response": {"status_code": 429, "body": {"error": {"message": "slowly"}}}},
        {"response": None, "error": None},
        {},
        {"response": {"status_code": 200, "body": {"object": "list"}}, "error": None},
    ]
    lines = zip(ids, forms, strict=True)
    put(folder, [json.dumps({"custom_id": name, **form}).encode() + b"\n" for name, form in lines])
    found = made.collect()
    assert found.errors == {
        "too late": 1,
        "bad": 1,
        "no such URL": 1,
        "slowly": 1,
        "no reason is given": 2,
        "the reply is not a chat completion": 1,
    }
    assert found.garbled == 1
    assert errors(made, ask(7)) == [
        WAITING, "bad", "no such URL", WAITING, WAITING, WAITING, WAITING,
    ]  # fmt: skip


def test_a_failure_can_be_forgotten(written: Any, by_vllm: Any, folder: Path, host: Any) -> None:
    made = written(1)
    name = json.loads(by_vllm()[0])["custom_id"]
    put(folder, [host.line(name, 400, host.error("not this"))])
    made.collect()
    assert errors(made, ask(1)) == ["not this"]
    made.close()
    (folder / "failures.jsonl").unlink()
    assert errors(made, ask(1)) == [WAITING]


def test_other_names_and_other_files_do_as_well(
    written: Any, engine: Any, by_vllm: Any, folder: Path
) -> None:
    """Keys decide: not the file's name, nor who wrote the requests."""
    written(3)
    lines = by_vllm()
    (folder / "batch.yaml").unlink()
    made = engine(upload=False)
    put(folder, lines, "replies-from-the-cluster.jsonl")
    put(folder, lines, "replies-copy.jsonl")
    put(folder, [b"nothing\n"], "notes.jsonl")
    found = made.collect()
    assert (found.replies, found.known, found.garbled) == (3, 3, 0)
    assert errors(made, ask(4)) == [None, None, None, WAITING]
    assert (folder / "requests-0002.jsonl").exists()


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_replies_come_in_any_order_and_any_number_of_files(
    seed: int, cuts: list[int], tmp_path_factory: pytest.TempPathFactory, host: Any
) -> None:
    place = tmp_path_factory.mktemp("any")
    requests = ask(20)
    with (
        Ledger(place / "ledger.sqlite") as ledger,
        BatchEngine(place / "batch", ledger=ledger, upload=False, most_requests=7) as made,
    ):
        errors(made, requests)
        lines = [
            host.line(said["custom_id"], *host.echo(said["body"]))
            for path in (place / "batch").glob("requests-*.jsonl")
            for said in map(json.loads, path.read_text().splitlines())
        ] * 2
        random.Random(seed).shuffle(lines)
        edges = [0, *sorted(cuts), len(lines)]
        replies = 0
        for number, (start, end) in enumerate(pairwise(edges)):
            put(place / "batch", lines[start:end], f"replies-{number}.jsonl")
            replies += made.collect().replies
        assert replies == 20
        assert texts(made, requests) == echoed(requests)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "error", "code", "status_code", "body"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)
@given(lines=st.lists(st.binary(max_size=40) | JSON | st.tuples(JSON, JSON, JSON), max_size=12))
def test_nothing_in_a_file_of_replies_is_fatal(
    lines: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("any")
    with (
        Ledger(place / "ledger.sqlite") as ledger,
        BatchEngine(place / "batch", ledger=ledger, upload=False) as made,
    ):
        requests = ask(3)
        errors(made, requests)
        data = []
        for number, line in enumerate(lines):
            if isinstance(line, tuple):
                name = ledger.key(requests[number % 3]).hex()
                status, body, error = line
                response = {"status_code": status, "body": body}
                line = {"custom_id": name, "response": response, "error": error}
            data.append(line if isinstance(line, bytes) else json.dumps(line).encode())
        put(place / "batch", [each.replace(b"\n", b" ") + b"\n" for each in data])
        found = made.collect()
        assert found.replies <= 3
        said = sum(bool(each.strip()) for each in data)
        counted = found.replies + found.failed + found.garbled + found.unknown + found.duplicates
        assert counted >= said  # a completion that cannot be read is garbled, and failed
        assert made.collect() == Collected()
        assert len(errors(made, requests)) == 3


# The folder.


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"files: [",
        b"\xff\xfe",
        b"form: 1",
        b"form: 2\nfiles: []\nmodels: {}\nread: {}\n",
        b"form: 1\nfiles: 3\nmodels: {}\nread: {}\n",
        b"form: 1\nfiles: [{name: ../../etc/passwd, model: m}]\nmodels: {}\nread: {}\n",
        b"form: 1\nfiles: [{name: requests-0001.jsonl}]\nmodels: {}\nread: {}\n",
        b"form: 1\nfiles: [{name: requests-0001.jsonl, model: m, rows: a}]\nmodels: {}\nread: {}\n",
        b"form: 1\nfiles: [{name: requests-0001.jsonl, model: m, key: a}]\nmodels: {}\nread: {}\n",
        b"form: 1\nfiles: []\nmodels: {m: {dropped: 1}}\nread: {}\n",
        b"form: 1\nfiles: []\nmodels: {}\nread: {a: {size: x}}\n",
        b"[" * 1500,
    ],
)
def test_a_damaged_state_is_one_line_and_stays_as_it_is(
    engine: Any, folder: Path, content: bytes
) -> None:
    folder.mkdir()
    (folder / "batch.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"batch\.yaml: is ") as caught:
        engine()
    assert "\n" not in str(caught.value)
    assert (folder / "batch.yaml").read_bytes() == content


def test_the_state_is_read_as_it_was_written(written: Any, folder: Path) -> None:
    made = written(3)
    (each,) = made.progress().files
    assert (each.name, each.rows, each.status) == ("requests-0001.jsonl", 3, "written")
    said = yaml.safe_load((folder / "batch.yaml").read_text())
    assert said["files"][0]["rows"] == 3
    assert BatchEngine(folder, ledger=made._ledger).progress() == made.progress()


def test_a_damaged_file_of_failures_costs_only_another_try(
    written: Any, by_vllm: Any, folder: Path, host: Any
) -> None:
    made = written(1)
    name = json.loads(by_vllm()[0])["custom_id"]
    put(folder, [host.line(name, 400, host.error("not this"))])
    made.collect()
    made.close()
    (folder / "failures.jsonl").write_bytes(b'{"custom_id": "zz"}\n[]\n\xff\n{"custom')
    assert errors(made, ask(1)) == [WAITING]


def test_requests_that_were_changed_are_not_sent(engine: Any, folder: Path, host: Any) -> None:
    made = engine()
    errors(made, ask(3))
    with (folder / "requests-0001.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(InputError, match="was changed after it was written; delete it"):
        made.submit()
    made.close()
    (folder / "requests-0001.jsonl").unlink()
    errors(made, ask(3))
    assert made.submit() == 1
    assert len(host.batches) == 1


def test_requests_that_are_deleted_are_not_sent(engine: Any, folder: Path, host: Any) -> None:
    made = engine()
    errors(made, ask(3))
    made.close()
    (folder / "requests-0001.jsonl").unlink()
    assert made.submit() == 0
    assert made.progress().files == ()
    assert host.batches == {}


def test_a_folder_that_is_a_file(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "file").write_text("text")
    made = BatchEngine(tmp_path / "file", ledger=ledger, upload=False)
    with pytest.raises(InputError, match="cannot be written"):
        errors(made, ask(1))
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read(written: Any, by_vllm: Any, folder: Path) -> None:
    made = written(2)
    put(folder, by_vllm())
    made.close()
    folder.chmod(0o555)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            made.collect()
    finally:
        folder.chmod(0o755)
    assert made.collect().replies == 2


def test_replies_that_cannot_be_read_are_named(written: Any, folder: Path) -> None:
    made = written(2)
    (folder / "replies-0001.jsonl").mkdir()
    with pytest.raises(InputError, match=r"replies-0001\.jsonl: cannot be read"):
        made.collect()


def test_a_reply_that_was_there_first_stays(
    written: Any, by_vllm: Any, folder: Path, ledger: Ledger
) -> None:
    made = written(2)
    ledger.put_many([(ledger.key(ask(1)[0]), "tiny", Reply("the first"))])
    put(folder, by_vllm())
    found = made.collect()
    assert (found.replies, found.known) == (1, 1)
    assert texts(made, ask(2)) == ["the first", "prompt 1"]


def test_limits_that_make_no_sense(folder: Path, ledger: Ledger) -> None:
    for limits in ({"most_requests": 0}, {"most_bytes": -1}):
        with pytest.raises(ArenaJudgeError, match="a request at least"):
            BatchEngine(folder, ledger=ledger, **limits)
