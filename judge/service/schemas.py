"""What a request and a reply look like, for the OpenAPI page.

`judge.service.requests` reads requests itself, as it reads files; that these models say the same is
tested.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Vote = Literal["A", "B", "AB", "NA"]


class Message(BaseModel):
    """A message of a conversation; content is text, or parts that have a `text`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, object]] | None = None


Turn = str | None
Text = str | list[Turn] | list[Message]


class Battle(BaseModel):
    """A prompt and two responses to it. Fields that are not named here are not read."""

    id: str | int | float | None = Field(None, description="Sent back as it came; may repeat.")
    prompt: Text = Field(
        description="A string, a list of turns, or a list of messages ending with the user's."
    )
    response_a: Text | None = Field(
        description="As many turns as the prompt has; null for an empty response."
    )
    response_b: Text | None = Field(description="Likewise.")
    model_a: str | None = Field(None, description="Who gave response A; judges do not look at it.")
    model_b: str | None = None
    reference: str | list[Turn] | None = Field(
        None, description="A right answer, for prompted judges whose prompt shows one."
    )


class _Options(BaseModel):
    ballots: bool = Field(False, description="Send the votes on the five criteria as well.")
    json_turns: bool = Field(
        False, description="Strings are JSON lists of turns, as in the Kaggle files."
    )


class OneBattle(Battle, _Options):
    """One battle."""


class ManyBattles(_Options):
    """Several battles."""

    model_config = ConfigDict(extra="forbid")

    battles: list[Battle] = Field(min_length=1)


class JudgeName(BaseModel):
    """Who judged."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: str = Field(description="Of arena-judge.")


class Shares(BaseModel):
    """A vote and its distribution; all null where nothing was asked or could be read."""

    model_config = ConfigDict(extra="forbid")

    vote: Vote | None
    A: float | None
    B: float | None
    AB: float | None
    NA: float | None


class Votes(BaseModel):
    """A ballot's votes by criterion."""

    model_config = ConfigDict(extra="forbid")

    relevance: Shares
    accuracy: Shares
    clarity: Shares
    logical_flow: Shares
    responsiveness: Shares


class Ballot(BaseModel):
    """The votes of one reply of a model; the statistical judge fills in one a battle."""

    model_config = ConfigDict(extra="forbid")

    judge: str
    order: str = Field(description="AB, or BA with the responses shown swapped.")
    sample: int
    part: int
    weight: float | None = None
    cut: int = Field(description="How much of the battle's text was left out.")
    reason: str | None = Field(description="Why no ballot could be read.")
    reply: str | None = None
    votes: Votes


class Judgment(BaseModel):
    """Three probabilities that sum to 1. An unjudged battle has nulls, and `reason` says why: it is
    no tie."""

    model_config = ConfigDict(extra="forbid")

    id: str | int | float = Field(description="The battle's; its number from 0 where it has none.")
    winner_model_a: float | None
    winner_model_b: float | None
    winner_tie: float | None
    reason: str | None
    ballots: list[Ballot] | None = None


class Reply(BaseModel):
    """A judgment a battle, in the order of the request."""

    model_config = ConfigDict(extra="forbid")

    judge: JudgeName
    judgments: list[Judgment]


class Fault(BaseModel):
    """What is wrong: for machines (`code`), for people (`message`, `mend`), and where."""

    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    battle: int | None = Field(description="The battle's number in the request, from 0.")
    field: str | None
    mend: str | None


class Problem(BaseModel):
    """A request that was refused."""

    model_config = ConfigDict(extra="forbid")

    error: Fault


class Health(BaseModel):
    """Whether new requests are taken."""

    status: Literal["ready", "stopping"]
    judge: JudgeName
    waiting: int = Field(description="Battles in the queue.")
