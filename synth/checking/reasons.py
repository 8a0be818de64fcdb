"""Whether the reasons say anything: those that are missing, and those that say the same of battle
after battle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synth.checking.records import Bools, Records
from synth.data import BALLOT_REASON, REASONS

if TYPE_CHECKING:
    import pandas as pd

# A reason is a template where it stands, word for word, in so many battles and so large a share.
_BATTLES, _SHARE = 5, 0.01
_HALF = 0.5
_EXAMPLES, _LONGEST = 3, 160
_NAMES = (*REASONS, BALLOT_REASON)
_COLUMNS = ("battle", "mark", "words", "row", "column")


@dataclass(frozen=True)
class Reasons:
    """The reasons that were given for votes.

    Attributes:
        asked: readable votes that could have one.
        missing: of these, without one.
        templated: of the reasons, those that stand word for word in many battles.
        distinct: how many different ones there are.
        words: their mean length.
        examples: the commonest, each with how many battles it stands in.
    """

    asked: int
    missing: int
    templated: int
    distinct: int
    words: float
    examples: tuple[tuple[str, int], ...]

    @property
    def given(self) -> int:
        """How many reasons there are."""
        return self.asked - self.missing


def reasons(records: Records) -> tuple[Reasons | None, Bools]:
    """What is to be said of the reasons, None where the set has none at all; and (N,) battles at
    least half of whose reasons are templates."""
    table = _reasons(records)
    flat = np.zeros(records.battles, dtype=np.bool_)
    given = table[table["words"] > 0]
    if not len(given):
        return None, flat
    battles = given.drop_duplicates(["battle", "mark"])["mark"].value_counts()
    often = battles[battles >= max(_BATTLES, _SHARE * records.battles)]
    alike = given["mark"].isin(often.index)
    share = alike.groupby(given["battle"]).mean()
    flat[share.index[share >= _HALF].to_numpy(dtype=np.int64)] = True
    commonest = often.iloc[:_EXAMPLES]
    examples = [
        (_text_of(records, given[given["mark"] == mark].iloc[0])[:_LONGEST], int(number))
        for mark, number in commonest.items()
    ]
    found = Reasons(
        len(table),
        len(table) - len(given),
        int(alike.sum()),
        len(battles),
        float(given["words"].mean()),
        tuple(examples),
    )
    return found, flat


def _reasons(records: Records) -> pd.DataFrame:
    """A row for each readable vote that could have a reason, or for each ballot where one reason is
    for all its votes: its `battle`, a `mark` of the reason (64 bits in place of a sentence), how
    many `words` it has, and where it stands: its `row` among the records and its `column`."""
    import pandas as pd

    parts = [_marks(records, BALLOT_REASON).iloc[:0]] if _has(records, BALLOT_REASON) else []
    # A set has all columns, whatever was asked for.
    for names in (REASONS, (BALLOT_REASON,)):
        tables = [_marks(records, name) for name in names if _has(records, name)]
        if any((table["words"] > 0).any() for table in tables):
            parts += tables
    if not parts:
        return pd.DataFrame({name: np.zeros(0, np.int64) for name in _COLUMNS})
    return pd.concat(parts, ignore_index=True)


def _has(records: Records, name: str) -> bool:
    return name in records.table.columns


def _marks(records: Records, name: str) -> pd.DataFrame:
    """The same for one column."""
    import pandas as pd

    text = _texts(records, name)
    rows = text.index.to_numpy()
    marks = pd.util.hash_array(text.to_numpy(dtype=object), categorize=False)
    words = text.str.count(" ").to_numpy(dtype=np.int64) + (text != "").to_numpy()
    columns = (records.battle[rows], marks, words, rows, np.full(len(text), _NAMES.index(name)))
    return pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))


def _text_of(records: Records, found: pd.Series[int]) -> str:
    """The words of a reason."""
    name = _NAMES[int(found["column"])]
    return str(_texts(records, name).loc[int(found["row"])])


def _texts(records: Records, name: str) -> pd.Series[str]:
    """The words of the reasons in one column, by the rows of those that could be there."""
    voted = records.readable
    if name in REASONS:
        voted = ~np.isnan(records.votes[:, REASONS.index(name), 0])
    cells = records.table[name].reset_index(drop=True)[voted].astype(object)
    return cells.where(cells.notna(), "").astype("str").str.split().str.join(" ").str.casefold()
