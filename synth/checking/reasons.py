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
    given = table[table["text"] != ""]
    if not len(given):
        return None, flat
    battles = given.drop_duplicates(["battle", "text"])["text"].value_counts()
    often = battles[battles >= max(_BATTLES, _SHARE * records.battles)]
    alike = given["text"].isin(often.index)
    share = alike.groupby(given["battle"]).mean()
    flat[share.index[share >= _HALF].to_numpy(dtype=np.int64)] = True
    examples = [(str(text)[:_LONGEST], int(number)) for text, number in often.items()]
    found = Reasons(
        len(table),
        len(table) - len(given),
        int(alike.sum()),
        len(battles),
        float(given["text"].str.count(" ").mean()) + 1.0,
        tuple(examples[:_EXAMPLES]),
    )
    return found, flat


def _reasons(records: Records) -> pd.DataFrame:
    """A row for each readable vote that could have a reason, or for each ballot where one reason is
    for all its votes: its battle and the reason's words."""
    import pandas as pd

    parts = [pd.DataFrame({"battle": np.zeros(0, np.int64), "text": pd.Series(dtype="str")})]
    # A set has all columns, whatever was asked for.
    for names in (REASONS, (BALLOT_REASON,)):
        tables = [_texts(records, name) for name in names if name in records.table.columns]
        if any((table["text"] != "").any() for table in tables):
            parts += tables
    return pd.concat(parts, ignore_index=True)


def _texts(records: Records, name: str) -> pd.DataFrame:
    """The same for one column."""
    import pandas as pd

    voted = records.readable
    if name in REASONS:
        voted = ~np.isnan(records.votes[:, REASONS.index(name), 0])
    cells = records.table.loc[voted, name].astype(object)
    text = cells.where(cells.notna(), "").astype("str").str.split().str.join(" ").str.casefold()
    return pd.DataFrame({"battle": records.battle[voted], "text": text.to_numpy()})
