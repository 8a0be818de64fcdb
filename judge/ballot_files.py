"""Ballot tables (see `judge.ballots`) in files: CSV, JSON lines or Parquet.

Beside the votes a file may have the `verdict` on the whole in the same form, `part` and `weight`
(of conversations judged in parts), `cut`, `reply`, and `reason`, which says why a ballot without
votes has none. `order` may be empty where it is not known how the battle was shown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from judge.aggregation import Floats
from judge.ballots import CRITERIA, VERDICT, VOTES
from judge.errors import InputError
from judge.files.atomic import explained, written_whole
from judge.files.rows import Cells, Rows, as_text, quoted, stream_rows

ENDINGS = (".csv", ".jsonl", ".parquet")
SHARES = tuple(f"{criterion}_{vote}" for criterion in CRITERIA for vote in VOTES)
_REQUIRED = ("id", "judge", "order")
_ORDERS = {"AB": "AB", "BA": "BA", "": ""}
_TOLERANCE = 1e-6


def read_ballots(path: str | Path) -> pd.DataFrame:
    """The ballots in a file.

    Returns:
        `id`, `judge`, `order` (AB, BA or empty), `sample`, the votes (A, B, AB, NA or None) and
        their distributions (NaN without a vote), then the file's other columns as they are.

    Raises:
        InputError: for what is no ballot table, or no vote, with its row and column.
    """
    tables = [_table(rows) for rows in stream_rows(path, required=_REQUIRED)]
    if not tables:
        raise InputError("has no ballots", file=path, mend="give it a row a ballot")
    return pd.concat(tables, ignore_index=True)


def write_ballots(path: str | Path, ballots: pd.DataFrame) -> None:
    """Writes a ballot table, whole or not at all, in the form that the name asks for; votes that
    are not there are empty cells, or null.

    Raises:
        InputError: another ending than .csv, .jsonl or .parquet, or a place that cannot be written.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        mend = f"choose a name that ends in {', '.join(ENDINGS)}"
        raise InputError("has no known ending for ballots", file=path, mend=mend)
    with written_whole(path) as file, explained(path):
        if ending == ".parquet":
            _to_parquet(ballots, file)
        elif ending == ".jsonl":
            file.write(json_lines(ballots))
        else:
            text = ballots.to_csv(index=False, lineterminator="\n")
            file.write(text.encode("utf-8", "replace"))


def json_lines(table: pd.DataFrame) -> bytes:
    """A table as JSON, a line a row; what is not there is null."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _to_parquet(ballots: pd.DataFrame, file: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pandas(ballots, preserve_index=False), file)


def _table(rows: Rows) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "id": [_named(rows, at, "id") for at in range(len(rows))],
        "judge": [_named(rows, at, "judge") for at in range(len(rows))],
        "order": [_order(rows, at) for at in range(len(rows))],
        "sample": _whole(rows, "sample"),
    }
    names: tuple[str, ...] = CRITERIA
    shares = _shares(rows)
    verdict = _one_share(rows, VERDICT)
    if verdict is not None:
        names, shares = (*names, VERDICT), np.concatenate([shares, verdict[:, None]], axis=1)
    for c, name in enumerate(names):
        columns[name] = likeliest(shares[:, c])
        for v, vote in enumerate(VOTES):
            columns[f"{name}_{vote}"] = shares[:, c, v]
    if "weight" in rows.columns:
        weight = _numbers(rows, "weight")
        _refuse(rows, "weight", ~(weight > 0) | np.isinf(weight), "is no number above 0")
        columns["weight"] = weight
    for name, cells in rows.columns.items():
        if name not in columns:
            columns[name] = [None if cell == "" else cell for cell in cells]
    return pd.DataFrame(
        {
            name: cells if isinstance(cells, np.ndarray) else pd.Series(cells, dtype=object)
            for name, cells in columns.items()
        }
    )


def likeliest(shares: Floats) -> list[str | None]:
    """The votes that (M, 4) distributions come down to; None where there is none. Where A and B
    are as likely as each other and than anything else, neither gains by coming first: it is AB."""
    filled = np.where(np.isnan(shares), -1.0, shares)
    best = filled.argmax(axis=1)
    drawn = (best == 0) & (filled[:, 0] == filled[:, 1]) & (filled[:, 0] >= 0)
    best[drawn] = VOTES.index("AB")
    return [VOTES[b] if share >= 0 else None for b, share in zip(best, filled[:, 0], strict=True)]


def _named(rows: Rows, at: int, column: str) -> str:
    name = as_text(rows.columns[column][at])
    if name is None:
        raise rows.error("is empty", at, column, "say which it is")
    return name


def _order(rows: Rows, at: int) -> str:
    cell = rows.columns["order"][at]
    order = _ORDERS.get(("" if cell is None or cell != cell else str(cell)).strip().upper())
    if order is None:
        message = f"is {quoted(cell)}, which is no order"
        raise rows.error(message, at, "order", "write AB, BA or nothing")
    return order


def _whole(rows: Rows, column: str) -> Any:
    if column not in rows.columns:
        return np.zeros(len(rows), dtype=np.int64)
    values = _numbers(rows, column)
    wrong = ~((values >= 0) & (values < 2**31) & (values == np.floor(values)))
    _refuse(rows, column, wrong, "is no whole number from 0")
    return values.astype(np.int64)


def _shares(rows: Rows) -> Floats:
    """(M, 5, 4); from the distributions where the table has them, else from the votes."""
    shares = np.full((len(rows), len(CRITERIA), len(VOTES)), np.nan)
    found = False
    for c, criterion in enumerate(CRITERIA):
        values = _one_share(rows, criterion)
        if values is not None:
            shares[:, c] = values
            found = True
    if not found:
        mend = f"a ballot table has {', '.join(CRITERIA)}; arena-judge import reads vote files"
        raise InputError("has no votes", file=rows.file, mend=mend)
    return shares


def _one_share(rows: Rows, criterion: str) -> Floats | None:
    """(M, 4); None where the table has nothing on a criterion."""
    names = [f"{criterion}_{vote}" for vote in VOTES]
    there = [name for name in names if name in rows.columns]
    if there and len(there) < len(names):
        missing = next(name for name in names if name not in there)
        raise InputError(f"is missing beside {there[0]}", file=rows.file, column=missing)
    if there:
        return _distributions(rows, names)
    return _certain(rows, criterion) if criterion in rows.columns else None


def _distributions(rows: Rows, names: list[str]) -> Floats:
    values = np.column_stack([_numbers(rows, name) for name in names])
    for column, name in zip(values.T, names, strict=True):
        _refuse(rows, name, (column < 0) | (column > 1 + _TOLERANCE), "is not from 0 to 1")
    empty = np.isnan(values)
    _refuse(rows, names[0], empty.any(axis=1) & ~empty.all(axis=1), "is filled in only in part")
    off = np.abs(values.sum(axis=1) - 1.0) > _TOLERANCE
    _refuse(rows, names[0], off & ~empty.any(axis=1), "does not sum to 1 with the other votes")
    return values


def _certain(rows: Rows, criterion: str) -> Floats:
    values = np.full((len(rows), len(VOTES)), np.nan)
    for at, cell in enumerate(rows.columns[criterion]):
        if cell is None or cell == "" or cell != cell:
            continue
        if cell not in VOTES:
            mend = f"write {', '.join(VOTES)} or nothing"
            raise rows.error(f"is {quoted(cell)}, which is no vote", at, criterion, mend)
        values[at] = 0.0
        values[at, VOTES.index(str(cell))] = 1.0
    return values


def _numbers(rows: Rows, column: str) -> Floats:
    cells: Cells = rows.columns[column]
    try:
        return np.array([np.nan if c is None or c == "" else float(c) for c in cells])  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    for at, cell in enumerate(cells):
        try:
            float(cell or "nan")  # type: ignore[arg-type]
        except (TypeError, ValueError):
            message = f"is {quoted(cell)}, not a number"
            raise rows.error(message, at, column, "write a number") from None
    raise InputError("holds what is no number", file=rows.file, column=column)


def _refuse(rows: Rows, column: str, wrong: Any, what: str) -> None:
    if wrong.any():
        at = int(np.argmax(wrong))
        raise rows.error(f"is {quoted(rows.columns[column][at])}, which {what}", at, column)
