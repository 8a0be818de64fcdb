"""An annotated set: battles, and everything that annotators said of them.

It is a folder: `synth.yaml` says by whom, with which prompts and parameters it was made, and what
it cost; `battles.parquet` is a battle table as in a plan (see `synth.plans`); `annotations.parquet`
has a row a record. A record is a ballot (see `judge.ballots`; `judge` is the annotator) with

- `verdict`, `verdict_A`, `verdict_B`, `verdict_AB`, `verdict_NA`: which response is better on the
  whole, where that was asked, and its distribution;
- `relevance_reason`, ... `responsiveness_reason`: a sentence a criterion; `ballot_reason`: one for
  all of them; `critique_a`, `critique_b`: of each response; empty where they were not asked for;
- `reply`: what the model wrote, as it wrote it; `finish`: why it ended there; `attempts`: how often
  it was asked;
- `model`, `prompt`, `prompt_version`, `prompt_digest`, `parameters` (JSON): who was asked, how;
- `time` (seconds since 1970), `seconds`, `prompt_tokens`, `cached_tokens`, `completion_tokens`,
  `cost` (dollars): of all attempts together.

`written.parquet` has a row for each reply of models that wrote responses or references for these
battles, where there were any (see `synth.writing.RECORDS`).

Votes and critiques are of the battle as it stands in the file, whatever the order it was shown in;
what reasons and critiques call A and B, and all of `reply`, is as it was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from judge.ballots import CRITERIA
from judge.errors import InputError
from judge.files.folders import written_folder
from synth.manifests import read_manifest, write_manifest
from synth.tables import NUMBERS, WHOLE, table_writer

if TYPE_CHECKING:
    import pandas as pd

FILE, BATTLES, ANNOTATIONS = "synth.yaml", "battles.parquet", "annotations.parquet"
WRITTEN = "written.parquet"
FORMAT = 1
KIND = "annotated set"
REASONS = tuple(f"{name}_reason" for name in CRITERIA)
BALLOT_REASON = "ballot_reason"

_MEND = "make one with arena-judge synth run, or name a file of votes and its --battles"


@dataclass(frozen=True)
class AnnotatedSet:
    """Battles and what annotators said of them.

    Attributes:
        name: the folder or file, as the user named it.
        battles: N, a battle table; ids are all different.
        annotations: M records; see the module. Of votes from elsewhere, as much as is known.
        manifest: what synth.yaml says; empty for votes from elsewhere.
        written: what models wrote for these battles; None where nobody did.
    """

    name: str
    battles: pd.DataFrame
    annotations: pd.DataFrame
    manifest: Mapping[str, Any] = field(default_factory=dict)
    written: pd.DataFrame | None = None


def read_annotated(name: str | Path, battles: str | Path | None = None) -> AnnotatedSet:
    """An annotated set from its folder, or from a file of ballots and the battles they are of.

    Args:
        name: a folder, or a ballot file as `score --ballots` and `import` write them.
        battles: the battles, for a ballot file.

    Raises:
        InputError: it cannot be read, ids repeat, or ballots are of no battle there is.
    """
    from judge.ballot_files import read_ballots
    from judge.battles import read_battles

    path = Path(name)
    if battles is not None:
        if path.is_dir():
            raise InputError("has its battles with it", file=name, mend="leave out --battles")
        return _checked(AnnotatedSet(str(name), read_battles(battles), read_ballots(path)))
    if path.is_file():
        raise InputError("is no annotated set", file=name, mend="add --battles FILE for its votes")
    manifest = read_manifest(path, FILE, FORMAT, KIND, _MEND)
    for file in (BATTLES, ANNOTATIONS):
        if not (path / file).is_file():
            raise InputError(f"has no {file}", file=name, mend="make it again")
    said = read_ballots(path / ANNOTATIONS)
    for column in said.columns.intersection([*NUMBERS, *WHOLE]):
        said[column] = said[column].astype(np.float64 if column in NUMBERS else np.int64)
    written = _written(path / WRITTEN)
    table = read_battles(path / BATTLES)
    return _checked(AnnotatedSet(str(name), table, said, manifest, written))


def write_annotated(folder: Path, data: AnnotatedSet) -> None:
    """Writes a set, whole or not at all, in place of one that is there."""
    with written_folder(folder) as draft:
        with table_writer(draft / BATTLES) as writer:
            writer.append(data.battles)
        with table_writer(draft / ANNOTATIONS, turns=()) as writer:
            writer.append(data.annotations)
        if data.written is not None:
            with table_writer(draft / WRITTEN, turns=()) as writer:
                writer.append(data.written)
        write_manifest(draft / FILE, {"format": FORMAT, "kind": KIND, **data.manifest})


def _written(file: Path) -> pd.DataFrame | None:
    """What models wrote, where anybody did."""
    if not file.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table: pd.DataFrame = pq.read_table(file).to_pandas()
    except (OSError, pa.ArrowException):
        raise InputError("cannot be read", file=file, mend="make it again") from None
    return table


def _checked(data: AnnotatedSet) -> AnnotatedSet:
    ids = data.battles["id"]
    again = ids[ids.duplicated()]
    if len(again):
        what = f"has two battles called {again.iloc[0]!r}"
        raise InputError(what, file=data.name, mend="give every battle an id of its own")
    unknown = data.annotations["id"][~data.annotations["id"].isin(ids)]
    if len(unknown):
        what = f"has votes on {unknown.iloc[0]!r}, and there is no such battle"
        raise InputError(what, file=data.name, mend="name the battles that were judged")
    return data
