"""Long conversations made to fit a context: what to keep, what to leave out, and saying so.

    fitted = fit_context(texts, budget=8192, policy="head-tail", counter=counter,
                         template_overhead=600)

What fits is left alone. What does not goes through a policy (see `judge.context.policies`), which
keeps the budget to the token and gives A and B the same treatment: the swapped battle gives the
swapped result. Whatever was left out is counted in `Fitted.cut`, and where text is missing the
judge reads how much, so that it does not blame a response for ending in the middle.

A conversation is a sequence of rounds: a turn of the prompt and what each side answered to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from judge.context.fitted import Fitted, Round
from judge.context.policies import LEAST, Policy, load_policy
from judge.encoding import BattleText, EstimatingCounter, TokenCounter
from judge.errors import ArenaJudgeError


def fit_context(
    texts: BattleText,
    budget: int,
    policy: str | Policy = "head-tail",
    counter: TokenCounter | None = None,
    template_overhead: int = 0,
    *,
    turn_overhead: int = 0,
    measure: Callable[[BattleText], int] | None = None,
) -> list[Fitted]:
    """A battle's texts, cut where they are too long for a context.

    Args:
        texts: the battle, as many turns in each of its three texts.
        budget: how many tokens the rendered prompt may have.
        policy: a name in `POLICIES`, or a policy with settings of its own.
        counter: counts tokens; without one they are estimated.
        template_overhead: tokens that the prompt has whatever the battle.
        turn_overhead: tokens that each round adds, such as the marks around its texts.
        measure: how many tokens the prompt has when rendered with some texts. Text may fall into
            other tokens where it is joined to what is around it; with this, both orders keep the
            budget as rendered, and the overheads need not be right.

    Returns:
        One item, or with the policy `chunks` one or more whose weights sum to 1.

    Raises:
        ArenaJudgeError: an unknown policy, a missing package, or a budget too small for any text.
    """
    if not len(texts.prompt) == len(texts.response_a) == len(texts.response_b):
        raise ValueError("a battle has as many turns in each response as in its prompt")
    chosen = load_policy(policy) if isinstance(policy, str) else policy
    counter = counter or EstimatingCounter()
    whole = [Fitted(texts, rounds=tuple(range(len(texts.prompt))))]
    room = budget - template_overhead
    fixed = turn_overhead * len(texts.prompt)
    turns = (*texts.prompt, *texts.response_a, *texts.response_b)
    if measure is not None:
        if not turns or _excess(whole, budget, measure) <= 0:
            return whole
    elif _surely_within(turns, room - fixed, counter):
        return whole
    measured = counter.measure(turns)
    if measure is None and sum(text.count for text in measured) <= room - fixed:
        return whole
    count = len(texts.prompt)
    rounds = [Round(*measured[at::count]) for at in range(count)]
    while room >= LEAST + turn_overhead:
        fitted = chosen.fit(rounds, room, turn_overhead, counter)
        over = _excess(fitted, budget, measure) if measure is not None else 0
        if over <= 0:
            return fitted
        room -= over
    raise ArenaJudgeError(
        f"a context of {budget} tokens leaves {max(room, 0)} for the battle, and "
        f"{LEAST + turn_overhead} are the least; raise it, or shorten the prompt around the battle"
    )


def _surely_within(turns: Sequence[str], room: int, counter: TokenCounter) -> bool:
    for text in turns:
        bound = counter.bound(text)
        if bound is None or bound > room:
            return False
        room -= bound
    return room >= 0


def _excess(fitted: Sequence[Fitted], budget: int, measure: Callable[[BattleText], int]) -> int:
    """By how much the longest is over budget; both orders, since both are going to be judged."""
    longest = (max(measure(one.texts), measure(one.texts.swapped())) for one in fitted)
    return max(longest) - budget
