"""From battles to a statistical judge in its folder.

Where the head learns from the very battles that the strength learns from, it is shown strengths
that were learned without the battles about the same prompt: what a model says of its own battles is
surer than what it says of new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.measuring.labelled import Measured
from finetune.measuring.scoring import OUT_OF_FOLD, Score, score
from finetune.rows.splitting import strata_of
from finetune.statistical.authors import author_probabilities, soften
from finetune.statistical.crossing import crossed_strengths, out_of_fold
from finetune.statistical.heads import finish, strengths_of
from finetune.statistical.material import Ground, Sides, Source, Told
from finetune.statistical.strength import learn_strength
from finetune.statistical.tables import Table
from judge.battles import ID
from judge.comparing.leaks import merged, write_seen
from judge.conformal import Conformity, fit_conformity
from judge.folds import stratified_folds
from judge.judges.recipes import made_by, made_from, plain, written_judge
from judge.judges.statistical import StatisticalJudge
from judge.judges.statistical_weights import Weights, write_weights
from judge.predictions import write_predictions

CROSSED = "cross-fitted"
"""The battles that the head learned from, each judged without those of its prompt."""
_FEW_TIES = 0.02

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Learned:
    """A judge before it is written.

    Attributes:
        weights: of it.
        natural: the battles that its head learned from.
        proba: (N, 3) of these, cross-fitted.
        conformity: how improbable their labels were.
        notes: what there is to say.
    """

    weights: Weights
    natural: Measured
    proba: Floats
    conformity: Conformity
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """A judge that was made.

    Attributes:
        folder: where it is.
        scores: on what was measured on: its fold, held-out files, and `CROSSED`.
        learned: how many battles its strength was learned from, and `head` its head.
        notes: what there is to say.
    """

    folder: Path
    scores: tuple[Score, ...]
    learned: int
    head: int
    notes: tuple[str, ...]


def make(ground: Ground, sides: Sides, target: Path, say: Say = lambda line: None) -> Made:
    """Learns, measures and writes a judge folder, which appears whole."""
    told = ground.told
    found = learn(ground, sides, say)
    judge = StatisticalJudge(found.weights)
    said = [judge.predict_proba(one.battles) for one in sides.measured]
    scores = [score(one, proba, told.seed) for one, proba in zip(sides.measured, said, strict=True)]
    scores.append(score(found.natural, found.proba, told.seed))
    head = sides.learned if sides.head is None else sides.head
    made = Made(target, tuple(scores), len(sides.learned), len(found.natural), found.notes)
    with written_judge(target, settings_of(told, sides, made)) as folder:
        write_weights(folder / "weights.npz", found.weights)
        write_seen(folder, merged([sides.learned.seen, head.seen]))
        found.conformity.save(folder)
        if sides.fold is not None:
            write_predictions(folder / OUT_OF_FOLD, sides.measured[0].battles[ID], said[0])
    return made


def learn(ground: Ground, sides: Sides, say: Say = lambda line: None) -> Learned:
    """The weights, and what heads say of battles that they have not learned from."""
    told, main, set_ = ground.told, ground.main, sides.learned
    teaching = _Teaching(main, sides, told)
    notes = [*_left_out(sides), *teaching.notes()]
    if sides.head is None or ground.head is None:
        rows = np.arange(len(set_))
        table = replace(
            main.table.take(sides.rows), labels=hedged(set_.labels), natural=set_.source == 0
        )
        strata = strata_of(set_.labels)
        fold = stratified_folds(set_.prompts, strata, told.crossings, told.seed)
        say(f"strengths are learned {int(fold.max()) + 1} times for the head, and once for all")
        parts = crossed_strengths(table, fold, teaching.learn)
        weights = teaching.learn(rows)
        head = set_
    else:
        head = sides.head
        natural = ground.head.table.take(sides.head_rows)
        table = replace(natural, labels=hedged(head.labels))
        weights = teaching.learn(np.arange(len(set_)))
        parts = strengths_of(table, weights)
    groups = np.where(table.natural, head.prompts, -1)
    proba = out_of_fold(weights, parts, table, groups, told.seed)
    shown = np.flatnonzero(table.natural)
    of = head.take(shown)
    notes += _ties(of.labels, told)
    made = finish(weights, parts, table)
    if not (made.linear.any() or any(forest.value.any() for forest in made.forests.values())):
        notes.append(
            "what it learned of strength does not hold up on other prompts, so it says little more "
            "than how often each outcome is"
        )
    return Learned(
        made,
        Measured(CROSSED, of.battles, of.labels, np.ones(len(of)), of.prompts),
        proba[shown],
        fit_conformity(of.labels, proba[shown], of.prompts),
        tuple(notes),
    )


def hedged(labels: Floats) -> Floats:
    """(N, 3) labels with one battle's worth more of each outcome's third spread over all, so that
    what has not been seen among few battles is not called impossible (Laplace's rule)."""
    share = 1.0 / (len(labels) + 1.0)
    return (1.0 - share) * labels + share / 3.0


@dataclass(frozen=True)
class _Teaching:
    """How the strength is learned from some of the battles of one side."""

    source: Source
    sides: Sides
    told: Told

    def learn(self, rows: Ints) -> Weights:
        """From these of the battles that may be learned from."""
        set_, told = self.sides.learned, self.told
        table: Table = self.source.table.take(self.sides.rows[rows], grams=False)
        weights = set_.weights[rows]
        return learn_strength(
            table,
            self.targets(rows),
            told.seed,
            trees=told.trees,
            counts=None if (weights == 1.0).all() else weights,
        )

    def targets(self, rows: Ints) -> Floats:
        """(n, 3) labels, softened by what these battles alone say of the models."""
        labels = self.sides.learned.labels[rows]
        if not self.told.soften:
            return labels
        models = self.source.models[self.sides.rows[rows]]
        author = author_probabilities(models, labels, self.told.anonymous)
        return soften(labels, author, self.told.soften)

    def notes(self) -> list[str]:
        """What there is to say of the models' names."""
        if not self.told.soften:
            return []
        models = self.source.models[self.sides.rows]
        named = [None not in row and not {*row} & {*self.told.anonymous} for row in models.tolist()]
        count = sum(named)
        if count == len(named):
            return []
        many = "no battle names" if not count else f"{count:,} of {len(named):,} battles name"
        return [f"{many} both models, whose strengths soften labels"]


def _left_out(sides: Sides) -> list[str]:
    """Which battles are not learned from, and why."""
    counts = [*sides.learned.counts, *([] if sides.head is None else sides.head.counts)]
    notes = []
    for one in counts:
        if one.left_out:
            why = ", ".join(f"{count:,} {reason}" for reason, count in one.left_out.items())
            notes.append(f"{one.name}: {one.used:,} of {one.battles:,} learned from ({why})")
    return notes


def _ties(labels: Floats, told: Told) -> list[str]:
    share = float(labels[:, 2].mean())
    if share >= _FEW_TIES:
        return []
    many = "no battle is a tie" if not share else f"{share:.1%} of the battles are ties"
    mend = "" if told.head else "; natural battles for that can be named with --head"
    return [f"{many}, so the judge hardly speaks of any{mend}"]


def settings_of(told: Told, sides: Sides, made: Made) -> dict[str, Any]:
    """What judge.yaml says."""
    name = told.name or made.folder.resolve().name
    settings: dict[str, Any] = {"kind": "statistical", "name": name}
    if sides.fold is not None:
        settings |= {"fold": sides.fold.number, "folds": sides.fold.fingerprint}
    by = made_by("finetune statistical", **options_of(told))
    versions = dict(by["versions"]) if isinstance(by["versions"], dict) else {}
    by["versions"] = versions | {name: version(name) for name in ("scipy", "lightgbm")}
    return settings | {
        "measured": {one.name: one.settings() for one in made.scores},
        "trained_on": made.learned,
        "head_trained_on": made.head,
        "made_from": made_from(told.learned_from),
        "kept_out": made_from(map(Path, told.held_out)),
        "made_by": by,
    }


def options_of(told: Told) -> dict[str, Any]:
    """What weights depend on beside the files."""
    found: dict[str, Any] = plain(
        {
            "seed": told.seed,
            "soften": told.soften,
            "anonymous": sorted(told.anonymous),
            "trees": told.trees,
            "crossings": None if told.head is not None else told.crossings,
            "head": None if told.head is None else Path(told.head).name,
            "extra": [f"{one.weight:g}*{Path(one.file).name}" for one in told.extras],
            "held_out": [Path(file).name for file in told.held_out],
        }
    )
    return found
