"""Replies as a judge is to write them: the strict JSON that a prompt asks for, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from judge.ballots import CRITERIA, VERDICT, VOTES
from judge.engines.base import Reply
from judge.prompting import CRITIQUES, Prompt, spaced
from judge.replies import Texts
from judge.voting import Unreadable, fill_ballot
from synth.exporting.files import sound
from synth.exporting.records import ASKED, asked_votes

NO_TEXTS = Texts("", {}, {})


def write_reply(
    prompt: Prompt,
    votes: Sequence[int],
    texts: Texts = NO_TEXTS,
    criterion: str | None = None,
) -> str:
    """The reply that says these votes, in the form that the prompt asks for. Between its members is
    no white space: vLLM, told to keep a reply to a schema, lets none be written, and who has
    learned to write some would vote after signs that were never seen. What a chat template would
    take in a reason for the end of the message is spaced apart, as it is in battles.

    Args:
        prompt: what was asked.
        votes: six places in `VOTES`, on the battle as it is shown.
        texts: what the prompt asks for beside votes, of the battle as it is shown.
        criterion: what was asked about, where that is one thing a call.
    """
    schema = prompt.schema()
    if schema is None:
        return VOTES[votes[CRITERIA.index(criterion or "")]]
    members: dict[str, Any] = {}
    for name, form in schema["properties"].items():
        if name in CRITIQUES:
            members[name] = spaced(texts.critiques["AB"[CRITIQUES.index(name)]])
        elif name == "reason":
            members[name] = spaced(texts.reason if criterion is None else texts.reasons[criterion])
        else:
            about = criterion if name == "vote" and criterion is not None else name
            vote = VOTES[votes[ASKED.index(about)]]
            members[name] = vote
            if form["type"] == "object":
                members[name] = {"reason": spaced(texts.reasons[name]), "vote": vote}
    return sound(json.dumps(members, ensure_ascii=False, separators=(",", ":")))


def reads_back(
    reply: str, prompt: Prompt, votes: Sequence[int], criterion: str | None = None
) -> bool:
    """Whether a judge that gets this reply reads these votes from it. One that is too long for a
    ballot it would not read."""
    try:
        ballot = fill_ballot(Reply(reply), prompt, criterion)
    except Unreadable:
        return False
    said = dict(zip(CRITERIA, ballot.said, strict=True))
    if ballot.verdict is not None:
        said[VERDICT] = VOTES[int(ballot.verdict.argmax())]
    return all(
        said[ASKED[place]] == VOTES[votes[place]] for place in asked_votes(prompt, criterion)
    )
