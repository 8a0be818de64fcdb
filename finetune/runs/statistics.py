"""What a judge would be trained on, in figures, before anything is trained.

stats = measure(training, encoder)
stats = replace(stats, speed=dry_run(...))      # what some steps of training took
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finetune.rows.data import FileCounts, TrainingSet
from finetune.rows.sifting import Reason

if TYPE_CHECKING:
    from finetune.training.rehearsing import Speed
    from judge.classifier.tokens import BattleEncoder

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
TEXTS = ("prompt", "response_a", "response_b")
WHOLE = "sequence"
"""What a model reads of a battle, uncut: the words around the texts are counted, too."""

_TWICE = (Reason.COPY, Reason.NEAR, Reason.PROMPT)


@dataclass(frozen=True)
class Lengths:
    """How long texts are, in tokens.

    Attributes:
        mean: of all.
        percentiles: at each of `PERCENTILES`.
    """

    mean: float
    percentiles: tuple[int, ...]


@dataclass(frozen=True)
class Cuts:
    """What is left out of N battles so that their S sequences fit.

    Attributes:
        max_length: ids of a sequence at most.
        policy: what stays.
        sequences: how many sequences there are.
        cut: how many of them have lost something.
        tokens: ids of all sequences.
        lost: tokens of battles that are in none of the places where they would stand.
        lost_share: of the battles' tokens in all sequences.
    """

    max_length: int
    policy: str
    sequences: int
    cut: int
    tokens: int
    lost: int
    lost_share: float


@dataclass(frozen=True)
class Statistics:
    """What a judge would be trained on.

    Attributes:
        files: what became of the battles of each.
        merged: battles read, from all files.
        deduplicated: how many of them are left when what stands there twice is gone.
        used: how many are trained on: with a label, and not held out.
        prompts: how many prompts these are about.
        empty: how many of these have a text without a word.
        labels: the mean label of each file's, in the order A, B, tie.
        soft: how many labels are no certain outcome.
        lengths: of `TEXTS` and of the `WHOLE`.
        cuts: what does not fit.
        speed: of some steps of training; None if none were made.
    """

    files: tuple[FileCounts, ...]
    merged: int
    deduplicated: int
    used: int
    prompts: int
    empty: int
    labels: dict[str, tuple[float, float, float]]
    soft: int
    lengths: dict[str, Lengths]
    cuts: Cuts
    speed: Speed | None = None

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        found = asdict(self)
        found["lengths"] = {
            name: {"mean": of.mean, **_named(of.percentiles)} for name, of in self.lengths.items()
        }
        if self.speed is not None:
            found["speed"]["seconds"] = self.speed.seconds
        return found


def measure(training: TrainingSet, encoder: BattleEncoder) -> Statistics:
    """The figures of a training set for one way of putting battles before a model.

    Args:
        training: the battles.
        encoder: the way; both orders are looked at in pair form, both responses in single form.
    """
    tokens = encoder.read(training.battles)
    encoded = encoder.assemble(tokens, ("AB", "BA"))
    whole = encoder.whole_lengths(tokens)
    lengths = {name: _lengths(found) for name, found in zip(TEXTS, tokens.lengths.T, strict=True)}
    lengths[WHOLE] = _lengths(whole.ravel())
    lost = int(encoded.cut.sum())
    # In pair form a sequence has all texts of its battle, in single form one response.
    shown = tokens.lengths.sum() * 2
    if encoder.template.form == "single":
        shown -= tokens.lengths[:, 1:].sum()
    merged = sum(one.battles for one in training.counts)
    twice = {reason.value for reason in _TWICE}
    gone = sum(n for one in training.counts for why, n in one.left_out.items() if why in twice)
    return Statistics(
        training.counts,
        merged,
        merged - gone,
        len(training),
        len(np.unique(training.prompts)),
        int(_empty(training).sum()),
        _mean_labels(training),
        int((training.labels.max(axis=1, initial=0) < 1 - 1e-9).sum()),
        lengths,
        Cuts(
            encoder.max_length,
            encoder.policy,
            len(encoded),
            int((encoded.cut > 0).sum()),
            int(encoded.lengths.sum()),
            lost,
            lost / max(int(shown), 1),
        ),
    )


def _lengths(counts: npt.NDArray[np.int64]) -> Lengths:
    if not len(counts):
        return Lengths(0.0, (0,) * len(PERCENTILES))
    found = np.percentile(counts, PERCENTILES, method="inverted_cdf")
    return Lengths(round(float(counts.mean()), 1), tuple(found.astype(int).tolist()))


def _named(percentiles: tuple[int, ...]) -> dict[str, int]:
    return {f"p{at}": value for at, value in zip(PERCENTILES, percentiles, strict=True)}


def _empty(training: TrainingSet) -> npt.NDArray[np.bool_]:
    columns = [
        [not any(turn.strip() for turn in turns) for turns in training.battles[name]]
        for name in TEXTS
    ]
    return np.asarray(np.array(columns, dtype=np.bool_).any(axis=0), dtype=np.bool_)


def _mean_labels(training: TrainingSet) -> dict[str, tuple[float, float, float]]:
    means = {}
    for place, name in enumerate(training.names):
        own = training.labels[(training.source == place) & training.labelled]
        if len(own):
            a, b, tie = own.mean(axis=0).round(4).tolist()
            means[name] = (a, b, tie)
    return means
