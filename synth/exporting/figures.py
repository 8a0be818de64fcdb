"""What `synth check` says of a set, in the words of a data card.

A set that check has filtered says itself what was found before, in its manifest; any other is
checked anew. Either way it is the same summary (see `synth.checking.keeping`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from judge.aggregation import Aggregator
from synth.data import AnnotatedSet

_ROUNDS = 500

Figure = tuple[str, str]
"""What was measured, and what it came to."""


@dataclass(frozen=True)
class Checked:
    """What checking found.

    Attributes:
        filtered: whether this is of the set before battles were dropped from it.
        figures: what was measured; what is not known is left out.
        verdict: a sentence.
        findings: the worst first.
        dropped: reasons for which battles were dropped, and of how many each is true.
    """

    filtered: bool = False
    figures: tuple[Figure, ...] = ()
    verdict: str = ""
    findings: tuple[str, ...] = ()
    dropped: tuple[Figure, ...] = ()


def checked(
    data: AnnotatedSet, *, source: str = "auto", aggregator: Aggregator | None = None, seed: int = 0
) -> Checked:
    """What is known of a set's worth."""
    said = data.manifest.get("check")
    if isinstance(said, Mapping):
        return in_words(said, filtered=True)

    from synth.checking.contamination import held_out_battles
    from synth.checking.findings import verdict
    from synth.checking.keeping import summary
    from synth.checking.whole import Options, check

    options = Options(source=source, aggregator=aggregator, rounds=_ROUNDS, seed=seed)
    found = check(data, held_out_battles(()), options)
    return in_words(summary(found, verdict(found)), filtered=False)


def in_words(said: Mapping[str, Any], *, filtered: bool) -> Checked:
    """A summary in words. It may have been written by hand: what is no figure is passed over."""
    from synth.checking.drops import REASONS

    figures = _mapping(said, "figures")
    findings = said.get("findings")
    dropped = {name: _count(number) for name, number in _mapping(said, "dropped").items()}
    return Checked(
        filtered,
        tuple(_figures(figures)),
        said["verdict"] if isinstance(said.get("verdict"), str) else "",
        tuple(filter(_is_text, findings)) if isinstance(findings, list) else (),
        tuple(
            (REASONS[name][1] if name in REASONS else str(name), number)
            for name, number in dropped.items()
            if filtered and number is not None
        ),
    )


def _figures(figures: Mapping[str, Any]) -> Iterator[Figure]:
    annotators = _mapping(figures, "annotators")
    for name, said in annotators.items():
        if isinstance(said, Mapping):
            yield from _told(said, _OF_ANNOTATOR, f", {name}" if len(annotators) > 1 else "")
    samples = _mapping(figures, "samples_agree")
    for name, value in samples.items():
        told = _share(value)
        if told is not None:
            yield f"samples that agree{f', {name}' if len(annotators) > 1 else ''}", told
    yield from _told(figures, _OF_SET)
    yield from _told(_mapping(figures, "people"), _OF_PEOPLE)


def _told(said: Mapping[str, Any], table: Mapping[str, Any], of: str = "") -> Iterator[Figure]:
    for key, (what, write) in table.items():
        told = write(said.get(key))
        if told is not None:
            yield f"{what}{of}", told


def _mapping(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = said.get(key)
    return found if isinstance(found, Mapping) else {}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _count(value: object) -> str | None:
    number = _number(value)
    return None if number is None else f"{number:,.0f}"


def _share(value: object) -> str | None:
    number = _number(value)
    return None if number is None else f"{number:.1%}"


def _signed(value: object) -> str | None:
    number = _number(value)
    return None if number is None else f"{number:+.3f}"


def _plain(value: object) -> str | None:
    number = _number(value)
    return None if number is None else f"{number:.4g}"


_OF_ANNOTATOR = {
    "records": ("records", _count),
    "unreadable": ("of these unreadable", _count),
    "unanswered": ("of these unanswered", _count),
    "declined": ("of these declined", _count),
    "order_consistency": ("the same verdict in both orders", _share),
    "position_bias": ("position bias (+ favours what is shown first)", _signed),
}
_OF_SET = {
    "annotators_alpha": ("Krippendorff's alpha between annotators", _plain),
    "entropy": ("mean entropy of the labels, of 1.0986 nats", _plain),
    "near_certain": ("labels with a probability of 0.95 or more", _share),
    "longer_wins": ("the longer response wins", _share),
    "longer_wins_with_people": ("the longer response wins with people", _share),
    "halo": ("ballots whose five votes are all the same", _share),
    "contradicted": ("verdicts that go against their votes", _share),
    "near_duplicates": ("battles that are in the set before, or nearly", _count),
    "held_out": ("held-out battles that the set was looked at for", _count),
    "contaminated": ("battles found among them, or nearly", _count),
}
_OF_PEOPLE = {
    "battles": ("battles that people have labelled", _count),
    "accuracy": ("the label is people's choice", _share),
    "decided_accuracy": ("the same where people chose a side", _share),
    "kappa": ("Cohen's kappa with people", _plain),
    "log_loss": ("log loss of the labels on people's", _plain),
    "class_prior_log_loss": ("log loss of the mean label on people's", _plain),
    "calibration_error": ("calibration error on people's labels", _plain),
}
