"""A plan is drawn: every battle is looked at, some are left out, and of the rest a sample is taken.

    drawn = draw_plan(of_files(["battles.csv"]), Rule(size=1000))
    write_plan(Path("plan"), drawn, {})

Of each battle a few dozen numbers are kept, and no text; what was drawn is read again when it is
written (see `synth.plan_writing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.errors import InputError
from judge.provenance import Source
from synth.drawing import draw, keys
from synth.origins import Origin, fingerprints
from synth.sifting import Reason, Sifted, held_out, prompt_ranks, sift, together
from synth.strata import Aspect, Strata, aspects_of, closest, stratify
from synth.surveying import CLOSENESS, KNOWN, SOURCE, Survey, survey

if TYPE_CHECKING:
    from judge.judges.base import Judge

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """How a plan is drawn.

    Attributes:
        size: how many battles are wanted.
        seed: from 0; the same gives the same plan.
        by: what strata differ in, the most important first; None for all in which battles differ.
        allocation: one of `synth.drawing.POWERS`.
        close: the least share of close battles; None for as many as there happen to be.
        per_prompt: how many battles may have one prompt; None for any number, and then further ones
            come last in their stratum.
        keep: reasons for which nothing is left out.
    """

    size: int = 20_000
    seed: int = 0
    by: tuple[str, ...] | None = None
    allocation: str = "square-root"
    close: float | None = None
    per_prompt: int | None = None
    keep: frozenset[Reason] = frozenset()

    @property
    def wants_closeness(self) -> bool:
        """Whether a judge has to say which battles are close."""
        return self.close is not None or self.by is None or CLOSENESS in self.by

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of files that battles are drawn by."""
        return tuple(name for name in self.by or () if name not in (*KNOWN, SOURCE))


@dataclass(frozen=True)
class Drawn:
    """A plan that is drawn, and not written yet.

    Attributes:
        rule: how.
        origins: where battles are from.
        contents: what the files of each held.
        hold: the files that it keeps clear of, what they held, and how many battles that were.
        survey: of all battles.
        sifted: what was left out.
        left: places of the battles that could be drawn.
        strata: of these.
        places: among all battles, of those that are drawn, in the order of the plan.
        of: (size,) the stratum of each.
        judge: what the judge is called that said which are close.
    """

    rule: Rule
    origins: tuple[Origin, ...]
    contents: tuple[tuple[Source, ...], ...]
    hold: tuple[tuple[Source, int], ...]
    survey: Survey
    sifted: Sifted
    left: Ints
    strata: Strata
    places: Ints
    of: Ints
    judge: str | None = None

    @property
    def chosen(self) -> Ints:
        """(size,) places of those that are drawn among those that could be."""
        return np.searchsorted(self.left, self.places)

    @property
    def counts(self) -> list[tuple[str, int, int]]:
        """Of each stratum its name, how many battles it has, and how many are drawn."""
        size = len(self.strata.names)
        available, taken = (np.bincount(of, minlength=size) for of in (self.strata.of, self.of))
        return list(zip(self.strata.names, available.tolist(), taken.tolist(), strict=True))

    def shares(self, aspect: Aspect) -> list[tuple[str, int, int]]:
        """The same of each value of an aspect."""
        size = len(aspect.values)
        both = (aspect.of, aspect.of[self.chosen])
        available, taken = (np.bincount(of, minlength=size) for of in both)
        return list(zip(aspect.values, available.tolist(), taken.tolist(), strict=True))


def draw_plan(
    origins: Sequence[Origin],
    rule: Rule,
    *,
    judge: Judge | None = None,
    hold: Sequence[str] = (),
    workers: int = 1,
    tick: Callable[[int], None] | None = None,
    stop: Callable[[], None] | None = None,
) -> Drawn:
    """Looks at all battles and draws some.

    Args:
        origins: where they are from.
        rule: how to draw.
        judge: says which are close; wanted if `rule.wants_closeness`.
        hold: files whose battles and prompts the plan is to keep clear of.
        workers: batches looked at once.
        tick: is told how many battles are done.
        stop: ends what the judge is at, when the rest is not wanted any more.

    Raises:
        InputError: a file cannot be read, or nothing is left to be drawn.
    """
    contents = tuple(fingerprints(origin.files) for origin in origins)
    kept_out = fingerprints(hold)
    parts = [held_out(file, workers=workers) for file in hold]
    found = survey(origins, rule.columns, judge, workers=workers, tick=tick, stop=stop)
    chance = keys(found.marks.battles, rule.seed)
    sifted = sift(found, chance, together(parts), per_prompt=rule.per_prompt, keep=rule.keep)
    left = sifted.left
    if not len(left):
        why = ", ".join(f"{count:,} {reason.value}" for reason, count in sifted.counts.items())
        raise InputError(
            f"nothing is left to draw of {len(found):,} battles ({why})",
            mend="name other battles, or see --keep, --held-out and --per-prompt",
        )
    sources = [found.names[place] for place in found.origins[left].tolist()]
    facts, closeness = found.facts.iloc[left], found.closeness[left]
    strata = stratify(
        aspects_of(
            facts.reset_index(drop=True), closeness, found.unwritten[left], sources, rule.by
        ),
        len(left),
    )
    ranks, _ = prompt_ranks(found.marks.prompts[left], chance[left])
    order = draw(
        strata.of,
        ranks,
        chance[left],
        rule.size,
        allocation=rule.allocation,
        close=closest(closeness),
        share=rule.close or 0.0,
    )
    return Drawn(
        rule=rule,
        origins=tuple(origins),
        contents=contents,
        hold=tuple(zip(kept_out, map(len, parts), strict=True)),
        survey=found,
        sifted=sifted,
        left=left,
        strata=strata,
        places=left[order],
        of=strata.of[order],
        judge=None if judge is None else judge.name,
    )
