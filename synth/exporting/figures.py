"""The figures of `synth check` that a data card shows."""

from __future__ import annotations

from collections.abc import Iterator

from judge.aggregation import Aggregator
from synth.checking.contamination import held_out_battles
from synth.checking.estimates import Estimate
from synth.checking.humans import LABELS
from synth.checking.whole import Check, Options, check
from synth.data import AnnotatedSet

_ROUNDS = 500

Figure = tuple[str, str]
"""What was measured, and what it came to."""


def figures(
    data: AnnotatedSet, *, source: str = "auto", aggregator: Aggregator | None = None, seed: int = 0
) -> list[Figure]:
    """What checking the set finds, in words; what is not known is left out."""
    options = Options(source=source, aggregator=aggregator, rounds=_ROUNDS, seed=seed)
    return list(_figures(check(data, held_out_battles(()), options)))


def _figures(found: Check) -> Iterator[Figure]:
    several = len(found.by_order) > 1
    for report in found.by_order:
        by = f", {report.annotator}" if several else ""
        yield from _share(f"same verdict in both orders{by}", report.same)
        if report.bias.known:
            words = f"{_signed(report.bias)} (+ favours what is shown first)"
            yield f"position bias{by}", words
        if report.asked:
            yield f"unreadable or unanswered{by}", f"{report.unreadable / report.asked:.1%}"
    for sampled in found.samples:
        by = f", {sampled.annotator}" if several else ""
        yield from _share(f"samples that agree{by}", sampled.agreed)
    if found.annotators_agree is not None:
        yield from _share("annotators that agree", found.annotators_agree.agreed)
        yield "Krippendorff's alpha between annotators", f"{found.annotators_agree.alpha:.3f}"
    yield from _share("ballots whose five votes are all the same", found.criteria.halo)
    yield from _share("verdicts that go against their votes", found.criteria.contradicted)
    again = found.contamination.repeated + found.contamination.alike
    yield "battles that are in the set twice, or nearly", f"{again:,} of {found.battles:,}"
    yield from _people(found)


def _people(found: Check) -> Iterator[Figure]:
    """How the labels compare with those of people."""
    if found.humans is None or found.humans.labels is None:
        return
    score = next((one for one in found.humans.labels.scores if one.name == LABELS), None)
    if score is None or not score.battles:
        return
    yield "battles that people have labelled", f"{score.battles:,}"
    interval = score.intervals.get("accuracy")
    span = f" [{interval.low:.1%}, {interval.high:.1%}]" if interval is not None else ""
    yield "label and people's choice the same", f"{score.accuracy:.1%}{span}"
    yield "log loss of the labels on people's", f"{score.log_loss:.4f}"


def _share(what: str, found: Estimate) -> Iterator[Figure]:
    if found.known:
        span = "" if found.low != found.low else f" [{found.low:.1%}, {found.high:.1%}]"
        yield what, f"{found.value:.1%}{span}"


def _signed(found: Estimate) -> str:
    span = "" if found.low != found.low else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.value:+.3f}{span}"
