"""A Hugging Face `datasets` folder: battles with labels, every annotation of them, and a card.

    OUT/README.md                                     what it is, and which files are which
    OUT/battles/train-00000-of-00001.parquet          a row a battle
    OUT/annotations/train-00000-of-00001.parquet      a row a record
    OUT/export.yaml                                   by which an earlier export is known

`datasets.load_dataset(OUT, "battles")` loads it; so does every command that reads battles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.files.atomic import explained
from judge.files.folders import written_folder
from judge.labelled import prompt_mark
from synth.data import AnnotatedSet
from synth.exporting.card import Described, Licences, card
from synth.exporting.counts import Tally
from synth.exporting.figures import Checked
from synth.exporting.files import Kinds, RowsFile, column_kind
from synth.exporting.labels import TrainingLabels, outcomes
from synth.exporting.preference import battle_columns, battle_kinds, labelled_places
from synth.exporting.splitting import held_out
from synth.manifests import write_manifest

if TYPE_CHECKING:
    import pandas as pd

MARK, KIND, FORMAT = "export.yaml", "exported data set", 1
CARD = "README.md"
BATTLES, ANNOTATIONS = "battles", "annotations"
TRAIN, TEST = "train", "test"
SHARD_BYTES = 300_000_000
_CHUNK = 2048

Places = npt.NDArray[np.int64]
Columns = Mapping[str, Sequence[object]]


@dataclass(frozen=True)
class Folder:
    """How a folder is made.

    Attributes:
        title: what the card calls it.
        licences: of the set and of what it was drawn from.
        test_share: of the battles.
        seed: of the split.
        shard_bytes: after which a file is followed by another.
    """

    title: str
    licences: Licences
    test_share: float = 0.0
    seed: int = 0
    shard_bytes: int = SHARD_BYTES


def write_dataset(
    path: Path,
    data: AnnotatedSet,
    labels: TrainingLabels,
    folder: Folder,
    checked: Checked,
) -> tuple[Tally, dict[str, dict[str, int]]]:
    """Writes the folder, whole or not at all.

    Args:
        path: where.
        data: the set.
        labels: of its battles.
        folder: how.
        checked: what the card is to say of the set's worth.

    Returns:
        What came of it, and the rows of each split of each configuration.
    """
    tally = Tally()
    kept = labelled_places(data, labels, tally)
    tally.rows = tally.battles = len(kept)
    tally.check(data.name)
    splits = _splits(data, labels, kept, folder)
    records = _record_places(data, splits)
    counts = {
        BATTLES: {name: len(places) for name, places in splits.items()},
        ANNOTATIONS: {name: len(places) for name, places in records.items()},
    }
    kinds = {BATTLES: battle_kinds(data, labels), ANNOTATIONS: _record_kinds(data.annotations)}
    described = Described(data, labels, kept, counts, kinds, tally, checked)
    with written_folder(path) as draft:
        for name, places in splits.items():
            columns: Iterator[Columns] = iter(battle_columns(data, labels, places))
            _write_shards(draft / BATTLES, name, kinds[BATTLES], columns, folder.shard_bytes)
        for name, places in records.items():
            columns = _record_columns(data.annotations, kinds[ANNOTATIONS], places)
            _write_shards(
                draft / ANNOTATIONS, name, kinds[ANNOTATIONS], columns, folder.shard_bytes
            )
        files = {
            config: {name: f"{config}/{name}-*.parquet" for name, rows in found.items() if rows}
            for config, found in counts.items()
        }
        text = card(described, folder.title, folder.licences, files)
        with explained(path):
            (draft / CARD).write_text(text, encoding="utf-8")
        write_manifest(draft / MARK, _manifest(folder, counts, tally))
    return tally, counts


def _splits(
    data: AnnotatedSet, labels: TrainingLabels, kept: Places, folder: Folder
) -> dict[str, Places]:
    """The battles of each split that has any."""
    import pandas as pd

    battles = data.battles.iloc[kept]
    marks = [prompt_mark(tuple(turns)) for turns in battles["prompt"]]
    groups = np.asarray(pd.factorize(np.array(marks, dtype=np.int64))[0], dtype=np.int64)
    drawn = battles["stratum"] if "stratum" in battles.columns else [""] * len(kept)
    outcome = outcomes(labels.proba[kept]).tolist()
    strata = list(zip(map(str, drawn), outcome, strict=True))
    test = held_out(groups, strata, folder.test_share, folder.seed)
    found = {TRAIN: kept[~test], TEST: kept[test]}
    return {name: places for name, places in found.items() if len(places)}


def _record_places(data: AnnotatedSet, splits: Mapping[str, Places]) -> dict[str, Places]:
    """The records of each split's battles, as they stand in the set."""
    import pandas as pd

    index = pd.Index(data.battles["id"].astype(object))
    battle = index.get_indexer(pd.Index(data.annotations["id"].astype(object)))
    return {
        name: np.flatnonzero(np.isin(battle, places)).astype(np.int64)
        for name, places in splits.items()
    }


def _record_kinds(table: pd.DataFrame) -> Kinds:
    """The columns of records; one in which nothing stands says nothing."""
    return {
        str(name): column_kind(cells)
        for name, cells in table.items()
        if not (cells.isna() | (cells == "")).all()
    }


def _record_columns(table: pd.DataFrame, kinds: Kinds, places: Places) -> Iterator[Columns]:
    names = list(kinds)
    for start in range(0, len(places), _CHUNK):
        rows = table.iloc[places[start : start + _CHUNK]]
        yield {name: rows[name].tolist() for name in names}


def _write_shards(
    folder: Path, split: str, kinds: Kinds, chunks: Iterable[Columns], most: int
) -> None:
    """Files of a split, called by their number and how many there are."""
    drafts: list[Path] = []

    def shard() -> tuple[RowsFile, Callable[[], None]]:
        path = folder / f"{split}-{len(drafts):05d}.parquet"
        file = path.open("wb")
        drafts.append(path)
        rows = RowsFile(path, file, kinds)

        def close() -> None:
            rows.close()
            file.close()

        return rows, close

    with explained(folder):
        folder.mkdir(exist_ok=True)
        close: Callable[[], None] | None = None
        try:
            for columns in chunks:
                if close is None:
                    rows, close = shard()
                rows.append(columns)
                if rows.size >= most:
                    ended, close = close, None
                    ended()
        finally:
            if close is not None:
                close()
        for number, path in enumerate(drafts):
            path.rename(folder / f"{split}-{number:05d}-of-{len(drafts):05d}.parquet")


def _manifest(
    folder: Folder, counts: Mapping[str, Mapping[str, int]], tally: Tally
) -> dict[str, object]:
    from judge import __version__

    return {
        "format": FORMAT,
        "kind": KIND,
        "made_by": f"arena-judge {__version__}",
        "title": folder.title,
        "rows": {name: dict(splits) for name, splits in counts.items()},
        "test_share": folder.test_share,
        "seed": folder.seed,
        "left_out": tally.settings()["left_out"],
    }
