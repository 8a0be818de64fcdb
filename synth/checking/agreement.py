"""Whether one annotator says the same when drawn again, and whether several say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from judge.aggregation import Floats
from judge.comparing.agreement import cohen_kappa, confusion, krippendorff_alpha
from judge.metrics import accuracy_rows, shared_maximum
from synth.checking.estimates import NAN, Estimate, Sampling
from synth.checking.records import TIE, Ints, Records, counted, grouped, sides


@dataclass(frozen=True)
class Repeated:
    """What is said of B battles more than once.

    Attributes:
        battle: (B,) which they are; a battle may occur several times.
        counts: (B, 3) how often A, B and a tie were said, twice at least together.
    """

    battle: Ints
    counts: Floats

    @property
    def agreed(self) -> Floats:
        """(B,) the share of the pairs of sayings that are alike."""
        total = self.counts.sum(axis=1)
        pairs = (self.counts * (self.counts - 1.0)).sum(axis=1)
        return np.asarray(pairs / (total * (total - 1.0)))

    @property
    def alpha(self) -> float:
        """Krippendorff's alpha for nominal data with however many observers (Krippendorff 2019,
        "Content Analysis", chapter 12)."""
        if not len(self.battle):
            return NAN
        total = self.counts.sum(axis=1)
        pairs = self.counts[:, :, None] * self.counts[:, None, :]
        pairs[:, range(3), range(3)] -= self.counts
        coincidences = (pairs / (total - 1.0)[:, None, None]).sum(axis=0)
        return krippendorff_alpha(coincidences / 2.0)  # it adds the transpose


@dataclass(frozen=True)
class SampleReport:
    """Samples of one annotator, drawn in the same order.

    Attributes:
        annotator: its name.
        agreed: the share of the pairs of samples that say the same.
        alpha: Krippendorff's, over all samples.
        most: samples of a battle in one order, at most.
    """

    annotator: str
    agreed: Estimate
    alpha: float
    most: int


@dataclass(frozen=True)
class PairReport:
    """Two annotators on the battles that both have judged: accuracy is the share of the battles
    with the same likeliest outcome, classes that are as likely sharing it."""

    first: str
    second: str
    accuracy: Estimate
    kappa: float
    alpha: float


@dataclass(frozen=True)
class AnnotatorReport:
    """Several annotators of the same battles.

    Attributes:
        battles: that two of them or more have judged.
        agreed: the share of the pairs of annotators that say the same, a battle.
        alpha: Krippendorff's, over all of them.
        pairs: every two.
    """

    battles: int
    agreed: Estimate
    alpha: float
    pairs: tuple[PairReport, ...]


def repeated_samples(records: Records, annotator: int | None = None) -> Repeated:
    """Samples of the same battle by the same annotator in the same order."""
    kept = records.readable if annotator is None else records.readable & records.of(annotator)
    keys = [
        part[kept] for part in (records.battle, records.annotator, records.order, records.sample)
    ]
    keys, words = grouped(keys, records.word[kept], records.weight[kept])
    return _repeated(keys[:3], sides(words))


def repeated_annotators(records: Records) -> Repeated:
    """What the annotators of the same battle say, each in the mean over its orders and samples."""
    battle, _, words = by_annotator(records)
    return _repeated([battle], sides(words))


def by_annotator(records: Records) -> tuple[Ints, Ints, Floats]:
    """(C,) battles, (C,) annotators and (C, 4) what they say: parts by weight, then the mean over
    samples and over orders."""
    kept = records.readable
    keys = [
        part[kept] for part in (records.battle, records.annotator, records.order, records.sample)
    ]
    keys, words = grouped(keys, records.word[kept], records.weight[kept])
    keys, words = grouped(keys[:3], words)
    keys, words = grouped(keys[:2], words)
    return keys[0], keys[1], words


def sample_reports(records: Records, sampling: Sampling) -> list[SampleReport]:
    """One for each annotator that was asked more than once in one order."""
    several = [repeated_samples(records, place) for place in range(len(records.annotators))]
    means = sampling.means([(one.battle, one.agreed) for one in several])
    return [
        SampleReport(name, mean, one.alpha, int(one.counts.sum(axis=1).max()))
        for name, one, mean in zip(records.annotators, several, means, strict=True)
        if len(one.battle)
    ]


def annotator_report(records: Records, sampling: Sampling) -> AnnotatorReport | None:
    """How far annotators agree; None where no battle has two."""
    several = repeated_annotators(records)
    if not len(several.battle):
        return None
    whole = np.full((len(records.annotators), records.battles, 3), np.nan)
    battle, annotator, words = by_annotator(records)
    said = words[:, :3].sum(axis=1)
    some = said > 0
    whole[annotator[some], battle[some]] = words[some, :3] / said[some, None]
    names = list(combinations(range(len(records.annotators)), 2))
    common = [~np.isnan(whole[[first, second], :, 0]).any(axis=0) for first, second in names]
    hits = [
        (np.flatnonzero(rows), _hits(whole[first, rows], whole[second, rows]))
        for (first, second), rows in zip(names, common, strict=True)
    ]
    means = sampling.means([(several.battle, several.agreed), *hits])
    pairs = []
    for (first, second), rows, accuracy in zip(names, common, means[1:], strict=True):
        if rows.any():
            matrix = confusion(shared_maximum(whole[first, rows]), whole[second, rows])
            kappa, alpha = cohen_kappa(matrix), krippendorff_alpha(matrix)
            named = (records.annotators[first], records.annotators[second])
            pairs.append(PairReport(*named, accuracy, kappa, alpha))
    return AnnotatorReport(len(several.battle), means[0], several.alpha, tuple(pairs))


def _hits(first: Floats, second: Floats) -> Floats:
    return accuracy_rows(shared_maximum(first), second) if len(first) else np.zeros(0)


def _repeated(keys: Sequence[Ints], said: Ints) -> Repeated:
    """Of everything that has the same keys, the battle first, and says A, B or a tie."""
    kept = (said >= 0) & (said <= TIE)
    found, shares, number = counted([key[kept] for key in keys], np.eye(3)[said[kept]])
    several = number > 1
    return Repeated(found[0][several], np.rint(shares * number[:, None])[several])
