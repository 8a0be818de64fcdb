"""How far the labels are people's: by the very figures of `arena-judge compare`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from judge.aggregation import UNFITTED, Floats
from judge.comparing.ceiling import Ceiling, human_ceiling
from judge.comparing.facts import lengths_and_votes
from judge.comparing.scores import Comparison
from judge.comparison import PRIOR, Known, compare
from judge.consistency import pooled, report_consistency
from judge.files.labelling import VOTES
from synth.checking.records import Records

LABELS = "soft labels"
COUNTED = "votes, counted"


@dataclass(frozen=True)
class Humans:
    """The annotators against people.

    Attributes:
        battles: that people have labelled; `common` of them have a soft label.
        labels: the soft labels.
        votes: the votes, counted unfitted as `compare` counts a file of them; None where the soft
            labels are these.
        annotators: each annotator's votes, counted by themselves, where there are several; each
            on the battles that it judged.
        ceiling: what people themselves agree on, where several voted on the same battle.
    """

    battles: int
    common: int
    labels: Comparison | None
    votes: Comparison | None
    annotators: tuple[Comparison, ...]
    ceiling: Ceiling | None


def humans(
    records: Records,
    battles: pd.DataFrame,
    proba: Floats,
    human: Floats,
    *,
    from_votes: bool,
    own_labels: bool = True,
    rounds: int = 2000,
    seed: int = 0,
) -> Humans:
    """Agreement with people.

    Args:
        records: the annotations.
        battles: N of them.
        proba: (N, 3) soft labels, NaN rows without one.
        human: (N, 3) people's, NaN rows unlabelled; some are not.
        from_votes: whether the soft labels are the votes as `compare` counts them.
        own_labels: whether people's labels are those of the battles, whose votes are then known.
        rounds, seed: of the bootstrap.
    """
    facts = lengths_and_votes(battles)
    longer = facts["length_difference"].to_numpy(dtype=np.float64)

    known = ~np.isnan(human[:, 0])

    def against(name: str, said: Floats, table: pd.DataFrame) -> Comparison | None:
        if not (known & ~np.isnan(said[:, 0])).any():
            return None
        return compare(
            human,
            {name: said},
            groups=records.prompts,
            length_difference=longer,
            known=Known({name: pooled([report_consistency(table)])}, {}),
            rounds=rounds,
            seed=seed,
        )

    whole = records.table
    labels, votes, annotators = against(LABELS, proba, whole), None, []
    if not from_votes:
        votes = against(COUNTED, UNFITTED.aggregate(whole, records.ids), whole)
    if len(records.annotators) > 1:
        for place, name in enumerate(records.annotators):
            rows = whole[records.of(place)]
            # The prior is a name that nobody else may have.
            called = f"{name} (annotator)" if name == PRIOR else name
            annotators.append(against(called, UNFITTED.aggregate(rows, records.ids), rows))
    ceiling = None
    if own_labels:
        counts = facts[list(VOTES)].to_numpy(dtype=np.float64)
        ceiling = human_ceiling(human, counts, groups=records.prompts, rounds=rounds, seed=seed)
    common = int((known & ~np.isnan(proba[:, 0])).sum())
    each = tuple(one for one in annotators if one is not None)
    return Humans(int(known.sum()), common, labels, votes, each, ceiling)
