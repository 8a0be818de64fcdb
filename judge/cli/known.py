"""What is known of entrants beyond their probabilities: what their ballots say, what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from judge.cli.entrants import Entrant
    from judge.comparing.scores import Effort
    from judge.comparison import Known
    from judge.consistency import Consistency
    from judge.judges.base import Judge
    from judge.labelled import Labelled


def known_of(field: Sequence[Entrant], battles: Labelled) -> Known:
    """By the entrants' names, after they have judged all battles."""
    from judge.comparison import Known

    orders, efforts = {}, {}
    for one in field:
        if one.judge is not None:
            word = _word(one.judge, battles)
            if word is not None:
                orders[one.name] = word
            efforts[one.name] = _effort(one.judge, battles.seconds[one.name], len(battles.ids))
    return Known(orders, efforts)


def _word(judge: Judge, battles: Labelled) -> Consistency | None:
    """What the ballots say of it; None where there are none."""
    from judge.consistency import pooled, report_consistency
    from judge.judges.jury import prompted_within
    from judge.judges.recorded import RecordedJudge

    words = [one.consistency() for one in prompted_within(judge)]
    for one in _within(judge):
        if isinstance(one, RecordedJudge):
            here = one.ballots["id"].isin(battles.ids)
            words.append(report_consistency(one.ballots[here]))
    words = [word for word in words if word.ballots]
    return pooled(words) if words else None


def _within(judge: Judge) -> list[Judge]:
    """A judge and all that it is made of."""
    return [judge, *(one for member in judge.members for one in _within(member))]


def _effort(judge: Judge, seconds: float, battles: int) -> Effort:
    """Time and dollars a battle.

    Replies out of the ledger took no time, so a run with them tells nothing of it; their cost is
    taken to be that of the others. A model without a price has no known cost.
    """
    from judge.comparing.scores import NAN, Effort
    from judge.judges.jury import prompted_within

    done = [one.engine.statistics for one in prompted_within(judge)]
    if not done:
        return Effort(seconds / battles)
    if not all(one.calls and one.cost for one in done):
        cost = NAN
    else:
        cost = sum(one.cost / one.calls * (one.calls + one.from_ledger) for one in done) / battles
    return Effort(NAN if any(one.from_ledger for one in done) else seconds / battles, cost)
