"""What is known of stages that ran: by what they hang on, and what they made.

A task is done when there is a record of it with the key that it would have now. The key is a hash
of the command's words; a word that names files or folders (`FILE`, `--option=FILE`, `0.5*FILE`, a
pattern with stars) counts with what is in them, and not with what they are called, and a recipe of
a judge with what is in the judges that it is made of. So a stage whose inputs came out the same as
before is not run again, whatever ran before it.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from judge.errors import ArenaJudgeError
from judge.files.atomic import written_whole
from judge.judges.recipes import is_recipe, places_of

FOLDER = ".pipeline"
# No stage is called so.
_DIGESTS = "_digests.json"
# What a key is made of; with other things in it all stages run again.
_FORM = "2"
# Commands of two words.
_GROUPS = ("finetune", "synth")
# What may stand before a file in a word: an option, a weight.
_BEFORE = re.compile(r"--[a-z][\w-]*=|[0-9.]+\*")
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
        entries: what it added to the folder where it wrote, in which others may write too.
    """

    key: str
    command: tuple[str, ...]
    seconds: float
    memory: int
    made: int
    entries: tuple[str, ...] = ()


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
                tuple(map(str, said["entries"])),
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

    def move(self, task: str, folder: Path) -> None:
        """Takes what is known of a task away, into a folder."""
        if self._file(task).is_file():
            self._file(task).replace(folder / self._file(task).name)

    def take_back(self, folder: Path) -> None:
        """What was moved there is known again."""
        for file in folder.glob("*.json"):
            file.replace(self.folder / file.name)

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
        words = list(words)
        command = 2 if words[0] in _GROUPS else 1
        parts = [_FORM, *words[:command]]
        for word in words[command:]:
            parts += ["out"] if word == out else self._counted(word)
        return _hashed(parts)

    def mark(self, *words: str) -> str:
        """What files or judges hold now, as on the command line."""
        return _hashed([_FORM, *(part for word in words for part in self._counted(word))])

    def _counted(self, word: str) -> list[str]:
        """What a word counts as: the content of the files that it names, else itself."""
        for name in (word, _BEFORE.sub("", word, count=1)):
            found = [Path(name)] if os.path.exists(name) else []
            if not found and "*" in name:
                found = [Path(one) for one in sorted(glob.glob(name))]
            if found:
                kept = [f"before {word.removesuffix(name)}"] if name != word else []
                return kept + [f"content {self._whole(one)}" for one in found]
        return [f"word {word}"]

    def _whole(self, path: Path) -> str:
        """A hash of a file or folder, and of the judges that it is made of if it is one."""
        own = path.resolve()
        digests = [self.digest(one) for one in _judges(path) if not one.is_relative_to(own)]
        return _hashed([self.digest(path), *digests]) if digests else self.digest(path)

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


def _hashed(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _judges(path: Path) -> list[Path]:
    """Where a judge and those that it is made of lie; nothing for what is no judge."""
    if not (path.is_dir() or is_recipe(path.name)):
        return []
    try:
        return places_of(path)
    except ArenaJudgeError:
        return []  # some other YAML file


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
