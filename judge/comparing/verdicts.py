"""A comparison in words: what a reader of its tables must know, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from judge.comparing.differences import ALPHA, POWER, Difference
from judge.comparing.scores import Comparison, JudgeScore

_FEW = 20
_TIMES = 1000


def notes(result: Comparison) -> list[str]:
    """What the figures are over, and what was left out."""
    over = f"{_count(result.battles, 'labelled battle')}, {_count(result.prompts, 'prompt')}"
    found = [
        f"{over}; 95 % intervals from {result.rounds:,} bootstrap rounds over prompts, "
        f"seed {result.seed}.",
        "The class prior is fitted on these very labels, so it is the best constant there is: A "
        f"{result.prior[0]:.3f}, B {result.prior[1]:.3f}, tie {result.prior[2]:.3f}.",
    ]
    judges = sum(1 for score in result.scores[1:] if score.battles)
    if judges > 1:
        text = f"p-values are Holm's, over {judges} judges against the prior"
        if judges > 2:
            text += f" and over all {len(result.pairs)} pairs, since any judge may come out best"
        found.append(f"{text}.")
    if result.prompts == 1:
        found.append("One prompt says nothing about others, so there are no intervals.")
    elif result.prompts < _FEW:
        found.append(f"{result.prompts} prompts are few; the intervals are rough.")
    if result.unlabelled:
        found.append(f"{_count(result.unlabelled, 'battle')} without a label left out.")
    found += [
        f"{score.name} left {_count(score.unjudged, 'battle')} unjudged."
        if score.battles
        else f"{score.name} judged none of them, and is not compared."
        for score in result.scores
        if score.unjudged
    ]
    if result.common < result.battles:
        found.append(_common(result))
    return found


def _common(result: Comparison) -> str:
    text = f"Differences are over the {_count(result.common, 'battle')} that all have judged"
    if result.common_prompts == 1 < result.prompts:
        text += ", all about one prompt, which says nothing about others"
    if result.held_back_by is None:
        return f"{text}."
    name, battles = result.held_back_by
    return f"{text}; without {name} they would be over {battles:,}."


def verdicts(result: Comparison) -> list[str]:
    """Who is better, who cannot be told apart, and what it would take."""
    judges = [one for one in result.scores[1:] if one.battles]
    return [
        *_against_best(result, judges),
        *_groups(result),
        *_against_prior(judges),
        *_what_it_takes(result, judges),
    ]


def _against_best(result: Comparison, judges: Sequence[JudgeScore]) -> list[str]:
    best = result.best
    apart = [one.name for one in judges if one.against_best and one.against_best.told_apart]
    if len(judges) < 2:
        return []
    if len(apart) == len(judges) - 1:
        whom = "the other" if len(apart) == 1 else "every other"
        return [f"{best} is better than {whom} (Holm-corrected p < {ALPHA})."]
    if not apart:
        return [f"{best} has the least log loss, but is better than no other beyond doubt."]
    return [f"{best} has the least log loss; it is better than {_and(apart)} beyond doubt."]


def _groups(result: Comparison) -> list[str]:
    """The runs of judges that cannot be told apart."""
    runs = [run for run in result.together if len(run) > 1]
    return [
        f"{'Nor can ' if place else ''}{_and(run)} "
        f"{'be told apart' if place else 'cannot be told apart on this data'}."
        for place, run in enumerate(runs)
    ]


def _against_prior(judges: Sequence[JudgeScore]) -> list[str]:
    gaps = [(one.name, one.against_prior) for one in judges if one.against_prior]
    alike = [name for name, gap in gaps if not gap.told_apart]
    worse = [name for name, gap in gaps if gap.told_apart and gap.value > 0]
    found = []
    if alike:
        found.append(f"{_and(alike)} cannot be told from the class prior.")
    if worse:
        is_are = "is" if len(worse) == 1 else "are"
        found.append(f"{_and(worse)} {is_are} worse than the class prior beyond doubt.")
    return found


def _what_it_takes(result: Comparison, judges: Sequence[JudgeScore]) -> list[str]:
    """How many more battles would tell the best from those that are like it."""
    gaps = [(one.name, one.against_best) for one in judges if one.against_best]
    alike = [name for name, gap in gaps if math.isinf(gap.more_battles)]
    needs = [
        f"{name} {_needed(gap, result.common)}"
        for name, gap in gaps
        if 0 < gap.more_battles < math.inf
    ]
    found = []
    if alike:
        have = "has" if len(alike) == 1 else "have"
        found.append(f"{_and(alike)} {have} the very log loss of {result.best}.")
    if needs:
        found.append(
            f"More battles like these that would tell them from {result.best}, were the "
            f"differences truly as seen ({100 * POWER:.0f} % power): {'; '.join(needs)}."
        )
    return found


def _needed(gap: Difference, battles: int) -> str:
    if gap.more_battles > _TIMES * battles:
        return f"over {_TIMES:,} times as many as here"
    return f"about {_rounded(gap.more_battles)}"


def _rounded(number: float) -> str:
    """To two digits that count."""
    digits = max(0, math.floor(math.log10(number)) - 1) if number >= 1 else 0
    return f"{math.ceil(number / 10**digits) * 10**digits:,}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
