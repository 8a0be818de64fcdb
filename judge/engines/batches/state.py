"""What is known of the batches in a folder: `batch.yaml` and `failures.jsonl`, beside the files.

Both are written anew after each step, whole or not at all, so that whoever is killed goes on where
he stopped. One process at a time works in a folder. No key is ever written here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import yaml

from judge.engines.wire import Dialect
from judge.errors import ArenaJudgeError, InputError
from judge.files.atomic import explained, written_whole

_flock: Callable[[int, int], None] | None = None
with suppress(ImportError):  # Windows has none
    from fcntl import LOCK_EX, LOCK_NB
    from fcntl import flock as _flock

STATE = "batch.yaml"
FAILURES = "failures.jsonl"
_LOCK = ".batch.lock"
_FORM = 1
_HEAD = "# What is known of the batches in this folder. Written by arena-judge after each step.\n"
_MEND = "move it away; replies that are in the ledger stay, batches under way are forgotten"
_NAME = re.compile(r"requests-(\d{4,9})\.jsonl")

# Statuses of our own; the others are the server's words.
WRITTEN, UPLOADED, QUEUED = "written", "uploaded", "queued"
REPLACED, ANSWERED = "replaced", "answered"
UNSENT = frozenset({WRITTEN, UPLOADED, QUEUED})
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})

Kind = TypeVar("Kind")


@dataclass
class RequestFile:
    """One file of requests and what became of it.

    Attributes:
        name: in the folder.
        model: the one that all its requests ask.
        rows, size, sha256: of the file; size in bytes.
        promised: dollars it may cost, as estimated.
        status: `written`, `uploaded`, `queued` (the server had too many to do), `replaced` (by
            another, before it was sent), `answered` (elsewhere), or what the server says of its
            batch.
        server: where it was sent.
        upload, batch, output, errors: the server's ids of the file, of its batch, and of what came
            back.
        begun: the step that was begun, so that one who was killed looks whether it was done.
        completed, failed, total: the server's counts.
        refusals: how often the server had no room for it, though nothing else of ours was there.
        collected: whether all that came back is in the ledger.
        when: the time of the last change, UTC.
    """

    name: str
    model: str
    rows: int = 0
    size: int = 0
    sha256: str = ""
    promised: float = 0.0
    status: str = WRITTEN
    server: str = ""
    upload: str = ""
    batch: str = ""
    output: str = ""
    errors: str = ""
    begun: str = ""
    completed: int = 0
    failed: int = 0
    total: int = 0
    refusals: int = 0
    collected: bool = False
    when: str = ""

    @property
    def number(self) -> int:
        """The number in its name."""
        found = _NAME.fullmatch(self.name)
        assert found is not None
        return int(found[1])

    @property
    def unsent(self) -> bool:
        """Whether no batch was made of it, but may be."""
        return self.status in UNSENT

    @property
    def pending(self) -> bool:
        """Whether replies of its batch are still to come."""
        return bool(self.batch) and not self.collected

    def change(self, **values: Any) -> None:
        """Sets attributes, and the time."""
        for name, value in values.items():
            setattr(self, name, value)
        self.when = datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class ReplyFile:
    """A file of replies that was read: its size and time of change then, what the replies cost, and
    the key of one of them, by which a ledger that has them is known."""

    size: int = 0
    changed: int = 0
    spent: float = 0.0
    key: str = ""


@dataclass
class Failure:
    """Why a request had no reply.

    Attributes:
        message: in one line.
        final: whether asking again would not help.
        files: the files of replies that said so.
    """

    message: str
    final: bool = False
    files: list[str] = field(default_factory=list)


@dataclass
class State:
    """All that is kept in `batch.yaml`."""

    files: list[RequestFile] = field(default_factory=list)
    dialects: dict[str, Dialect] = field(default_factory=dict)
    read: dict[str, ReplyFile] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        """Dollars that replies have cost."""
        return sum(each.spent for each in self.read.values())

    @property
    def promised(self) -> float:
        """Dollars that batches under way may cost."""
        return sum(each.promised for each in self.files if each.pending)


class Folder:
    """A folder of batches, its state, and the lock on both.

    Args:
        path: made when something is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.failures: dict[bytes, Failure] = {}
        self._lock: int | None = None
        self.locked = False
        self.state = self._load()

    def enter(self) -> None:
        """Takes the folder for this process, and reads what others have changed in it.

        Raises:
            ArenaJudgeError: another process has it, or it cannot be written to.
        """
        if self.locked:
            return
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with explained(self.path / _LOCK):
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        if _flock is not None:
            try:
                _flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise ArenaJudgeError(
                    f"{self.path}: another process works with these batches; wait until it ends"
                ) from None
            except OSError:  # a file system without locks
                pass
        self._lock = lock
        self.locked = True
        self.state = self._load()
        self.failures = _read_failures(self.path / FAILURES)
        gone = [f for f in self.state.files if f.unsent and not (self.path / f.name).exists()]
        for each in gone:  # whoever deletes what was not sent does not want it sent
            self.state.files.remove(each)

    def leave(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.locked = False

    def save(self) -> None:
        """Writes the state."""
        content = {
            "form": _FORM,
            "files": [asdict(each) for each in self.state.files],
            "models": {name: _spelled(each) for name, each in self.state.dialects.items()},
            "read": {name: asdict(each) for name, each in self.state.read.items()},
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        with written_whole(self.path / STATE) as file:
            file.write((_HEAD + text).encode("utf-8", "replace"))

    def save_failures(self) -> None:
        """Writes the failures, if there are any or were."""
        path = self.path / FAILURES
        if self.failures or path.exists():
            with written_whole(path) as file:
                for key, failure in self.failures.items():
                    file.write(json.dumps({"custom_id": key.hex(), **asdict(failure)}).encode())
                    file.write(b"\n")

    def fresh(self) -> State:
        """The state: this process's if it has the folder, otherwise as it stands on the disk."""
        return self.state if self.locked else self._load()

    def next_number(self, taken: Iterable[int] = ()) -> int:
        """A number that no file of requests has, nor one of replies, whoever wrote it."""
        numbers = [each.number for each in self.state.files]
        with explained(self.path), os.scandir(self.path) as entries:
            for entry in entries:
                found = re.fullmatch(r"(?:requests|replies|errors)-(\d{4,9})\.jsonl", entry.name)
                if found:
                    numbers.append(int(found[1]))
        return max([*numbers, *taken], default=0) + 1

    def _load(self) -> State:
        path = self.path / STATE
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return State()
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})", file=path, mend=_MEND) from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise InputError("is not YAML", file=path, mend=_MEND) from error
        try:
            return _state(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "is no record of batches, or a damaged one", file=path, mend=_MEND
            ) from error


def _state(content: Any) -> State:
    if content["form"] != _FORM:
        raise ValueError
    state = State(
        [_made(RequestFile, each) for each in content["files"]],
        {str(name): _dialect(each) for name, each in content["models"].items()},
        {str(name): _made(ReplyFile, each) for name, each in content["read"].items()},
    )
    names = [each.name for each in state.files]
    # Names become paths: nothing but our own.
    if len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
        raise ValueError
    return state


def _made(kind: type[Kind], values: Any) -> Kind:
    """A dataclass of plain values, each of the type of its default."""
    made = kind(**values)
    for item in fields(made):  # type: ignore[arg-type]
        value = getattr(made, item.name)
        # Annotations are texts here.
        if type(value).__name__ != item.type and (type(value), item.type) != (int, "float"):
            raise TypeError
    return made


def _spelled(dialect: Dialect) -> dict[str, Any]:
    return {
        "dropped": sorted(dialect.dropped),
        "limit_name": dialect.limit_name,
        "most_logprobs": dialect.most_logprobs,
        "format": dialect.format,
        "cap": dialect.cap,
    }


def _dialect(values: Any) -> Dialect:
    if set(values) != {"dropped", "limit_name", "most_logprobs", "format", "cap"}:
        raise ValueError
    made = Dialect(**{**values, "dropped": set(values["dropped"])})
    texts = [*made.dropped, made.limit_name, made.format]
    counts = [made.most_logprobs, *([] if made.cap is None else [made.cap])]
    if not all(isinstance(text, str) for text in texts) or any(type(n) is not int for n in counts):
        raise TypeError
    return made


def _read_failures(path: Path) -> dict[bytes, Failure]:
    """What failed; lines that cannot be read are asked again, which does no harm."""
    found: dict[bytes, Failure] = {}
    if not path.exists():
        return found
    with opened(path) as file:
        for line in file:
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                said = json.loads(line)
                failure = Failure(str(said["message"]), said["final"] is True, list(said["files"]))
                found[bytes.fromhex(said["custom_id"])] = failure
    return found


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A file to read; says in one line why it cannot be."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", file=path, mend="see to the file"
        ) from error
