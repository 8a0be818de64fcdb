"""Every answered call, kept in a file: none is paid for twice, and a killed run goes on.

SQLite in WAL mode, which several processes read and write at once. A reply is found by a hash of
what was asked (model, messages, parameters, sample) and not of where or with which key. A write
returns when its transaction has ended, and then outlives the process, however that ends.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from itertools import islice
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from judge.engines.base import Parameters, Reply, Request, Usage
from judge.engines.logprobs import packed, unpacked
from judge.errors import InputError

_FORM = 2  # of what stands in the table; 1 had log-probabilities as JSON, which is still read
_MARK = 0x41724A6C  # "ArJl": SQLite's application_id, by which a ledger is known
_PATIENCE = 60.0  # seconds to wait while another process writes
_BATCH = 500  # keys a query

_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key BLOB PRIMARY KEY,
    model TEXT NOT NULL,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    logprobs BLOB,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    seconds REAL NOT NULL,
    time REAL NOT NULL
)
"""
# The first answer stays: two processes that asked the same must not disagree from then on.
_INSERT = "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = (
    "SELECT key, text, finish, logprobs, prompt_tokens, cached_tokens, completion_tokens, cost, "
    "seconds, time FROM replies WHERE key IN ({})"
)
_PAGE = (
    "SELECT rowid, key, model, text, finish, prompt_tokens, cached_tokens, completion_tokens, "
    "cost, seconds, time FROM replies WHERE rowid > ? ORDER BY rowid LIMIT ?"
)
_MOVE = "move it away or name another file"
_DEFAULTS = {item.name: item.default for item in fields(Parameters) if item.name != "model"}


class Entry(NamedTuple):
    """A reply as it is kept, for tables.

    Attributes:
        key: what it is found by, in hexadecimal: a hash of model, messages, parameters and sample.
        model: who was asked.
        text, finish: what was said, and why no more.
        prompt_tokens, cached_tokens, completion_tokens: how much.
        cost: dollars; 0 where no price was known.
        seconds: that it took.
        time: when it was answered, or else kept, in seconds since 1970.
    """

    key: str
    model: str
    text: str
    finish: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: float
    seconds: float
    time: float


class Ledger:
    """The replies that were paid for.

    Args:
        path: the file; made where it is not there, its folder too.

    Raises:
        InputError: the file is no ledger, damaged, of a later version, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._keys = _Keys()
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise

    def key(self, request: Request) -> bytes:
        """What a request's reply is found by: 32 bytes, the same on every machine."""
        return self._keys.key(request)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Reply]:
        """The replies that are there; with `from_ledger` set, and what they cost then."""
        found: dict[bytes, Reply] = {}
        wanted = iter(keys)
        while batch := list(islice(wanted, _BATCH)):
            query = _SELECT.format(",".join("?" * len(batch)))
            with self._explained(), self._lock:
                rows = self._database.execute(query, batch).fetchall()
            with self._explained():
                found.update((row[0], _reply(row)) for row in rows)
        return found

    def put_many(self, replies: Iterable[tuple[bytes, str, Reply]]) -> dict[bytes, Reply]:
        """Keeps replies as (key, model, reply), in one transaction. Those with an error are passed
        over: they are to be asked for again.

        Returns:
            What stands under the keys, where one of them had a reply already: that one stays, and
            is what every later run will find. Mostly empty.
        """
        now = time.time()
        rows = [_row(*entry, now) for entry in replies if entry[2].error is None]
        if not rows:
            return {}
        with self._explained(), self._lock, self._transaction():
            new = self._database.executemany(_INSERT, rows).rowcount
        return {} if new == len(rows) else self.get_many(row[0] for row in rows)

    def count(self) -> int:
        """How many replies there are."""
        with self._explained(), self._lock:
            return int(self._database.execute("SELECT count(*) FROM replies").fetchone()[0])

    def entries(self) -> Iterator[list[Entry]]:
        """All that is kept, in the order it came in, a batch at a time; others may write."""
        last = 0
        while True:
            with self._explained(), self._lock:
                rows = self._database.execute(_PAGE, (last, _BATCH)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [Entry(key.hex(), *rest) for _, key, *rest in rows]

    def close(self) -> None:
        """Closes the file; what was put in it is there."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> None:
        """Finds the table, or makes it. Nothing is written to a file that is not ours."""
        # The mark last: it comes in one transaction with the table, so whoever sees another
        # process's table sees its mark as well.
        tables = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        mark = self._number("application_id")
        if tables and mark != _MARK:
            raise InputError("is a database, but no ledger", file=self.path, mend=_MOVE)
        form = self._number("user_version")
        if form > _FORM:
            raise InputError(
                "was written by a later version of arena-judge", file=self.path, mend=_MOVE
            )
        self._write_ahead()
        # A commit is then with the operating system, which a killed process cannot take back; a
        # loss of power may cost the last ones, and no more.
        self._database.execute("PRAGMA synchronous = NORMAL")
        if mark != _MARK or not tables:
            with self._transaction():
                self._database.execute(_TABLE)
                self._database.execute(f"PRAGMA application_id = {_MARK}")
                self._database.execute(f"PRAGMA user_version = {_FORM}")
        elif form < _FORM:
            with self._transaction():  # what is written from now on, an earlier version cannot read
                self._database.execute(f"PRAGMA user_version = {_FORM}")

    def _number(self, pragma: str) -> int:
        return int(self._database.execute(f"PRAGMA {pragma}").fetchone()[0])

    def _write_ahead(self) -> None:
        """Switches to WAL. SQLite does not wait for other processes here, so we do."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says in one line what is wrong with the file."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a closed ledger is used: no fault of the file
        except sqlite3.OperationalError as error:
            mend = "see that its folder can be written to and has room"
            if "locked" in str(error):
                mend = "end the other process that holds it"
            raise InputError(
                f"the ledger cannot be used ({error})", file=self.path, mend=mend
            ) from error
        except OSError as error:
            raise InputError(
                f"the ledger cannot be used ({error.strerror})", file=self.path, mend=_MOVE
            ) from error
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise InputError(
                "is not a ledger, or a damaged one", file=self.path, mend=_MOVE
            ) from error


class _Keys:
    """Hashes of requests; parameters, which many requests share, are spelled out once."""

    def __init__(self) -> None:
        self._last: tuple[Parameters, str] | None = None

    def key(self, request: Request) -> bytes:
        last = self._last
        if last is None or last[0] is not request.parameters:
            last = self._last = request.parameters, _canonical(_spelled(request.parameters))
        messages = ",".join(
            f"[{_quoted(message.role)},{_quoted(message.content)}]" for message in request.messages
        )
        text = f'{{"messages":[{messages}],"parameters":{last[1]},"sample":{request.sample}}}'
        return hashlib.sha256(text.encode("ascii")).digest()


def _spelled(parameters: Parameters) -> dict[str, Any]:
    """Parameters without those at their default, so that one that is added later changes no key."""
    said: dict[str, Any] = {"model": parameters.model}
    for name, default in _DEFAULTS.items():
        value = getattr(parameters, name)
        if value != default:
            said[name] = float(value) if name == "temperature" else value
    return said


def _canonical(value: object) -> str:
    """The one way to write a value as JSON, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=dict)


def _row(key: bytes, model: str, reply: Reply, now: float) -> tuple[Any, ...]:
    logprobs = reply.logprobs
    return (
        key,
        model,
        reply.text,
        reply.finish,
        None if logprobs is None else packed(logprobs),
        reply.usage.prompt,
        reply.usage.cached,
        reply.usage.completion,
        reply.cost,
        reply.seconds,
        reply.time if reply.time > 0 else now,
    )


def _reply(row: tuple[Any, ...]) -> Reply:
    _, text, finish, logprobs, prompt, cached, completion, cost, seconds, when = row
    return Reply(
        text,
        finish,
        None if logprobs is None else unpacked(logprobs),
        Usage(prompt, cached, completion),
        cost,
        seconds,
        from_ledger=True,
        time=when,
    )
