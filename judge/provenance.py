"""What a judge was made from, so that nobody takes a figure on those battles for a result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Bytes of a file's beginning and end by which weights are known.
_END = 2**20


@dataclass(frozen=True)
class Source:
    """A file that a judge learned from, known again by its content.

    Attributes:
        name: the file's name at the time.
        size: its length in bytes.
        sha256: the hash of its bytes, in hexadecimal.
    """

    name: str
    size: int
    sha256: str


def fingerprint(file: Path) -> Source:
    """The source that a file is."""
    with file.open("rb") as stream:
        return Source(
            file.name, file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()
        )


def weights_fingerprint(place: Path) -> str:
    """A hash by which weights, a file or a folder of them, are known again without reading
    gigabytes: of the names and lengths of files, and of the first and last mebibyte of each.

    Weights that were trained anew differ everywhere.
    """
    whole = hashlib.sha256()
    files = [place] if place.is_file() else sorted(one for one in place.rglob("*") if one.is_file())
    for file in files:
        size = file.stat().st_size
        whole.update(f"{file.relative_to(place)}\0{size}\0".encode())
        with file.open("rb") as stream:
            whole.update(stream.read(_END))
            stream.seek(max(size - _END, 0))
            whole.update(stream.read(_END))
    return whole.hexdigest()


def sources(settings: Mapping[str, object]) -> tuple[Source, ...]:
    """What a judge.yaml says under `made_from`; entries that don't say enough are passed over."""
    stated = settings.get("made_from")
    found = []
    for name, entry in (stated if isinstance(stated, dict) else {}).items():
        if isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and "sha256" in entry:
            found.append(Source(str(name), entry["bytes"], str(entry["sha256"])))
    return tuple(found)


def learned_from(known: tuple[Source, ...], file: str | Path) -> bool:
    """Whether a file of battles is, byte for byte, one that a judge learned from. A file is hashed
    only if its size fits, so that large files cost nothing."""
    path = Path(file)
    if not path.is_file() or path.stat().st_size not in {source.size for source in known}:
        return False
    return fingerprint(path).sha256 in {source.sha256 for source in known}


def flattering(judge: str, file: str | Path) -> str:
    """What a reader of figures on a judge's own battles has to know."""
    return (
        f"{judge} learned from {file}, so its figures here flatter it; "
        "its judge.yaml has those on battles held out"
    )
