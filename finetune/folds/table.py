"""Folds of battles: which judge learns from a battle, and which is measured on it.

    write_folds(folds, "folds")
    folds = read_folds("folds")
    folds.of(battles)                # (N,) the fold of each battle
    folds.learns(0, battles)         # (N,) whether the judge of fold 0 may learn from it

A battle is known by its id and by a mark of its text, so that folds of one file are never taken for
those of another. How folds are dealt is in `finetune.folds.dealing`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.rows.sources import row_number
from judge.battles import ID
from judge.comparing.marks import VERSION as MARKS
from judge.comparing.marks import Hashes, battle_marks
from judge.errors import ArenaJudgeError, InputError
from judge.files.atomic import explained
from judge.files.folders import written_folder
from judge.files.rows import quoted

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FILE, TABLE = "folds.json", "folds.parquet"
BY = ("prompt", "model")
EXTRA, LEFT_OUT = -1, -2
"""In place of a fold: learned from in all folds; in none."""
LABELS = ("a", "b", "tie", "unlabelled")
_FORM = 1
_MEND = "make it with `arena-judge finetune folds`"


@dataclass(frozen=True)
class FoldFile:
    """A file that was dealt out.

    Attributes:
        name: of the file.
        extra: whether it is learned from only.
        battles: how many it has.
        left_out: how many of an extra's are about a prompt that is dealt out.
        bytes, sha256: by which it is known again.
    """

    name: str
    extra: bool
    battles: int
    left_out: int
    bytes: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Folds:
    """M battles in k folds.

    Attributes:
        k: how many folds.
        by: `prompt`, or `model` (see `finetune.folds.dealing`).
        seed: of the deal.
        ids: (M,) of the battles (see `sound`).
        fold: (M,) int16 the fold in which a battle is held out, from 0; `EXTRA`, `LEFT_OUT`.
        marks: (M,) of the battles' texts, whichever way round the responses stand.
        prompts: (M,) a number for each prompt; -1 for extras.
        sides: (M, 2) int16 the folds in which model A and model B are unseen; -1 for none.
        labels: (M,) int8 which of `LABELS` a battle has.
        files: what they are from.
    """

    k: int
    by: str
    seed: int
    ids: tuple[str, ...]
    fold: npt.NDArray[np.int16]
    marks: Hashes
    prompts: Ints
    sides: npt.NDArray[np.int16]
    labels: npt.NDArray[np.int8]
    files: tuple[FoldFile, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """By which the same folds are known again: the same battles held out and learned from."""
        marks = self.marks.tolist()
        order = sorted(range(len(self)), key=lambda row: (self.ids[row], marks[row]))
        prompts = pd.factorize(self.prompts[order])[0].astype(np.int64)
        hashed = hashlib.sha256(f"{_FORM} {self.k} {self.by} {MARKS}".encode())
        hashed.update(json.dumps([self.ids[row] for row in order]).encode())
        for values in (self.marks[order], self.fold[order], self.sides[order], prompts):
            hashed.update(np.ascontiguousarray(values).tobytes())
        return hashed.hexdigest()[:32]

    @cached_property
    def counts(self) -> Ints:
        """(k, 4) battles held out in each fold, by label (see `LABELS`)."""
        found = np.zeros((self.k, len(LABELS)), dtype=np.int64)
        held = self.fold >= 0
        np.add.at(found, (self.fold[held], self.labels[held]), 1)
        return found

    def of(self, battles: pd.DataFrame, file: str | Path | None = None) -> Ints:
        """(N,) the fold of each battle; `EXTRA` and `LEFT_OUT` where it is in none.

        Args:
            battles: a battle table (see `judge.battles`).
            file: for messages.

        Raises:
            InputError: an id that is not here, stands twice, or is that of another text.
        """
        return np.asarray(self.fold[self.places(battles, file)], dtype=np.int64)

    def places(
        self, battles: pd.DataFrame, file: str | Path | None = None, marks: Hashes | None = None
    ) -> Ints:
        """(N,) which of the M each battle is; raises as `of` does. `marks` are those of the
        battles, where they are known already."""
        found = self.found(battles, file, marks)
        lost = np.flatnonzero(found < 0)
        if len(lost):
            what = f"{quoted(battles[ID].iloc[int(lost[0])])} is not in the folds"
            raise _at(what, battles, int(lost[0]), file, "make folds of this very file")
        return found

    def found(
        self, battles: pd.DataFrame, file: str | Path | None = None, marks: Hashes | None = None
    ) -> Ints:
        """(N,) which of the M each battle is, -1 for those whose id and text are both unknown: no
        judge of these folds has learned from them.

        Raises:
            InputError: an id stands twice, or is that of another text, or a text has another id.
        """
        marks = battle_marks(battles).battles if marks is None else marks
        found = np.full(len(battles), -1, dtype=np.int64)
        taken: dict[int, int] = {}
        for row, (name, mark) in enumerate(zip(battles[ID], marks.tolist(), strict=True)):
            place = self._known.get((sound(name), mark))
            if place is None:
                self._unknown(name, mark, battles, row, file)
                continue
            if place in taken:
                before = row_number(battles, taken[place], file)
                what = f"{quoted(name)} stands in row {before} too, with the same text"
                raise _at(what, battles, row, file, "keep one of them")
            taken[place] = row
            found[row] = place
        return found

    def learned(self, fold: int) -> Bools:
        """(M,) whether the judge of a fold may learn from each: neither is it held out there, nor
        is its prompt or, with folds by model, one of its models."""
        apart = (self.fold == fold) | (self.sides == fold).any(axis=1) | (self.fold == LEFT_OUT)
        return np.asarray(~apart & ~np.isin(self.prompts, self.prompts[self.fold == fold]))

    def learns(self, fold: int, battles: pd.DataFrame, file: str | Path | None = None) -> Bools:
        """(N,) whether the judge of a fold may learn from each battle; raises as `of` does."""
        return np.asarray(self.learned(fold)[self.places(battles, file)])

    @cached_property
    def _known(self) -> dict[tuple[str, int], int]:
        # What is dealt out goes before an extra that is the same.
        pairs = zip(self.ids, self.marks.tolist(), range(len(self)), strict=True)
        found: dict[tuple[str, int], int] = {}
        for name, mark, place in pairs:
            found.setdefault((name, mark), place)
        return found

    @cached_property
    def _either(self) -> tuple[frozenset[str], frozenset[int]]:
        return frozenset(self.ids), frozenset(self.marks.tolist())

    def _unknown(
        self, name: str, mark: int, battles: pd.DataFrame, row: int, file: str | Path | None
    ) -> None:
        """Raises for battles that are half known."""
        ids, marks = self._either
        if sound(name) in ids:
            what = f"{quoted(name)} is another battle in the folds: its text is not the same"
        elif mark in marks:
            what = f"{quoted(name)} has another id in the folds"
        else:
            return
        raise _at(what, battles, row, file, "make folds of this very file")


def _at(
    what: str, battles: pd.DataFrame, row: int, file: str | Path | None, mend: str
) -> InputError:
    number = row_number(battles, row, file)
    return InputError(what, file=file, row=number, column=ID, mend=mend)


def write_folds(folds: Folds, folder: str | Path) -> None:
    """Writes a folder with `folds.json` and `folds.parquet`, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "id": pa.array(folds.ids, pa.string()),
            "fold": pa.array(folds.fold, pa.int16()),
            "mark": pa.array(folds.marks, pa.uint64()),
            "prompt": pa.array(folds.prompts, pa.int64()),
            "side_a": pa.array(folds.sides[:, 0], pa.int16()),
            "side_b": pa.array(folds.sides[:, 1], pa.int16()),
            "label": pa.array(folds.labels, pa.int8()),
        }
    )
    with written_folder(Path(folder)) as draft:
        text = json.dumps(as_json(folds), indent=2, ensure_ascii=False) + "\n"
        with explained(Path(folder)):
            (draft / FILE).write_text(text, encoding="utf-8")
            pq.write_table(table, draft / TABLE, compression="zstd")


def as_json(folds: Folds) -> dict[str, Any]:
    """What `folds.json` says."""
    return {
        "kind": "folds",
        "format": _FORM,
        "k": folds.k,
        "by": folds.by,
        "seed": folds.seed,
        "marks": MARKS,
        "fingerprint": folds.fingerprint,
        "battles": int((folds.fold >= 0).sum()),
        "extras": int((folds.fold == EXTRA).sum()),
        "left_out": int((folds.fold == LEFT_OUT).sum()),
        "files": [asdict(file) for file in folds.files],
        "folds": [
            {
                "fold": fold,
                "learned": int(folds.learned(fold).sum()),
                "held_out": int(counts.sum()),
                **dict(zip(LABELS, counts.tolist(), strict=True)),
            }
            for fold, counts in enumerate(folds.counts)
        ],
    }


def read_folds(folder: str | Path) -> Folds:
    """The folds in a folder.

    Raises:
        InputError: it is none that `finetune folds` has made, or was changed since.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder)
    said = _read_json(path)
    file = path / TABLE
    try:
        table = pq.read_table(file)
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        folds = Folds(
            said["k"],
            said["by"],
            said["seed"],
            tuple(table.column("id").to_pylist()),
            columns["fold"].astype(np.int16),
            columns["mark"].astype(np.uint64),
            columns["prompt"].astype(np.int64),
            np.column_stack([columns["side_a"], columns["side_b"]]).astype(np.int16),
            columns["label"].astype(np.int8),
            tuple(FoldFile(**one) for one in said["files"]),
        )
        same = folds.fingerprint == said["fingerprint"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        what = f"cannot be read as folds ({type(error).__name__})"
        raise InputError(what, file=file, mend=_MEND) from None
    if not same:
        raise InputError(f"does not agree with {FILE} beside it", file=file, mend=_MEND)
    return folds


def _read_json(path: Path) -> dict[str, Any]:
    file = path / FILE
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = "is no folder of folds" if path.exists() else "is not there"
        raise InputError(what, file=path, mend=_MEND) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=file) from None
    except (ValueError, RecursionError):
        raise InputError("is not JSON", file=file, mend=_MEND) from None
    if not isinstance(said, dict) or said.get("kind") != "folds":
        raise InputError("describes no folds", file=file, mend=_MEND)
    if said.get("format") != _FORM or said.get("marks") != MARKS:
        what = "was written by another version of arena-judge"
        raise InputError(what, file=file, mend="make the folds anew")
    return said


def check_k(k: int, prompts: int) -> None:
    """Sees to it that so many folds can be made.

    Raises:
        ArenaJudgeError: they cannot.
    """
    if k < 2:
        raise ArenaJudgeError(f"{k} folds: there are two at least")
    if prompts < k:
        raise ArenaJudgeError(f"{prompts:,} prompts cannot be dealt out to {k} folds")


def sound(text: str) -> str:
    """A text that UTF-8 has bytes for: half a surrogate pair has none."""
    return text.encode("utf-8", "replace").decode("utf-8")
