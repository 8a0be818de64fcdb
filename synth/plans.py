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

_MEND = "make the plan again"
# What plan.yaml says of who is to do what, and how.
_LISTS = ("annotators", "writers", "base_urls", "orders")
_KINDS = {
    **dict.fromkeys(_LISTS, (str, "no list of texts")),
    **dict.fromkeys(("prompt", "prices"), (str, "no text")),
    "samples": (int, "no number"),
}


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
    _check_settings(plan)
    if not plan.battles.is_file():
        raise InputError(f"has no {BATTLES}", file=name, mend=_MEND)
    _check_battles(plan)
    return plan


def _check_settings(plan: Plan) -> None:
    """Plans are edited by hand: what a run goes by has to be of its kind."""
    settings = plan.settings
    size = settings.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputError("has no size", file=plan.folder / FILE, mend=_MEND)
    for name, (kind, what) in _KINDS.items():
        value = settings.get(name)
        listed = value if isinstance(value, list) else [value]
        fits = all(isinstance(one, kind) and not isinstance(one, bool) for one in listed)
        if value is not None and not (fits and isinstance(value, list) == (name in _LISTS)):
            what = f"says of {name} what is {what}"
            raise InputError(what, file=plan.folder / FILE, mend="correct it, or make it again")


def _check_battles(plan: Plan) -> None:
    """Before anything is paid for: a set of battles that were edited could not be read again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(plan.battles) as file:
            known = "id" in file.schema_arrow.names
            ids = file.read(columns=["id"])["id"].to_pylist() if known else []
            rows = file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"cannot be read ({why})", file=plan.battles, mend=_MEND) from None
    if rows != plan.size:
        what = f"has {rows:,} battles, and {FILE} says {plan.size:,}"
        raise InputError(what, file=plan.battles, mend=_MEND)
    if len(set(ids)) < rows or None in ids:
        what = "has battles without an id, or two with the same"
        raise InputError(what, file=plan.battles, mend=_MEND)


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
