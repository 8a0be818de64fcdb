"""From files of replies into the ledger; what failed, and what of a request to leave out next time.

Reading a file again changes nothing: the ledger keeps the first reply, and what a file cost and
which requests it failed is noted under its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from judge.engines import wire
from judge.engines.base import Parameters, Reply, Request
from judge.engines.batches.files import Asked, as_key
from judge.engines.batches.replies import (
    GARBLED,
    Answer,
    Fault,
    complaint_of,
    is_final,
    read_answers,
    sent_features,
    still_sent,
)
from judge.engines.batches.state import Failure, Folder, ReplyFile
from judge.engines.complaints import Complaint
from judge.engines.ledger import Ledger
from judge.engines.pricing import Price
from judge.engines.transport import Secrets
from judge.errors import InputError

_TOGETHER = 500  # replies a transaction
_NAMED = 5  # faults of a kind that are named
_MESSAGES = 20  # errors that are counted each for itself
_OTHERS = "other errors"


@dataclass(frozen=True)
class Collected:
    """What came out of files of replies.

    Attributes:
        replies: how many are new in the ledger.
        known: how many the ledger had.
        cost: dollars, of the new.
        errors: the messages of requests that failed, and how often each came.
        garbled: lines that say nothing.
        truncated: last lines without their end.
        unknown: replies to what was not asked.
        duplicates: replies to what an earlier line of the same file answers.
        faults: where some of these are, a line each.
    """

    replies: int = 0
    known: int = 0
    cost: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)
    garbled: int = 0
    truncated: int = 0
    unknown: int = 0
    duplicates: int = 0
    faults: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.errors.values())

    def __add__(self, other: Collected) -> Collected:
        errors = dict(self.errors)
        for message, count in other.errors.items():
            name = message if message in errors or len(errors) < _MESSAGES else _OTHERS
            errors[name] = errors.get(name, 0) + count
        return Collected(
            self.replies + other.replies,
            self.known + other.known,
            self.cost + other.cost,
            errors,
            self.garbled + other.garbled,
            self.truncated + other.truncated,
            self.unknown + other.unknown,
            self.duplicates + other.duplicates,
            self.faults + other.faults,
        )


@dataclass
class _Reading:
    """One file while it is read."""

    path: Path
    bought: bool
    model: str | None
    answered: set[bytes] = field(default_factory=set)
    failed: dict[bytes, Failure] = field(default_factory=dict)
    replies: list[tuple[bytes, str, Reply]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    new: int = 0
    known: int = 0
    cost: float = 0.0
    spent: float = 0.0
    checked: bool = False

    def fault(self, kind: str, line: int, what: str) -> None:
        """Counts something that is wrong, and names the first of its kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= _NAMED:
            self.faults.append(f"{self.path}, line {line}: {what}")


class Collector:
    """Reads files of replies.

    Args:
        folder: taken already; its failures and dialects are changed.
        ledger: where replies go.
        secrets: taken out of what servers say.
        price: of a model in a batch, None where it is not known.
        found: is told every reply that is new in the ledger.
        note: is told what the user should know.
    """

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        secrets: Secrets,
        price: Callable[[str], Price | None],
        found: Callable[[bytes, Reply], None],
        note: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._secrets = secrets
        self._price = price
        self._found = found
        self._note = note
        self._asked: dict[str, Asked] = {}

    def unread(self) -> list[Path]:
        """The files of replies that lie in the folder and have not been read as they are."""
        paths = [*self._folder.path.glob("replies-*.jsonl")]
        paths += self._folder.path.glob("errors-*.jsonl")
        return sorted(path for path in paths if not self._was_read(path))

    def read(self, path: Path, bought: bool, model: str | None = None) -> Collected:
        """Reads a file into the ledger, and notes that it was read.

        Args:
            path: the file.
            bought: whether a server was paid for it.
            model: the one that was asked, where the file of requests is no more.

        Raises:
            InputError: it cannot be read, or the ledger or the folder cannot be written.
        """
        reading = _Reading(path, bought, model)
        size, changed = _stat(path)
        for said in read_answers(path, self._secrets.scrubbed_bytes):
            if isinstance(said, Fault):
                what = "is no reply" if said.kind == GARBLED else "ends in the middle"
                reading.fault(said.kind, said.line, what)
            else:
                self._take(reading, said)
            if len(reading.replies) >= _TOGETHER:
                self._keep(reading)
        self._keep(reading)
        self._fail(reading)
        self._folder.save_failures()
        first = min(reading.answered).hex() if reading.answered else ""
        self._folder.state.read[path.name] = ReplyFile(size, changed, reading.spent, first)
        self._folder.save()
        return Collected(
            reading.new,
            reading.known,
            reading.cost,
            reading.errors,
            **{kind: reading.counts.get(kind, 0) for kind in _KINDS},
            faults=tuple(reading.faults),
        )

    def close(self) -> None:
        """Closes the files of requests, and forgets what stands in them."""
        for asked in self._asked.values():
            asked.close()
        self._asked.clear()

    def _was_read(self, path: Path) -> bool:
        read = self._folder.state.read.get(path.name)
        if read is None or (read.size, read.changed) != _stat(path):
            return False
        # Another ledger than then, or a new one, is filled again.
        key = as_key(read.key)
        return key is None or bool(self._ledger.get_many([key]))

    def _take(self, reading: _Reading, answer: Answer) -> None:
        key = as_key(answer.custom_id)
        asked = None if key is None else self._find(reading, key)
        if key is None or asked is None:
            shown = self._secrets.scrubbed(wire.one_line(answer.custom_id, 80))
            reading.fault("unknown", answer.line, f"answers {shown}, which was not asked")
            return
        if key in reading.answered or (key in reading.failed and answer.status != 200):
            reading.fault("duplicates", answer.line, "answers what an earlier line does")
            return
        request, body = asked
        if answer.status != 200:
            self._refused(reading, key, answer, request, body)
            return
        try:
            reply = wire.read_reply(answer.content, request, 0.0)
        except wire.Garbled as error:
            reading.fault(GARBLED, answer.line, str(error))
            reading.failed[key] = Failure(str(error))
            return
        model = request.parameters.model
        if not reading.checked:
            reading.checked = True
            if other := wire.another_model(answer.content, model):
                self._note(f"{reading.path.name} has replies of {other}, and {model} was asked")
        price = self._price(model)
        free = price is None or (answer.by_vllm and not reading.bought)
        cost = 0.0 if price is None or free else price.cost(reply.usage)
        reading.answered.add(key)
        reading.failed.pop(key, None)
        reading.spent += cost
        reading.replies.append((key, model, replace(reply, cost=cost, time=answer.time)))

    def _find(self, reading: _Reading, key: bytes) -> tuple[Request, dict[str, Any]] | None:
        """The request that a key stands for: in the file of the same number, or in any other."""
        own = f"requests-{reading.path.stem.partition('-')[2]}.jsonl"
        others = (path.name for path in sorted(self._folder.path.glob("requests-*.jsonl")))
        for name in (own, *([] if key in self._in(own) else others)):
            if key in self._in(name):
                return self._in(name).find(key)
        if reading.model is None:
            return None
        return Request((), Parameters(reading.model)), {}

    def _in(self, name: str) -> Asked:
        if name not in self._asked:
            self._asked[name] = Asked(self._folder.path / name)
        return self._asked[name]

    def _refused(
        self, reading: _Reading, key: bytes, answer: Answer, request: Request, body: dict[str, Any]
    ) -> None:
        """An error: what the server does not take is left out next time, the rest is noted."""
        complaint = complaint_of(answer, body)
        message = complaint.text or f"the server answered {answer.status}"
        final = is_final(answer, complaint)
        if final and (complaint.feature is not None or complaint.cap is not None):
            final = False
            self._learn(request.parameters.model, complaint, body)
        reading.failed[key] = Failure(message, final)

    def _learn(self, model: str, complaint: Complaint, body: dict[str, Any]) -> None:
        """Asks in another way from now on. Thousands say the same of a file: it is heeded once."""
        dialect = self._folder.state.dialects.setdefault(model, wire.Dialect())
        cap, feature = complaint.cap, complaint.feature
        if cap is not None:
            if dialect.cap is None or cap < dialect.cap:
                dialect.learn_cap(cap)
                self._note(f"{model} gives {cap} tokens at most; no more are asked for from now on")
        elif feature is not None and still_sent(dialect, feature, body):
            whole = dialect.give_up(feature, sent_features(body))
            how = "is left out from now on" if whole else "is sent in another way from now on"
            self._note(f"{model} refused {feature} ({complaint.text}); it {how}")

    def _keep(self, reading: _Reading) -> None:
        """Puts replies into the ledger."""
        replies, reading.replies = reading.replies, []
        if not replies:
            return
        known = self._ledger.get_many(key for key, _, _ in replies)
        self._ledger.put_many(replies)
        for key, _, reply in replies:
            self._folder.failures.pop(key, None)
            if key in known:
                reading.known += 1
            else:
                reading.new += 1
                reading.cost += reply.cost
                self._found(key, reply)

    def _fail(self, reading: _Reading) -> None:
        """Notes what failed and has no reply from elsewhere."""
        known = self._ledger.get_many(reading.failed)
        for key, failure in reading.failed.items():
            message = self._secrets.scrubbed(failure.message)
            name = (
                message if message in reading.errors or len(reading.errors) < _MESSAGES else _OTHERS
            )
            reading.errors[name] = reading.errors.get(name, 0) + 1
            if key not in known:
                earlier = self._folder.failures.get(key)
                files = earlier.files if earlier else []
                said = [*files, reading.path.name] if reading.path.name not in files else files
                self._folder.failures[key] = Failure(message, failure.final, said)


_KINDS = ("garbled", "truncated", "unknown", "duplicates")


def _stat(path: Path) -> tuple[int, int]:
    """Size and time of change; those of nothing where the file is gone."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    raise InputError("is gone", file=path, mend="see to the file")
