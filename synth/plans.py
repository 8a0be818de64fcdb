"""A plan: which battles are to be annotated, with their texts, and how they were chosen.

A plan is a folder. `plan.yaml` says what it was drawn from, by which rule and seed, and who is to
annotate it; `battles.parquet` holds the battles themselves, so that a plan is what it is whatever
becomes of the files it was drawn from. Its table has the columns of a battle table
(see `judge.battles`), ids that are all different, and

- `source`, `source_id`: the file's name and the battle's id there;
- `stratum`: what it was drawn as, such as `coding | long`;
- `closeness`: how unsure a judge was of it, 0 to 1, where one was asked;
- `write`: which responses a model has yet to write, "a", "b", "ab" or "" (`model_a` and `model_b`
  name the models, the response has empty turns).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judge.errors import InputError
from synth.manifests import read_manifest, write_manifest
from synth.tables import TableWriter, table_writer

if TYPE_CHECKING:
    import pandas as pd

FILE, BATTLES, DROPPED = "plan.yaml", "battles.parquet", "dropped.csv"
FORMAT = 1
WRITE = "write"


@dataclass(frozen=True)
class Plan:
    """A plan that was made.

    Attributes:
        folder: where it lies.
        settings: what plan.yaml says: `size`, `seed`, `from`, `held_out`, `strata`, `annotators`,
            `prompt`, `orders`, `samples`, `writers`, and what it was made by.
    """

    folder: Path
    settings: Mapping[str, Any]

    @property
    def battles(self) -> Path:
        """The file of its battles."""
        return self.folder / BATTLES

    @property
    def size(self) -> int:
        """How many battles it has."""
        return int(self.settings["size"])

    @property
    def writes(self) -> bool:
        """Whether models have responses to write first."""
        return bool(self.settings.get("writers"))

    def tables(self, chunk_rows: int = 256) -> Iterator[pd.DataFrame]:
        """Its battles, a batch at a time."""
        from judge.battles import iter_battles

        return iter_battles(self.battles, chunk_rows=chunk_rows)


def read_plan(name: str | Path) -> Plan:
    """The plan in a folder.

    Raises:
        InputError: there is none, or one that this version does not read.
    """
    settings = read_manifest(
        Path(name), FILE, FORMAT, "plan", "make one with arena-judge synth plan"
    )
    plan = Plan(Path(name), settings)
    size = settings.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputError("has no size", file=plan.folder / FILE, mend="make the plan again")
    if not plan.battles.is_file():
        raise InputError(f"has no {BATTLES}", file=name, mend="make the plan again")
    return plan


@contextmanager
def written_plan(folder: Path) -> Iterator[PlanWriter]:
    """Takes a plan's battles, within a folder that is being written (see `judge.files.folders`)."""
    with table_writer(folder / BATTLES) as table:
        writer = PlanWriter(folder, table)
        yield writer
    if not writer.settings:
        raise ValueError("a plan has settings")
    write_manifest(folder / FILE, {"format": FORMAT, "kind": "plan", **writer.settings})


class PlanWriter:
    """A plan being written: its battles batch by batch, and its settings before the end.

    Attributes:
        folder: being written.
        settings: see `Plan`; to be filled in.
    """

    def __init__(self, folder: Path, table: TableWriter) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {}
        self._table = table

    def append(self, battles: pd.DataFrame) -> None:
        """Writes battles."""
        self._table.append(battles)
