"""Whether the reasons say anything: those that are missing, and those that say the same of battle
after battle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from judge.ballots import CRITERIA
from synth.checking.records import Bools, Records
from synth.data import REASONS

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
    table = _reasons(records, [name for name in REASONS if name in records.table.columns])
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


def _reasons(records: Records, columns: Sequence[str]) -> pd.DataFrame:
    """A row for each readable vote that could have a reason: its battle and the reason's words."""
    import pandas as pd

    parts = [pd.DataFrame({"battle": np.zeros(0, np.int64), "text": pd.Series(dtype="str")})]
    for name in columns:
        voted = ~np.isnan(records.votes[:, CRITERIA.index(name.removesuffix("_reason")), 0])
        cells = records.table.loc[voted, name].astype(object)
        text = cells.where(cells.notna(), "").astype("str").str.split().str.join(" ").str.casefold()
        parts.append(pd.DataFrame({"battle": records.battle[voted], "text": text.to_numpy()}))
    return pd.concat(parts, ignore_index=True)
