"""Log-probabilities come back from a ledger as they were, of whatever version."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.engines.base import Reply, TokenChoice
from judge.engines.ledger import Ledger
from judge.engines.logprobs import packed, unpacked
from judge.errors import InputError

token = st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(["", "A", "\x1f", "\0"])
number = st.floats(-9999, 0)
top = st.lists(st.tuples(token, number), max_size=4).map(tuple)
choices = st.lists(st.builds(TokenChoice, token, number, top), max_size=6).map(tuple)

SOME = (
    TokenChoice("A", -0.25, (("A", -0.25), ("AB", -1.5))),
    TokenChoice("", 0.0, ()),
    TokenChoice("é\n", -9999.0, (("日本", -0.5),)),
)
OLD = (
    '[["A","","\\u00e9\\n"],[-0.25,0.0,-9999.0],'
    '[["A","AB"],[],["\\u65e5\\u672c"]],[[-0.25,-1.5],[],[-0.5]]]'
)


@given(choices)
def test_choices_come_back_as_they_were(given_choices: tuple[TokenChoice, ...]) -> None:
    kept = packed(given_choices)
    found = unpacked(kept)
    assert len(found) == len(given_choices)
    assert found == given_choices
    assert tuple(found) == given_choices
    assert [type(choice) for choice in found] == [TokenChoice] * len(found)
    assert packed(unpacked(kept)) == kept
    assert unpacked(packed(found)) == found
    assert repr(found) == repr(given_choices)
    assert hash(found) == hash(given_choices)


def test_it_takes_less_room_than_json() -> None:
    long = [
        TokenChoice(f" {n}", -n / 7, tuple((f"{k}", -k / 7) for k in range(5))) for n in range(20)
    ]
    assert len(packed(long)) < 0.6 * len(json.dumps(long))


def test_a_sequence_in_every_way() -> None:
    kept = unpacked(packed(SOME))
    assert (kept[0], kept[-1], kept[1:]) == (SOME[0], SOME[-1], SOME[1:])
    assert list(reversed(kept)) == list(reversed(SOME))
    assert SOME[2] in kept
    assert kept != SOME[:2]
    assert "".join(choice.token for choice in kept) == "Aé\n"
    with pytest.raises(IndexError):
        kept[3]


@pytest.mark.parametrize("kept", [packed(SOME), OLD])
def test_what_has_been_cut_or_overwritten_is_damaged(kept: bytes | str) -> None:
    assert unpacked(kept) == SOME
    numbers = 4 * 4 + 8 * 6 if isinstance(kept, bytes) else len(kept)
    for length in range(numbers):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever says so
            unpacked(kept[:length])
    if isinstance(kept, bytes):
        for bad in (b"\xff" * len(kept), kept + b"\x1f", kept[:-1] + b"\xff"):
            with pytest.raises(ValueError):  # noqa: PT011
                unpacked(bad)


def test_a_ledger_of_the_first_form_is_read_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    Ledger(path).close()
    row = (b"old", "m", "A", "stop", OLD, 7, 0, 3, 0.0, 0.5, 1e9)
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE replies")
        database.execute(
            "CREATE TABLE replies (key BLOB PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL, "
            "finish TEXT NOT NULL, logprobs TEXT, prompt_tokens INTEGER NOT NULL, cached_tokens "
            "INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost REAL NOT NULL, "
            "seconds REAL NOT NULL, time REAL NOT NULL)"
        )
        database.execute(f"INSERT INTO replies VALUES ({', '.join('?' * 11)})", row)
        database.execute("PRAGMA user_version = 1")
    database.close()
    with Ledger(path) as ledger:
        assert ledger.get_many([b"old"])[b"old"].logprobs == SOME
        ledger.put_many([(b"new", "m", Reply("B", logprobs=SOME))])
        ledger.put_many([(b"odd", "m", Reply("B", logprobs=(TokenChoice("\x1f", 0.0, ()),)))])
    with Ledger(path) as ledger:
        found = ledger.get_many([b"old", b"new", b"odd"])
    assert found[b"old"].logprobs == found[b"new"].logprobs == SOME
    assert found[b"odd"].logprobs == (TokenChoice("\x1f", 0.0, ()),)
    with sqlite3.connect(path) as database:  # an earlier version could not read all of it now
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.close()


def test_damage_is_said_when_the_reply_is_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.put_many([(b"k", "m", Reply("A", logprobs=SOME))])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE replies SET logprobs = substr(logprobs, 1, 20)")
    database.close()
    with Ledger(path) as ledger, pytest.raises(InputError, match="a damaged one"):
        ledger.get_many([b"k"])
