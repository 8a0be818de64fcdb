"""How a prompted judge asks: which model, in which orders, how often, and with which parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from judge.engines.base import Parameters
from judge.errors import ArenaJudgeError
from judge.prompting import ORDERS, Prompt

MOST_SAMPLES = 1000

# A model that is asked again must be able to say something else.
_WARM = 0.7


@dataclass(frozen=True)
class Asking:
    """How a model is asked for ballots.

    Attributes:
        model: its name, as the engine knows it.
        orders: the orders each battle is shown in.
        samples: how many ballots to draw an order.
        temperature: None for 0, or for 0.7 where several samples are drawn.
        seed: makes draws repeatable where the engine can.
        top_logprobs: how many log-probabilities a token to ask for; 0 for hard votes.
        retries: how often a reply that cannot be read is asked for again.
        policy: what to keep of a battle too long for the context (see `judge.context.policies`).
        context: how many tokens prompt and reply may have together; None for no limit, or what
            tells it when it is first needed.

    Raises:
        ArenaJudgeError: a value that makes no sense.
    """

    model: str
    orders: tuple[str, ...] = ORDERS
    samples: int = 1
    temperature: float | None = None
    seed: int = 0
    top_logprobs: int = 10
    retries: int = 2
    policy: str = "head-tail"
    context: int | Callable[[], int] | None = None

    def __post_init__(self) -> None:
        if not self.orders or set(self.orders) - set(ORDERS):
            raise ArenaJudgeError(f"orders are some of {', '.join(ORDERS)}")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise ArenaJudgeError(f"samples are from 1 to {MOST_SAMPLES}, not {self.samples}")
        if self.temperature is not None and not 0 <= self.temperature <= 5:
            raise ArenaJudgeError(f"a temperature is from 0 to 5, not {self.temperature:g}")
        if self.retries < 0:
            raise ArenaJudgeError(f"retries are a number from 0, not {self.retries}")

    @property
    def warmth(self) -> float:
        """The temperature of the first attempt."""
        if self.temperature is not None:
            return self.temperature
        return 0.0 if self.samples == 1 else _WARM


@lru_cache(maxsize=64)
def parameters(prompt: Prompt, asking: Asking, seed: int, attempt: int) -> Parameters:
    """One object for all calls that share it: engines and ledgers spell it out once.

    Whoever is asked again draws more freely, and has more room where none is to be kept: the first
    reply may have been cut.
    """
    warmth = max(asking.warmth, _WARM) if attempt else asking.warmth
    roomy = attempt > 0 and asking.context is None
    return Parameters(
        model=asking.model,
        temperature=warmth,
        max_tokens=prompt.max_tokens * (2 if roomy else 1),
        seed=seed if warmth > 0 else None,
        top_logprobs=asking.top_logprobs,
        schema=prompt.schema(),
        choices=prompt.choices,
    )
