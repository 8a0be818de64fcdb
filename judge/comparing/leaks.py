"""What judges learned from, and which battles they are asked about are among it.

A judge folder may have a `seen.npz` beside its recipe: a mark and a sketch of every battle that the
judge learned from (see `judge.comparing.marks`), from which no text can be read back. A command
that makes a judge writes it,

    with written_judge(target, settings) as folder:
        write_seen(folder, seen_of(labelled))

and a judge made of others has seen what they have.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.battles import iter_battles, labels
from judge.comparing.marks import SKETCH, VERSION, Marks, battle_marks, joined
from judge.comparing.near import Found, Kind, find
from judge.errors import InputError
from judge.parallel import ordered_map

if TYPE_CHECKING:
    from judge.judges.base import Judge

FILE = "seen.npz"


@dataclass(frozen=True)
class Seen:
    """What a judge learned from, M battles.

    Attributes:
        marks: of each battle; the way round that responses stood is not kept.
        sources: (M,) which of the names each is from.
        names: of the files.
    """

    marks: Marks
    sources: npt.NDArray[np.uint16]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.marks)

    def name_of(self, place: int) -> str:
        """The file that a battle is from."""
        return self.names[int(self.sources[place])]


class Collector:
    """Marks of what is learned from, taken in as it is read."""

    def __init__(self) -> None:
        self._parts: list[Seen] = []

    def add(self, battles: pd.DataFrame, source: str) -> None:
        """Takes in those of a batch that have a label, or all where the file has none.

        Args:
            battles: a battle table.
            source: the file they are from; only its name is kept.
        """
        self._parts.append(_of_table(source, battles))

    def seen(self) -> Seen:
        """All that was taken in."""
        return merged(self._parts)


def seen_of(*files: str | Path, chunk_rows: int = 4096, workers: int = 1) -> Seen:
    """The marks of all battles in files of labelled battles; of a file without labels, of all.

    Raises:
        InputError: a file cannot be read.
    """
    parts: list[Seen] = []
    for file in files:
        one = partial(_of_table, str(file))
        with closing(iter_battles(file, chunk_rows=chunk_rows)) as batches:  # type: ignore[type-var]
            parts.extend(ordered_map(one, batches, workers))
    return merged(parts)


def _of_table(source: str, battles: pd.DataFrame) -> Seen:
    said = labels(battles)
    if said is not None:
        battles = battles.iloc[np.flatnonzero(~np.isnan(said).any(axis=1))]
    marks = battle_marks(battles)
    return Seen(marks, np.zeros(len(marks), np.uint16), (Path(source).name,))


def merged(parts: Iterable[Seen]) -> Seen:
    """All of them as one: each battle once, in an order that tells nothing of where it stood."""
    known = list(parts)
    names = tuple(dict.fromkeys(name for part in known for name in part.names))
    if len(names) > np.iinfo(np.uint16).max:
        raise InputError(f"a judge cannot remember {len(names):,} files that it learned from")
    place = {name: number for number, name in enumerate(names)}
    sources = [
        np.array([place[name] for name in part.names], dtype=np.uint16)[part.sources]
        for part in known
    ]
    marks = joined([part.marks for part in known])
    first = np.unique(marks.battles, return_index=True)[1]
    of = np.concatenate(sources) if sources else np.zeros(0, np.uint16)
    return Seen(marks.take(first), of[first], names)


# --- beside a judge -------------------------------------------------------------------------------


def write_seen(folder: Path, seen: Seen | Iterable[pd.DataFrame], source: str = "battles") -> None:
    """Writes `seen.npz` into a judge folder; the same battles give the same bytes.

    Args:
        folder: being written (see `judge.judges.recipes.written_judge`).
        seen: what the judge learned from, or tables of it.
        source: with tables, the file they are from.
    """
    if not isinstance(seen, Seen):
        collector = Collector()
        for battles in seen:
            collector.add(battles, source)
        seen = collector.seen()
    np.savez_compressed(
        folder / FILE,
        allow_pickle=False,
        version=np.array(VERSION),
        prompts=seen.marks.prompts,
        battles=seen.marks.battles,
        sketches=seen.marks.sketches,
        sources=seen.sources,
        names=np.array(seen.names, dtype=np.str_),
    )


def read_seen(folder: Path) -> Seen | None:
    """What `write_seen` wrote; None where there is nothing, or marks of another version, which
    cannot be compared.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / FILE
    try:
        with np.load(file, allow_pickle=False) as stored:
            if int(stored["version"]) != VERSION:
                return None
            prompts, battles = stored["prompts"], stored["battles"]
            sketches, sources, names = stored["sketches"], stored["sources"], stored["names"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"holds no usable marks ({error})", file=file, mend="make the judge again"
        ) from None
    size = len(prompts) if prompts.ndim == 1 else -1
    sound = (
        prompts.dtype == battles.dtype == np.uint64
        and battles.shape == sources.shape == (size,)
        and sketches.shape == (size, SKETCH)
        and sketches.dtype == sources.dtype == np.uint16
        and names.ndim == 1
        and names.dtype.kind == "U"
        and (size == 0 or int(sources.max()) < len(names))
    )
    if not sound:
        raise InputError("holds no usable marks", file=file, mend="make the judge again")
    marks = Marks(prompts, battles, np.zeros(size, np.int8), sketches)
    return Seen(marks, sources, tuple(names.tolist()))


def seen_by(judge: Judge) -> Seen | None:
    """What a judge and those it is made of learned from; None where nothing is known of any."""
    found = [one for one in _all_seen(judge) if one is not None]
    return merged(found) if found else None


def _all_seen(judge: Judge) -> Iterable[Seen | None]:
    yield None if judge.folder is None else read_seen(judge.folder)
    for member in judge.members:
        yield from _all_seen(member)


# --- among the battles of a comparison ------------------------------------------------------------


@dataclass(frozen=True)
class Leaks:
    """Which of N battles a judge has learned from.

    Attributes:
        judge: its name.
        seen: how many battles it is known to have learned from, in how many files.
        found: (N,) how each battle is among them.
        sources: (N,) the file it is in, None for those that are in none.
    """

    judge: str
    seen: int
    found: Found
    sources: npt.NDArray[np.object_]

    def of(self, *kinds: Kind) -> npt.NDArray[np.bool_]:
        """(N,) battles that are of one of the kinds."""
        return np.isin(self.found.kinds, [int(kind) for kind in kinds])

    @property
    def learned(self) -> npt.NDArray[np.bool_]:
        """(N,) battles that it has learned from, but for small edits."""
        return self.of(Kind.EXACT, Kind.NEAR)


def find_leaks(judge: str, battles: Marks, seen: Seen) -> Leaks:
    """Which of the battles are among what a judge has seen."""
    found = find(battles, seen.marks)
    sources = np.full(len(battles), None, dtype=object)
    for place in np.flatnonzero(found.places >= 0).tolist():
        sources[place] = seen.name_of(int(found.places[place]))
    return Leaks(judge, len(seen), found, sources)


def leak_table(ids: Sequence[str], leaks: Sequence[Leaks]) -> pd.DataFrame:
    """A row a leak: `judge`, `id`, `kind` (exact, near, prompt), `similarity` (1 if exact) and the
    file (`seen_in`), the closest first and otherwise in the order of the battles."""
    rows = []
    for one in leaks:
        kinds = one.found.kinds
        for place in np.argsort(-kinds, kind="stable")[: int((kinds > 0).sum())].tolist():
            kind = Kind(int(kinds[place])).name.lower()
            similarity = round(float(one.found.similarity[place]), 3)
            rows.append((one.judge, ids[place], kind, similarity, one.sources[place]))
    return pd.DataFrame(rows, columns=["judge", "id", "kind", "similarity", "seen_in"])


@dataclass(frozen=True)
class Repeats:
    """Battles that stand in a file more than once.

    Attributes:
        battles: how many there are that stand there before.
        opposed: how many of these have a label that is opposed to one of those before.
        places: of them all, (first, again), in the order of the file.
    """

    battles: int
    opposed: int
    places: tuple[tuple[int, int], ...]


def find_repeats(battles: Marks, said: npt.NDArray[np.float64]) -> Repeats:
    """The battles that are there again, swapped or not.

    Args:
        battles: N of them.
        said: (N, 3) labels, NaN rows unlabelled. Two are opposed when most of the one is for the
            response that least of the other is for.
    """
    first: dict[int, int] = {}
    sides: dict[int, set[int]] = {}
    places, opposed = [], 0
    lead = np.nan_to_num(said[:, 0] - said[:, 1])
    # Which response is preferred, whichever way round they stand.
    side = np.sign(np.where(battles.turned < 0, -lead, lead) * (battles.turned != 0)).astype(int)
    for place, mark in enumerate(battles.battles.tolist()):
        before = first.setdefault(mark, place)
        known = sides.setdefault(mark, set())
        if before != place:
            places.append((before, place))
            opposed += side[place] != 0 and -int(side[place]) in known
        known.add(int(side[place]))
    return Repeats(len(places), int(opposed), tuple(places))


Facts = Callable[[pd.DataFrame], pd.DataFrame]


def with_marks(facts: Facts) -> Facts:
    """The same facts of a batch with the marks of its battles beside them."""
    return partial(_with_marks, facts)


def _with_marks(facts: Facts, battles: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([facts(battles), battle_marks(battles).to_frame()], axis=1)
