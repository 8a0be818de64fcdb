"""Drafts: hidden files and folders that take their target's place when they are whole.

A process that is killed leaves its draft behind. The next that writes to the same target takes it
away: a draft is locked while its writer lives, whatever machine or container that is in, and the
operating system lets go of the lock when the writer ends, however that happens. Where there are no
such locks, drafts stay.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

_flock: Callable[[int, int], None] | None = None
with suppress(ImportError):  # Windows has none
    from fcntl import LOCK_EX, LOCK_NB
    from fcntl import flock as _flock

Made = TypeVar("Made")

_ENDING = ".part"
_CAREFUL = "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"  # it may be somebody else's


@contextmanager
def draft_of(target: Path, make: Callable[[Path], Made]) -> Iterator[tuple[Path, Made]]:
    """A draft beside `target`, at a path that `make` is given, and what `make` gives back. It goes
    at the end of the block, if it has not taken its target's place.

    Raises:
        OSError: whatever `make` raises.
    """
    remove_stale(target)
    path, made, lock = _made(target, make)
    try:
        yield path, made
    finally:
        _remove(path)
        _let_go(lock)


def remove_stale(target: Path) -> None:
    """Takes away the drafts of `target` whose writers are gone."""
    with suppress(OSError):
        for path in _beside(Path(os.path.realpath(target)), _ENDING):
            lock = _locked(path)
            if lock is not None:
                _remove(path)
                _let_go(lock)


def replaced(draft: Path, target: Path) -> None:
    """Puts a folder in the place of another, if there is one, which is then removed.

    Raises:
        OSError: it cannot be; then the other stays.
    """
    old = draft.with_suffix(".old")
    if target.exists():
        target.rename(old)
    try:
        draft.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    _remove(old)


def discard(target: Path) -> None:
    """Takes a folder away: a kill meanwhile leaves no part of it under its name, but a stale draft.

    Raises:
        OSError: it cannot be; then it stays.
    """
    remove_stale(target)
    gone = target.with_name(f"{_stem(target)}{secrets.token_hex(8)}{_ENDING}")
    target.rename(gone)
    _remove(gone)


def mend_replaced(target: Path) -> None:
    """Ends what a process that was killed in the middle of `replaced` began."""
    remove_stale(target)
    with suppress(OSError):
        for old in _beside(target, ".old"):
            if old.with_suffix(_ENDING).exists():
                continue  # it is being replaced at this moment
            if target.exists():
                _remove(old)
            else:
                old.rename(target)


def _stem(target: Path) -> str:
    """What drafts of a target begin with, however long its name is."""
    return f".arena-judge-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _beside(target: Path, ending: str) -> list[Path]:
    stem = _stem(target)
    with os.scandir(target.parent) as entries:
        return [
            target.with_name(entry.name)
            for entry in entries
            if entry.name.startswith(stem)
            and entry.name.endswith(ending)
            and (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False))
        ]


def _made(target: Path, make: Callable[[Path], Made]) -> tuple[Path, Made, int | None]:
    while True:
        path = target.with_name(f"{_stem(target)}{secrets.token_hex(8)}{_ENDING}")
        try:
            made = make(path)
            lock = _locked(path)
        except BaseException:
            _remove(path)
            raise
        if path.exists():
            return path, made, lock
        _let_go(lock)  # another process took it for a stale one before it was locked


def _locked(path: Path) -> int | None:
    """Locks a draft; None if another has it locked, or locks are not to be had."""
    if _flock is None:
        return None
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    for name in _CAREFUL:
        flags |= getattr(os, name, 0)
    try:
        lock = os.open(path, flags)
    except OSError:
        return None
    try:
        _flock(lock, LOCK_EX | LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _let_go(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
