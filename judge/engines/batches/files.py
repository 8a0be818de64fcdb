"""Files of requests in the form that OpenAI's Batch API and vLLM's run_batch read.

A line a request; its `custom_id` is the ledger's key, by which replies find their place wherever
and in whatever order they come. A file has one model, and no more than a server takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from judge.engines.base import Message, Parameters, Request
from judge.engines.batches.state import REPLACED, WRITTEN, Folder, RequestFile, opened
from judge.engines.wire import Dialect, Garbled, body, decoded, encoded
from judge.errors import InputError
from judge.files.atomic import explained, written_whole

MOST_REQUESTS = 50_000  # OpenAI's limits are these, and 200 MB
MOST_BYTES = 190_000_000
TARGET = "/v1/chat/completions"
_HEAD = b'{"custom_id":"'  # how lines of ours begin


def request_line(key: bytes, request: Request, dialect: Dialect) -> bytes:
    """A request as a line of a batch file, with its end."""
    content = {
        "custom_id": key.hex(),
        "method": "POST",
        "url": TARGET,
        "body": body(request, dialect.features(request.parameters)),
    }
    return encoded(content) + b"\n"


def line_key(line: bytes) -> bytes | None:
    """The key that a line of requests is written under; None where it is not one of ours."""
    end = len(_HEAD) + 64
    try:
        if line.startswith(_HEAD) and line[end : end + 1] == b'"':
            return bytes.fromhex(line[len(_HEAD) : end].decode("ascii"))
        return as_key(decoded(line)["custom_id"])
    except (Garbled, ValueError, KeyError, TypeError):
        return None


def as_key(custom_id: object) -> bytes | None:
    """The ledger's key that an id stands for."""
    if not isinstance(custom_id, str) or len(custom_id) != 64:
        return None
    try:
        return bytes.fromhex(custom_id)
    except ValueError:
        return None


def file_keys(path: Path) -> Iterator[bytes]:
    """The keys of a file of requests, in order; none where there is no file."""
    for _, line in _lines(path):
        key = line_key(line)
        if key is not None:
            yield key


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with where they begin."""
    if not path.exists():
        return
    with opened(path) as file:
        start = 0
        for line in file:
            yield start, line
            start += len(line)


class Asked:
    """Finds requests in files by their keys; holds where they are, and not what they say.

    Args:
        path: a file of requests.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts: dict[bytes, int] = {}
        for start, line in _lines(path):
            key = line_key(line)
            if key is not None:
                self._starts[key] = start
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def __contains__(self, key: bytes) -> bool:
        return key in self._starts

    def find(self, key: bytes) -> tuple[Request, dict[str, Any]] | None:
        """The request, as far as it is needed to read a reply, and its body."""
        start = self._starts.get(key)
        if start is None:
            return None
        if self._file is None:
            self._file = self._path.open("rb")
        self._file.seek(start)
        try:
            content = decoded(self._file.readline())["body"]
            messages = tuple(Message(m["role"], m["content"]) for m in content["messages"])
            return Request(messages, Parameters(str(content["model"]))), content
        except (Garbled, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass
class _Draft:
    """A file that is being written; it has its name when it is whole."""

    number: int
    model: str
    context: AbstractContextManager[IO[bytes]]
    file: IO[bytes]
    digest: hashlib._Hash
    rows: int = 0
    size: int = 0
    promised: float = 0.0


class _Dropped(Exception):
    """Ends a draft that is not to become a file."""


class RequestWriter:
    """Writes requests to files of a folder as they come: one file a model, the next when one is
    full. A file that says what one says that was written earlier and not sent takes no new name.

    Args:
        folder: taken already.
        most_requests, most_bytes: of a file.
    """

    def __init__(self, folder: Folder, most_requests: int, most_bytes: int) -> None:
        self._folder = folder
        self._most_requests = most_requests
        self._most_bytes = most_bytes
        self._drafts: dict[str, _Draft] = {}
        self._written: set[str] = set()
        self.promised = 0.0

    def fits(self, line: bytes) -> bool:
        """Whether a line may stand in any file."""
        return len(line) <= self._most_bytes

    def add(self, model: str, line: bytes, promised: float) -> None:
        """Writes a line; `promised` are the dollars that its reply may cost."""
        draft = self._drafts.get(model)
        if draft is not None and (
            draft.rows >= self._most_requests or draft.size + len(line) > self._most_bytes
        ):
            self._finish(draft)
            draft = None
        if draft is None:
            draft = self._drafts[model] = self._begin(model)
        with explained(self._path(draft.number)):
            draft.file.write(line)
        draft.digest.update(line)
        draft.rows += 1
        draft.size += len(line)
        draft.promised += promised
        self.promised += promised

    def finish(self) -> list[RequestFile]:
        """Ends all files. Those that earlier runs wrote and did not send, and that no file of this
        one is the same as, are returned."""
        for draft in list(self._drafts.values()):
            self._finish(draft)
        return [f for f in self._folder.state.files if f.unsent and f.name not in self._written]

    def drop(self) -> None:
        """Ends without the files that are not whole."""
        for draft in self._drafts.values():
            draft.context.__exit__(_Dropped, _Dropped(), None)
        self._drafts.clear()

    def keep(self, names: Iterable[str]) -> None:
        """Files that `finish` is not to return."""
        self._written.update(names)

    @property
    def written(self) -> frozenset[str]:
        """The names of the files that what was added stands in, so far."""
        return frozenset(self._written)

    def _begin(self, model: str) -> _Draft:
        number = self._folder.next_number(draft.number for draft in self._drafts.values())
        context = written_whole(self._path(number))
        return _Draft(number, model, context, context.__enter__(), hashlib.sha256())

    def _finish(self, draft: _Draft) -> None:
        del self._drafts[draft.model]
        digest = draft.digest.hexdigest()
        for each in self._folder.state.files:
            if each.sha256 == digest and each.model == draft.model and self._can_stand(each):
                draft.context.__exit__(_Dropped, _Dropped(), None)
                if each.status == REPLACED:
                    each.change(status=WRITTEN)
                self._written.add(each.name)
                return
        draft.context.__exit__(None, None, None)
        made = RequestFile(self._path(draft.number).name, draft.model)
        made.change(rows=draft.rows, size=draft.size, sha256=digest, promised=draft.promised)
        self._folder.state.files.append(made)
        self._written.add(made.name)
        self._folder.save()

    def _can_stand(self, earlier: RequestFile) -> bool:
        path = self._folder.path / earlier.name
        return (earlier.unsent or earlier.status == REPLACED) and path.exists()

    def _path(self, number: int) -> Path:
        return self._folder.path / f"requests-{number:04d}.jsonl"


def checked(path: Path, sha256: str) -> None:
    """Sees to it that a file is the one that was written.

    Raises:
        ArenaJudgeError: it is another, or cannot be read.
    """
    with opened(path) as file:
        same = hashlib.file_digest(file, "sha256").hexdigest() == sha256
    if not same:
        raise InputError(
            "was changed after it was written", file=path, mend="delete it; it is written anew"
        )
