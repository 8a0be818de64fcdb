"""Ballots from replies: what a model said, as a distribution over the four votes on each criterion.

Votes speak of the battle as it stands in the file. A reply to order BA called response B "A", and
is turned back here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.ballots import CRITERIA, VERDICT, VOTES
from judge.likelihood import distributions
from judge.prompting import ORDERS, Prompt
from judge.replies import LONGEST, Unreadable, read_votes, strict_votes

if TYPE_CHECKING:
    from judge.engines.base import Reply

__all__ = ["TURNED", "Ballot", "Unreadable", "fill_ballot", "read_ballot"]

TURNED = [VOTES.index(vote) for vote in ("B", "A", "AB", "NA")]
"""`votes[..., TURNED]` speaks of the battle with its responses swapped."""
_CERTAIN = np.eye(len(VOTES))
_PLACES = {name: place for place, name in enumerate((*CRITERIA, VERDICT))}


@dataclass(frozen=True)
class Ballot:
    """The votes of one reply.

    Attributes:
        votes: (5, 4) distributions over `VOTES`, criteria in the order of `CRITERIA`; NaN rows for
            criteria that were not asked for.
        said: the vote that the reply says on each criterion, "" for those not asked for.
        hard: the criteria whose vote is certain only because no log-probabilities say otherwise:
            there were none, they could not be laid beside the text, or hardly any of the
            probability was the four labels'.
        verdict: (4,) which response is better on the whole; None where that was not asked.
    """

    votes: npt.NDArray[np.float64]
    said: tuple[str, ...]
    hard: tuple[str, ...]
    verdict: npt.NDArray[np.float64] | None = None


def read_ballot(
    reply: Reply, prompt: Prompt, criterion: str | None = None, order: str = "AB"
) -> npt.NDArray[np.float64]:
    """(5, 4) distributions over the votes of a reply; see `fill_ballot`."""
    return fill_ballot(reply, prompt, criterion, order).votes


def fill_ballot(
    reply: Reply, prompt: Prompt, criterion: str | None = None, order: str = "AB"
) -> Ballot:
    """Reads the ballot that a reply fills in.

    Args:
        reply: what came back.
        prompt: what had been asked.
        criterion: what was asked for, where that is one thing a call.
        order: how the battle was shown.

    Raises:
        Unreadable: no ballot can be read for certain; ask again.
        ValueError: the criterion or the order is none of the prompt's.
    """
    prompt.check_question(criterion)
    if order not in ORDERS:
        raise ValueError(f"order {order} is neither AB nor BA")
    if reply.error is not None:
        raise Unreadable(f"no reply: {reply.error}")
    if reply.finish in ("refusal", "content_filter"):
        raise Unreadable("the model declined to answer")
    asked = prompt.criteria if criterion is None else (criterion,)
    if prompt.verdict:
        asked = (*asked, VERDICT)
    plain = None
    if reply.logprobs is None and len(reply.text) <= LONGEST and reply.finish != "length":
        plain = strict_votes(reply.text, asked)
    soft: Mapping[str, npt.NDArray[np.float64]] = {}
    if plain is None:
        found = read_votes(reply.text, asked, cut=reply.finish == "length")
        soft = distributions(found, reply.text, reply.logprobs) if reply.logprobs else {}
        plain = {name: vote.label for name, vote in found.items()}
    if plain.get(VERDICT) == "NA":
        raise Unreadable("no verdict but NA")
    votes = np.full((len(CRITERIA) + 1, len(VOTES)), np.nan)
    said = [""] * (len(CRITERIA) + 1)
    for name, vote in plain.items():
        place, label = _PLACES[name], VOTES.index(vote)
        votes[place] = soft.get(name, _CERTAIN[label])
        said[place] = VOTES[TURNED[label] if order == "BA" else label]
    if order == "BA":
        votes = votes[:, TURNED]
    hard = tuple(name for name in asked if name not in soft)
    verdict = votes[-1] if prompt.verdict else None
    return Ballot(votes[:-1], tuple(said[:-1]), hard, verdict)
