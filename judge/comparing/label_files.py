"""Labels from a file of their own, in place of those that stand with the battles.

The file has `id` and labels in any of the forms of `judge.files.labelling`, as `arena-judge view`
writes them: `id,winner_model_a,winner_model_b,winner_tie`. Other columns say nothing here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from judge.errors import InputError
from judge.files.labelling import read_labels
from judge.files.rows import as_text, quoted, stream_rows

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Relabelled:
    """Labels of N battles, some of them from a file.

    Attributes:
        labels: (N, 3) in the order A, B, tie; NaN rows unlabelled.
        from_file: (N,) battles whose label is from the file.
        given: how many those are.
        added: of these, those that had none.
        changed: of these, those that had another.
        unknown: ids in the file that no battle has.
    """

    labels: Floats
    from_file: npt.NDArray[np.bool_]
    given: int
    added: int
    changed: int
    unknown: tuple[str, ...]


def read_label_file(file: str | Path) -> dict[str, Floats]:
    """The (3,) label of each id; ids without one are left out.

    Raises:
        InputError: it cannot be read, has no labels, or an id stands in it twice.
    """
    found: dict[str, Floats] = {}
    ids: set[str] = set()
    with closing(stream_rows(file, required=("id",))) as chunks:
        for rows in chunks:
            labels = read_labels(rows)
            if labels is None:
                mend = "add winner_model_a, winner_model_b and winner_tie, or winner"
                raise InputError("has no labels", file=file, mend=mend)
            for place, cell in enumerate(rows.columns["id"]):
                name = as_text(cell)
                if name is None:
                    raise rows.error("is empty", place, "id", "name the battle")
                if name in ids:
                    message = f"is {quoted(name)} again, and a battle has one label"
                    raise rows.error(message, place, "id", "keep one of the rows")
                ids.add(name)
                if not np.isnan(labels[place]).any():
                    found[name] = labels[place]
    if not found:
        raise InputError("has no labels", file=file, mend="give its battles some")
    return found


def relabelled(
    ids: Sequence[str],
    labels: Floats,
    given: dict[str, Floats],
    *,
    only: bool = False,
    file: str | Path | None = None,
) -> Relabelled:
    """Labels from a file laid over those of the battles.

    Args:
        ids: of N battles.
        labels: (N, 3) what they have.
        given: see `read_label_file`.
        only: battles that are not in the file lose their label.
        file: for messages.

    Raises:
        InputError: no battle has one of the ids, or two battles share one that is labelled.
    """
    counts = Counter(ids)
    shared = next((name for name in given if counts[name] > 1), None)
    if shared is not None:
        raise InputError(
            f"labels {quoted(shared)}, and {counts[shared]} battles have that id",
            file=file,
            column="id",
            mend="give every battle an id of its own",
        )
    unknown = tuple(name for name in given if name not in counts)
    if len(unknown) == len(given):
        mend = "is it the file for these battles?"
        raise InputError("none of its ids is among the battles", file=file, column="id", mend=mend)
    after = np.full_like(labels, np.nan) if only else labels.copy()
    added = changed = 0
    for place, name in enumerate(ids):
        if name in given:
            before = labels[place]
            added += bool(np.isnan(before).any())
            changed += bool((np.abs(before - given[name]) > 1e-9).any())
            after[place] = given[name]
    there = np.array([name in given for name in ids], dtype=np.bool_)
    return Relabelled(after, there, len(given) - len(unknown), int(added), int(changed), unknown)
