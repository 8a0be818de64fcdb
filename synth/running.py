"""A plan becomes an annotated set: every annotator goes through the battles at a pace of its own.

    with annotated(target, plan.tables) as work:
        work.prepare()
        tallies = work.annotate([first, second])
        work.finish(manifest)

Each annotator has a thread, in which its batches overlap (`judge.parallel`), and writes to a table
of its own; at the end the tables become one. Nothing is kept in memory but the batches under way,
and nothing appears at the target before it is whole; what was answered by then is in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judge.ballots import CRITERIA
from judge.engines.base import WAITING
from judge.files.atomic import explained
from judge.files.folders import written_folder
from judge.parallel import ordered_map
from synth.annotating import annotate
from synth.data import ANNOTATIONS, BATTLES, FILE, FORMAT, KIND, WRITTEN
from synth.manifests import write_manifest
from synth.tables import table_writer

if TYPE_CHECKING:
    import pandas as pd

    from judge.judges.prompted import PromptedJudge
    from synth.writing import Written

Tables = Callable[[], Iterable["pd.DataFrame"]]
Write = Callable[["pd.DataFrame"], "Written"]
ROWS = 256


@dataclass
class Tally:
    """What one annotator came to.

    Attributes:
        records: ballots that were asked for.
        readable: of these, with votes.
        battles: that were annotated, with at least one readable ballot.
        without: ids of battles that were not, up to some, and why.
        missing: how many those are.
        waiting: records whose calls wait for a batch.
        cost: dollars, of all records, whenever they were asked for.
    """

    records: int = 0
    readable: int = 0
    battles: int = 0
    missing: int = 0
    waiting: int = 0
    cost: float = 0.0
    without: list[tuple[str, str]] = field(default_factory=list)

    def count(self, records: pd.DataFrame, most: int = 20) -> None:
        """Adds a table of records."""
        readable = records[list(CRITERIA)].notna().any(axis=1).to_numpy()
        self.records += len(records)
        self.readable += int(readable.sum())
        self.waiting += int(records["reason"].str.endswith(WAITING).sum())
        self.cost += float(records["cost"].sum())
        annotated = set(records["id"][readable])
        self.battles += len(annotated)
        reasons = dict(zip(records["id"], records["reason"], strict=True))
        for name, reason in reasons.items():
            if name not in annotated:
                self.missing += 1
                if len(self.without) < most:
                    self.without.append((name, reason))


class Work:
    """An annotated set that is being made.

    Args:
        folder: being written.
        tables: gives the battles, a batch at a time, from the beginning.
        rows: battles of a batch that is annotated.
        overlapping: whether a batch may begin before the one before it has its last replies.
    """

    def __init__(self, folder: Path, tables: Tables, rows: int, overlapping: bool) -> None:
        self._folder = folder
        self._tables = tables
        self._rows = rows
        self._overlapping = 2 if overlapping else 1
        self._parts: list[Path] = []

    def prepare(self, write: Write | None = None, stop: Callable[[], None] | None = None) -> int:
        """Writes the battles down, with what models have yet to write of them; they are annotated
        as they stand then. `stop` ends what is being written when that fails. Returns how many of
        them lack something nevertheless."""
        path = self._folder / BATTLES
        lacking = 0
        with ExitStack() as stack:
            table = stack.enter_context(table_writer(path))
            if write is None:
                for battles in self._tables():
                    table.append(battles)
            else:
                log = stack.enter_context(table_writer(self._folder / WRITTEN, turns=()))
                for written in ordered_map(write, self._tables(), self._overlapping, stop):
                    table.append(written.battles)
                    log.append(written.records)
                    lacking += len(written.failed)
        self._tables = partial(_batches, path, self._rows)
        return lacking

    def annotate(self, annotators: Sequence[PromptedJudge]) -> list[Tally]:
        """Has every annotator go through all battles."""
        self._parts = [self._folder / f"part-{number}.parquet" for number in range(len(annotators))]
        with ThreadPoolExecutor(len(annotators), "arena-judge-annotator") as pool:
            futures = [
                pool.submit(self._one, annotator, part)
                for annotator, part in zip(annotators, self._parts, strict=True)
            ]
            try:
                _all_of(futures)
            except BaseException:
                for annotator in annotators:
                    annotator.stop()
                raise
        return [future.result() for future in futures]

    def finish(self, manifest: dict[str, Any]) -> None:
        """Puts the tables together and says what they are."""
        import pyarrow.parquet as pq

        target = self._folder / ANNOTATIONS
        with explained(target):
            if len(self._parts) == 1:
                self._parts[0].rename(target)
            else:
                schema = pq.read_schema(self._parts[0])
                with pq.ParquetWriter(target, schema, compression="zstd") as writer:
                    for part in self._parts:
                        with pq.ParquetFile(part) as file:
                            for batch in file.iter_batches():
                                writer.write_batch(batch)
                        part.unlink()
        write_manifest(self._folder / FILE, {"format": FORMAT, "kind": KIND, **manifest})

    def _one(self, annotator: PromptedJudge, part: Path) -> Tally:
        tally = Tally()
        with table_writer(part, turns=()) as table:
            one = partial(annotate, annotator=annotator)
            for records in ordered_map(one, self._tables(), self._overlapping, annotator.stop):
                tally.count(records)
                table.append(records)
        return tally


@contextmanager
def annotated(
    target: Path, tables: Tables, *, rows: int = ROWS, overlapping: bool = True
) -> Iterator[Work]:
    """An annotated set to fill, which appears at `target` when the block ends well; see `Work`."""
    with written_folder(target) as draft:
        yield Work(draft, tables, rows, overlapping)


def _all_of(futures: Sequence[Future[Tally]]) -> None:
    """Waits for all, or raises what the first that failed did."""
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


def _batches(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    from judge.battles import iter_battles

    return iter_battles(path, chunk_rows=rows)
