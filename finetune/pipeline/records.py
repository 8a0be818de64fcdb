"""What is known of stages that ran: by what they hang on, and what they made.

A task is done when there is a record of it with the key that it would have now. The key is a hash
of the command's words; a word that is a file or folder counts with what is in it, and not with what
it is called. So a stage whose inputs came out the same as before is not run again, whatever ran
before it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from judge.files.atomic import written_whole

FOLDER = ".pipeline"
_DIGESTS = "digests.json"
# What a key is made of; with other things in it all stages run again.
_FORM = "1"
# What hidden files and folders hold is unfinished, or of no meaning.
_HIDDEN = "."


@dataclass(frozen=True)
class Record:
    """A task that was run to its end.

    Attributes:
        key: what it hung on.
        command: its words.
        seconds: on the clock; `memory` the most it held, in bytes.
        made: how many bytes lie where it wrote.
    """

    key: str
    command: tuple[str, ...]
    seconds: float
    memory: int
    made: int


class Records:
    """The records of a run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._digests: dict[str, list[Any]] = {}
        read = _read(self.folder / _DIGESTS)
        if isinstance(read, dict):
            self._digests = {k: v for k, v in read.items() if isinstance(v, list) and len(v) == 2}

    def of(self, task: str) -> Record | None:
        """The record of a task, if it was run to its end."""
        said = _read(self._file(task))
        try:
            return Record(
                str(said["key"]),
                tuple(map(str, said["command"])),
                float(said["seconds"]),
                int(said["memory"]),
                int(said["made"]),
            )
        except (TypeError, KeyError, ValueError):
            return None

    def keep(self, task: str, record: Record) -> None:
        """Writes that a task is done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self._file(task)) as file:
            file.write(json.dumps(asdict(record), indent=1).encode())

    def begin(self, task: str, key: str) -> None:
        """Writes that a task is under way, which is no record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self._file(task)) as file:
            file.write(json.dumps({"begun": key}).encode())

    def begun(self, task: str) -> str | None:
        """The key of a task that was begun and never ended."""
        said = _read(self._file(task))
        return said.get("begun") if isinstance(said, dict) else None

    def key(self, words: Iterable[str], out: str) -> str:
        """What a command hangs on.

        Args:
            words: of the command, paths as they are.
            out: the path that it writes to, which counts for nothing.
        """
        parts = [_FORM]
        for word in words:
            path = Path(word)
            if word == out:
                parts.append("out")
            elif os.sep in word and path.exists():
                parts.append(f"content {self.digest(path)}")
            elif "*" in word and os.sep in word:
                found = sorted(path.parent.glob(path.name))
                parts += [f"content {self.digest(one)}" for one in found] or [word]
            elif path.is_file():
                parts.append(f"content {self.digest(path)}")
            else:
                parts.append(f"word {word}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def digest(self, path: Path) -> str:
        """A hash of what a file holds, or the files of a folder and their names. A file is read
        again only when its size or time has changed."""
        if path.is_file():
            return self._of_file(path)
        whole = hashlib.sha256()
        for file in files_in(path):
            whole.update(f"{file.relative_to(path)}\0{self._of_file(file)}\0".encode())
        return whole.hexdigest()

    def save(self) -> None:
        """Keeps the hashes of files for the next time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self.folder / _DIGESTS) as file:
            file.write(json.dumps(self._digests).encode())

    def _of_file(self, file: Path) -> str:
        about = file.stat()
        stamp = [about.st_size, about.st_mtime_ns]
        name = str(file.resolve())
        known = self._digests.get(name)
        if known is None or known[0] != stamp:
            with file.open("rb") as stream:
                known = [stamp, hashlib.file_digest(stream, "sha256").hexdigest()]
            self._digests[name] = known
        return str(known[1])

    def _file(self, task: str) -> Path:
        return self.folder / f"{task}.json"


def files_in(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(_HIDDEN) for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def size_of(path: Path) -> int:
    """Bytes of a file, of a folder, or of all that a glob finds."""
    if path.is_dir():
        return sum(file.stat().st_size for file in files_in(path))
    if path.exists():
        return path.stat().st_size
    found = path.parent.glob(path.name) if "*" in path.name and path.parent.is_dir() else ()
    return sum(map(size_of, found))


def _read(file: Path) -> Mapping[str, Any] | Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
