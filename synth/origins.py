"""Where the battles of a plan come from: read twice, and known by their content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from judge.battles import iter_battles
from judge.errors import InputError
from judge.files.atomic import is_stream
from judge.provenance import Source, fingerprint
from synth.pairing import Pairing, iter_pairs, iter_to_write

if TYPE_CHECKING:
    import pandas as pd

_TWICE = "is read twice, so it has to be a file"
_CHANGED = "has changed while it was read"
_CHANGED_MEND = "plan again when nothing writes to it"


@dataclass(frozen=True)
class Origin:
    """Battles that may be drawn.

    Attributes:
        name: what they are said to be from.
        files: what is read for them.
        tables: the battles, a batch at a time; the same whenever it is called.
        models: who gave the responses, or is to.
        unwritten: whether responses are to be written first, those that its column `write` says.
    """

    name: str
    files: tuple[str, ...]
    tables: Callable[[], Iterator[pd.DataFrame]]
    models: tuple[str, ...] = ()
    unwritten: bool = False


def of_files(files: Sequence[str], *, chunk_rows: int = 1024) -> list[Origin]:
    """Each file of battles, called by its name, and by its path where names are alike.

    Raises:
        InputError: one is named twice.
    """
    paths = Counter(str(Path(file).resolve()) for file in files)
    again = next((file for file in files if paths[str(Path(file).resolve())] > 1), None)
    if again is not None:
        raise InputError("is named twice", file=again, mend="name every file once")
    names = Counter(Path(file).name for file in files)
    return [
        Origin(
            name if names[name := Path(file).name] == 1 else file,
            (file,),
            partial(iter_battles, file, chunk_rows=chunk_rows),
        )
        for file in files
    ]


def of_responses(
    responses: Mapping[str, str],
    prompts: str | None = None,
    *,
    pairs: int | None = None,
    seed: int = 0,
    told: Callable[[Pairing], None] | None = None,
) -> Origin:
    """Pairs of models that answered the same prompts (see `synth.pairing.iter_pairs`)."""
    return Origin(
        "pairs",
        (*(() if prompts is None else (prompts,)), *responses.values()),
        partial(iter_pairs, prompts, dict(responses), pairs=pairs, seed=seed, told=told),
        tuple(responses),
    )


def to_write(
    prompts: str, models: Sequence[str], *, pairs: int | None = None, seed: int = 0
) -> Origin:
    """Pairs of models that are to answer prompts (see `synth.pairing.iter_to_write`)."""
    return Origin(
        "to write",
        (prompts,),
        partial(iter_to_write, prompts, models, pairs=pairs, seed=seed),
        tuple(models),
        unwritten=True,
    )


def fingerprints(files: Sequence[str]) -> tuple[Source, ...]:
    """What files hold, to know them again.

    Raises:
        InputError: one is a stream, which cannot be read twice, or cannot be read at all.
    """
    found = []
    for file in files:
        if is_stream(file):
            raise InputError(_TWICE, file=file, mend="write it to a file first")
        try:
            found.append(fingerprint(Path(file)))
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError(f"cannot be read ({why})", file=file) from None
    return tuple(found)


def unchanged(files: Sequence[str], before: Sequence[Source]) -> None:
    """Sees to it that files hold what they held.

    Raises:
        InputError: one does not.
    """
    for file, known, found in zip(files, before, fingerprints(files), strict=True):
        if known != found:
            raise changed(file)


def changed(name: str) -> InputError:
    """What is said of battles that are not what they were a moment ago."""
    return InputError(_CHANGED, file=name, mend=_CHANGED_MEND)
