"""The ledger gives back what it was given, to the same question only, and explains bad files."""

from __future__ import annotations

import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.engines.base import Message, Parameters, Reply, Request, TokenChoice, Usage
from judge.engines.ledger import Ledger
from judge.errors import InputError

REQUEST = Request((Message("system", "s"), Message("user", "é")), Parameters("m"))
text = st.text(st.characters(codec="utf-8"), max_size=30)
number = st.floats(-9999, 0)
choices = st.builds(
    TokenChoice, text, number, st.lists(st.tuples(text, number), max_size=3).map(tuple)
)
any_reply = st.builds(
    Reply,
    text=text,
    finish=text,
    logprobs=st.none() | st.lists(choices, max_size=3).map(tuple),
    usage=st.builds(Usage, *[st.integers(0, 10**9)] * 3),
    cost=st.floats(0, 10),
    seconds=st.floats(0, 1e6),
    time=st.floats(1, 4e9),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger") as opened:
        yield opened


@given(st.lists(any_reply, max_size=5))
def test_replies_come_back_as_they_were(given_replies: list[Reply]) -> None:
    with Ledger(":memory:") as ledger:
        keys = [bytes([n]) * 32 for n in range(len(given_replies))]
        ledger.put_many((key, "m", r) for key, r in zip(keys, given_replies, strict=True))
        found = ledger.get_many([*keys, b"?" * 32])
        assert found == {
            key: replace(reply, from_ledger=True)
            for key, reply in zip(keys, given_replies, strict=True)
        }


def test_a_key_is_the_same_for_ever(ledger: Ledger) -> None:
    # Changing this makes every ledger in the world worthless.
    assert ledger.key(REQUEST).hex() == KEY
    spelled = Parameters("m", temperature=0, max_tokens=64, seed=None)
    assert ledger.key(replace(REQUEST, parameters=spelled)).hex() == KEY
    assert ledger.key(replace(REQUEST, prefix="p")).hex() == KEY


KEY = "3f5a2425243a01e16492cc8bc322297dfaddbdce822497ca6b1a88b01d155967"


def test_what_is_asked_differently_has_another_key(ledger: Ledger) -> None:
    plain = REQUEST.parameters
    others = [
        replace(REQUEST, sample=1),
        replace(REQUEST, messages=REQUEST.messages[1:]),
        replace(REQUEST, messages=(*REQUEST.messages, Message("user", ""))),
        replace(REQUEST, messages=(Message("s", "system"), Message("user", "é"))),
        *(
            replace(REQUEST, parameters=replace(plain, **changed))
            for changed in (
                {"model": "n"},
                {"temperature": 0.5},
                {"max_tokens": 65},
                {"seed": 0},
                {"top_logprobs": 1},
                {"schema": {}},
                {"schema": {"type": "object"}},
                {"choices": ("A",)},
                {"regex": "A"},
            )
        ),
    ]
    keys = {ledger.key(request) for request in [REQUEST, *others]}
    assert len(keys) == len(others) + 1


def test_the_order_of_a_schema_s_words_makes_no_key(ledger: Ledger) -> None:
    one, other = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    keys = {
        ledger.key(replace(REQUEST, parameters=replace(REQUEST.parameters, schema=schema)))
        for schema in (one, other)
    }
    assert len(keys) == 1


def test_the_first_answer_stays(ledger: Ledger) -> None:
    assert ledger.put_many([(b"k", "m", Reply("first"))]) == {}
    there = ledger.put_many([(b"k", "m", Reply("second")), (b"l", "m", Reply("other"))])
    assert ledger.get_many([b"k"])[b"k"].text == "first"
    assert {key: reply.text for key, reply in there.items()} == {b"k": "first", b"l": "other"}
    assert ledger.put_many([(b"n", "m", Reply("new")), (b"o", "m", Reply.failed("no"))]) == {}
    assert ledger.count() == 3


def test_when_it_was_answered_is_kept_or_else_when_it_was_put(ledger: Ledger) -> None:
    before = time.time()
    ledger.put_many([(b"k", "m", Reply("known", time=5.5)), (b"l", "m", Reply("unknown"))])
    found = ledger.get_many([b"k", b"l"])
    assert found[b"k"].time == 5.5
    assert before <= found[b"l"].time <= time.time()
    assert [entry.time for batch in ledger.entries() for entry in batch] == [
        5.5,
        found[b"l"].time,
    ]


def test_failures_are_not_kept(ledger: Ledger) -> None:
    ledger.put_many([(b"k", "m", Reply.failed("no")), (b"l", "m", Reply("yes"))])
    assert set(ledger.get_many([b"k", b"l"])) == {b"l"}


def test_more_keys_than_a_query_takes(ledger: Ledger) -> None:
    keys = [n.to_bytes(32) for n in range(3001)]
    ledger.put_many((key, "m", Reply(str(n))) for n, key in enumerate(keys))
    found = ledger.get_many(iter(keys))
    assert [found[key].text for key in keys] == [str(n) for n in range(3001)]
    assert ledger.get_many([]) == {}


def test_what_is_put_is_there_for_others_at_once(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as one, Ledger(tmp_path / "ledger") as other:
        one.put_many([(b"k", "m", Reply("here"))])
        assert other.get_many([b"k"])[b"k"].text == "here"


def test_many_open_and_write_a_new_file_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            with Ledger(tmp_path / "ledger") as ledger:
                for n in range(20):
                    ledger.put_many([(f"{name} {n}".encode(), "m", Reply("x"))])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger.count() == 160


def rubbish(path: Path) -> None:
    path.write_bytes(b"battles,are,not\nled,gers,1\n" * 200)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()


def later(path: Path) -> None:
    Ledger(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (rubbish, "is not a ledger, or a damaged one"),
        (foreign, "is a database, but no ledger"),
        (later, "was written by a later version"),
        (folder, "the ledger cannot be used"),
    ],
)
def test_a_file_that_is_no_ledger_is_left_alone_and_explained(
    tmp_path: Path, make: Any, message: str
) -> None:
    path = tmp_path / "file"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(InputError, match=message) as caught:
        Ledger(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_ledger_damaged_in_the_middle_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    keys = [n.to_bytes(32) for n in range(2000)]
    with Ledger(path) as ledger:
        ledger.put_many((key, "m", Reply("x" * 50)) for key in keys)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(InputError, match="is not a ledger, or a damaged one"):  # noqa: SIM117
        with Ledger(path) as ledger:
            ledger.get_many(keys)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the ledger cannot be used"):
        Ledger(tmp_path / "file" / "ledger")
