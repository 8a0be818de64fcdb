"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from judge.errors import InputError
from judge.files.drafts import draft_of

STANDARD_STREAM = "-"


@contextmanager
def written_whole(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write to, which becomes `path` when the block ends well and goes when it does not.

    What is there at `path` stays until then, whatever happens. Standard output ("-"), pipes and
    devices get everything at once at the end.

    Raises:
        InputError: the path cannot be written to; before the block begins, as far as can be known.
    """
    if is_stream(path):
        with tempfile.TemporaryFile() as draft:
            yield draft
            draft.seek(0)
            _pass_on(draft, path)
        return
    target = Path(os.path.realpath(path))  # a link stays one
    with ExitStack() as stack:
        with explained(path):
            _check(target)
            beside, file = stack.enter_context(draft_of(target, lambda draft: draft.open("xb")))
        with file:
            yield file
            with explained(path):
                file.close()  # what is buffered may not fit on the disk
        with explained(path):
            if target.exists():
                shutil.copymode(target, beside)
            os.replace(beside, target)


def check_writable(path: str | Path) -> None:
    """Sees to it that a file could be written at `path`, for those who write it much later.

    Raises:
        InputError: it could not.
    """
    if not is_stream(path):
        target = Path(os.path.realpath(path))
        with explained(path):
            _check(target)
            with draft_of(target, lambda draft: draft.open("xb")) as (_, file):
                file.close()


def is_stream(path: str | Path) -> bool:
    """Whether a path is standard output, a pipe or a device: what no file can take the place of."""
    plain = os.path.isfile(path) or os.path.isdir(path)
    return str(path) == STANDARD_STREAM or (os.path.exists(path) and not plain)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Says in one line why the operating system would not write."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads our output has seen enough; that is no fault of the path
    except OSError as error:
        name = "standard output" if str(path) == STANDARD_STREAM else path
        reason = error.strerror or str(error)
        raise InputError(f"cannot be written ({reason})", file=name, mend=_mend(error)) from error


def _check(target: Path) -> None:
    """Raises what opening `target` itself would: the draft beside it would not notice."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _mend(error: OSError) -> str:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return "make its folder first"
    if isinstance(error, IsADirectoryError):
        return "name a file in it"
    return "write to another place"


def _pass_on(draft: IO[bytes], path: str | Path) -> None:
    with explained(path):
        if str(path) == STANDARD_STREAM:
            sys.stdout.flush()
            shutil.copyfileobj(draft, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with Path(path).open("wb") as stream:
                shutil.copyfileobj(draft, stream)
