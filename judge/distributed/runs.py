"""What is done of a run, in a folder beside what it will write, so that a killed one goes on.

A part is called by what it was made of; what the run is stands in `run.json`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from judge.errors import InputError
from judge.files.atomic import explained, written_whole

ENDING = ".parts"
_RUN = "run.json"


def folder_of(output: Path) -> Path:
    """Where a run that writes `output` keeps what is unfinished."""
    return output.with_name(output.name + ENDING)


def opened(folder: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> None:
    """Makes the folder, or goes on in it.

    Args:
        folder: where.
        identity: what the run is; parts of another are not taken for its own.
        fresh: leave what another has done.

    Raises:
        InputError: the folder is another run's, or is none of these.
    """
    said = json.dumps(identity, sort_keys=True, indent=1, default=_plain)
    run = folder / _RUN
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not run.is_file()):
            mend = "take it away"
            raise InputError("is in the way of an unfinished run", file=folder, mend=mend)
        if run.is_file() and run.read_text(encoding="utf-8") != said:
            if not fresh:
                what = "holds an unfinished run with another judge or other settings"
                mend = "give the same command again, or add --force to leave what it has done"
                raise InputError(what, file=folder, mend=mend)
            with explained(folder):
                shutil.rmtree(folder)
    with explained(folder):
        folder.mkdir(exist_ok=True)
    if not run.is_file():
        with written_whole(run) as file:
            file.write(said.encode())


def closed(folder: Path) -> None:
    """Takes the folder away, when its run has written what it was for."""
    shutil.rmtree(folder, ignore_errors=True)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)
