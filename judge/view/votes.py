"""The ballots of each battle, as the page shows them: votes by criterion, and every ballot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.ballot_files import SHARES
from judge.ballots import CRITERIA, VOTES
from judge.view.spool import Spool
from judge.view.unseen import visible

# More ballots of a battle are counted, not listed.
LISTED = 60
_LONGEST = 4000


class Votes:
    """The ballots of battles, by id; numbers in memory, words on disk.

    Args:
        ballots: a ballot table, as `judge.ballot_files.read_ballots` gives it.
        ids: the battles' ids; other ballots are left out.
    """

    def __init__(self, ballots: pd.DataFrame, ids: Sequence[str]) -> None:
        known = ballots["id"].isin(set(ids)).to_numpy()
        self.unknown = int((~known).sum())
        table = ballots[known]
        codes, names = pd.factorize(table["id"])
        order = np.argsort(codes, kind="stable")
        self._first = np.searchsorted(codes[order], np.arange(len(names) + 1))
        self._place = {str(name): place for place, name in enumerate(names)}
        table = table.iloc[order]
        shares = table[list(SHARES)].to_numpy(dtype=np.float32)
        self._shares = shares.reshape(len(table), len(CRITERIA), len(VOTES))
        self._words = _spooled(table)

    def __len__(self) -> int:
        return len(self._words)

    def of(self, battle: str) -> list[dict[str, Any]]:
        """For each judge its name, how many ballots, the tally of each criterion, and the ballots.

        A tally has how many voted A, B, AB, NA, and the mean share of each; all that is text is
        safe to show as it is.
        """
        place = self._place.get(battle)
        if place is None:
            return []
        ballots = range(int(self._first[place]), int(self._first[place + 1]))
        words = [json.loads(self._words[at]) for at in ballots[: 100 * LISTED]]
        judges = dict.fromkeys(word["judge"] for word in words)
        shares = self._shares[ballots.start : ballots.start + len(words)]
        return [self._judge(name, words, shares) for name in judges]

    def _judge(
        self, name: str, words: list[dict[str, Any]], shares: npt.NDArray[np.float32]
    ) -> dict[str, Any]:
        own = [at for at, word in enumerate(words) if word["judge"] == name]
        listed = [_ballot(words[at]) for at in own[:LISTED]]
        return {
            "judge": visible(name),
            "count": len(own),
            "tallies": [_tally(shares[own, c], criterion) for c, criterion in enumerate(CRITERIA)],
            "ballots": listed,
        }


def _spooled(table: pd.DataFrame) -> Spool:
    """What is said of each ballot beside its shares."""
    names = ("judge", "order", "sample", "part", *CRITERIA, "cut", "reason", "reply")
    there = [name for name in names if name in table.columns]
    spool = Spool()
    for cells in zip(*(table[name].tolist() for name in there), strict=True):
        known = zip(there, cells, strict=True)
        spool.add(json.dumps({name: cell for name, cell in known if cell == cell}, default=str))
    return spool


def _ballot(word: dict[str, Any]) -> dict[str, Any]:
    texts = {name: visible(str(word.get(name) or "")[:_LONGEST]) for name in ("reason", "reply")}
    numbers = {name: _whole(word.get(name)) for name in ("sample", "part", "cut")}
    votes = [word.get(criterion) for criterion in CRITERIA]
    return {"order": word.get("order") or "", "votes": votes, **numbers, **texts}


def _whole(cell: object) -> int:
    """A number that a CSV file has as text."""
    try:
        return int(float(str(cell)))
    except (ValueError, OverflowError):
        return 0


def _tally(shares: npt.NDArray[np.float32], criterion: str) -> dict[str, Any]:
    voted = shares[~np.isnan(shares).any(axis=1)]
    mean = voted.mean(axis=0).tolist() if len(voted) else None
    return {"criterion": criterion.replace("_", " "), "voted": len(voted), "shares": mean}
