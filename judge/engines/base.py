"""What an engine is: requests in, replies out, in any order, each under its own number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, Self

BUDGET = "budget"
"""The error of a reply to a request that was not sent because the money was spent."""
WAITING = "waits for its batch"
"""The error of a reply to a request that stands in a batch file and has not been answered."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """How a model is to answer.

    Attributes:
        model: the model's name, as its server knows it.
        temperature: 0 for the likeliest reply.
        max_tokens: where a reply is cut.
        seed: makes a draw repeatable where the engine can; `Request.sample` is added to it.
        top_logprobs: how many log-probabilities a token to ask for; 0 for none.
        schema: the JSON schema that a reply is to keep to.
        choices: the texts that a reply is to be one of.
        regex: the regular expression that a reply is to match. Of the three, one at most.
    """

    model: str
    temperature: float = 0.0
    max_tokens: int = 64
    seed: int | None = None
    top_logprobs: int = 0
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model.

    Attributes:
        messages: the prompt.
        parameters: how it is to be answered.
        sample: another number asks for another draw; the ledger keeps each.
        prefix: requests with the same one begin alike, and gain from going to the same server.
    """

    messages: tuple[Message, ...]
    parameters: Parameters
    sample: int = 0
    prefix: str = ""


class TokenChoice(NamedTuple):  # made by the hundred thousand, and a tuple is made in no time
    """A token of a reply, its log-probability, and those of the likeliest tokens in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens: of the prompt, how many of these came out of the server's cache, of the reply."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        text: the reply; empty where there is an error.
        finish: why it ended, in the server's word: `stop`, `length`, ...; `refusal` where the model
            declined in the protocol's own way.
        logprobs: one entry a token, where the engine gives them.
        usage: the tokens that were counted.
        cost: dollars, when the call was made; 0 where the model has no price. Nothing is paid again
            for what is `from_ledger`.
        seconds: how long the call took.
        from_ledger: whether it was answered earlier.
        error: why there is no reply, in one line; the battle becomes unjudged.
        time: when it came, in seconds since 1970, for what is `from_ledger` too; 0 where nobody
            knows.
    """

    text: str
    finish: str = "stop"
    logprobs: Sequence[TokenChoice] | None = None
    usage: Usage = Usage()
    cost: float = 0.0
    seconds: float = 0.0
    from_ledger: bool = False
    error: str | None = None
    time: float = 0.0

    @classmethod
    def failed(cls, error: str, seconds: float = 0.0) -> Reply:
        """What stands for a reply that could not be had."""
        return cls("", "error", seconds=seconds, error=error)


_COUNTING = Lock()


@dataclass(slots=True)
class Statistics:
    """What an engine has done so far.

    Attributes:
        calls: replies that a model gave.
        from_ledger: replies that had been given before.
        failed: requests that no reply could be had for.
        unsent: of these, how many the budget kept from being sent.
        retries: attempts that had to be made again, for whatever reason.
        refused: of these, how many the server was too busy for (429 and its like).
        prompt_tokens, cached_tokens, completion_tokens: sums over `calls`.
        cost: dollars, over `calls`.
        seconds: sum over `calls`; divided by `calls`, the mean time of a call.
    """

    calls: int = 0
    from_ledger: int = 0
    failed: int = 0
    unsent: int = 0
    retries: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0

    def count(self, reply: Reply) -> None:
        """Adds what a request came to; from any thread."""
        with _COUNTING:
            if reply.error is not None:
                self.failed += 1
                self.unsent += reply.error == BUDGET
            elif reply.from_ledger:
                self.from_ledger += 1
            else:
                self.calls += 1
                self.prompt_tokens += reply.usage.prompt
                self.cached_tokens += reply.usage.cached
                self.completion_tokens += reply.usage.completion
                self.cost += reply.cost
                self.seconds += reply.seconds


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would come to, at most: replies are taken to be as long as they may be.

    Attributes:
        requests: how many there are.
        from_ledger: how many of them need not be sent.
        prompt_tokens, completion_tokens: of those to be sent.
        cost: dollars; None where a model's price is not known.
    """

    requests: int
    from_ledger: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass
class Engine(ABC):
    """Answers prompts.

    Attributes:
        name: how the engine is called in messages.
        statistics: what it has done.
        notes: what its user should know, a line each: a server left out, a parameter refused.
    """

    name: str = "engine"
    statistics: Statistics = field(default_factory=Statistics)
    notes: list[str] = field(default_factory=list)

    @abstractmethod
    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        """The replies with the requests' numbers, counted from 0, each once, as they come.

        Requests are taken from the iterable only a bounded number ahead of the replies that were
        used, by the thread that uses them; so a generator of any length streams through, but it
        must not wait for replies of its own. A request that retries could not mend has a reply with
        `error` set. Closing the iterator ends the calls that are under way.

        Raises:
            ArenaJudgeError: no call can succeed: the key is refused, the model unknown, no server
                there.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends what is under way and gives everything back; the ledger stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
