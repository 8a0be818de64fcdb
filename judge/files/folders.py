"""Folders that appear whole or not at all, as files do in `judge.files.atomic`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from judge.errors import InputError
from judge.files.atomic import explained
from judge.files.drafts import draft_of, mend_replaced, replaced

MARK = "judge.yaml"


def folder_target(
    name: str,
    *,
    inputs: Iterable[str | Path] = (),
    force: bool = False,
    mark: str = MARK,
    kind: str = "judge",
) -> Path:
    """Where a judge folder may be written: where nothing is, an empty folder, or an earlier judge;
    another folder only under `force`. What is in the folder goes, so a file, the folder that one is
    in, those above it, and one that holds an input are never written over. Folders above it are
    made when it is.

    Args:
        name: the path as the user wrote it.
        inputs: the files and folders that the command reads.
        force: replace any folder.
        mark: the file by which such a folder is known.
        kind: what it is called in messages.

    Raises:
        InputError: the path is no place for one.
    """
    if not name:
        raise InputError("a folder to write has a name", mend="name one")
    path = Path(name)
    if path.exists() and not path.is_dir():
        raise InputError("is a file", file=name, mend="name a folder")
    target = path.resolve()
    if Path.cwd().resolve().is_relative_to(target):
        what = "is the folder that you are in, or above it, and would be replaced as a whole"
        raise InputError(what, file=name, mend="name another folder")
    for source in map(Path, inputs):
        if source.is_file() and source.resolve().is_relative_to(target):
            what = f"holds {source.name}, which is read by this very command"
            raise InputError(what, file=name, mend="choose another folder")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"cannot be written, {above} is a file", file=name, mend="name a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / mark).is_file() and not force:
        mend = "choose another folder, or add --force"
        raise InputError(f"is there already and is no {kind}", file=name, mend=mend)
    return path


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `path` when the block ends well and goes
    when it does not."""
    target = path.resolve()
    with ExitStack() as stack:
        with explained(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            mend_replaced(target)
            draft, _ = stack.enter_context(draft_of(target, Path.mkdir))
        yield draft
        with explained(path):
            replaced(draft, target)
