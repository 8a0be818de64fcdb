"""What the figures come to: is the set worth training on?

A figure beyond its first threshold is a warning, beyond its second one severe. They are rules of
thumb, set once: what GPT-4 reaches on pairs that people voted on (the same verdict in both orders
in 86 of 100) is unremarkable, what a coin would reach is severe, and warnings begin about halfway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from judge.metrics import CLASSES

if TYPE_CHECKING:
    from synth.checking.criteria import Criteria
    from synth.checking.humans import Humans
    from synth.checking.looks import Look
    from synth.checking.orders import OrderReport
    from synth.checking.whole import Check

SEVERE, WARNING, NOTE = "severe", "warning", "note"
_RANK = {SEVERE: 2, WARNING: 1, NOTE: 0}

THRESHOLDS: dict[str, tuple[float, float]] = {
    "order consistency": (0.80, 0.65),  # below
    "position bias": (0.10, 0.25),  # either way
    "unreadable": (0.02, 0.10),  # of the records
    "unanswered": (0.02, 0.10),
    "declined": (0.01, 0.10),
    "cut replies": (0.01, 0.10),
    "missing records": (0.02, 0.20),
    "without a label": (0.05, 0.25),  # of the battles
    "samples agree": (0.75, 0.60),  # below
    "annotators agree": (0.40, 0.20),  # Krippendorff's alpha, below
    "one outcome": (0.80, 0.95),  # of the labels
    "ties": (0.15, 0.30),  # further from people's share than that
    "lean": (0.05, 0.15),  # mean P(A) - P(B), further from people's than that
    "uninformative": (1.00, 1.08),  # mean entropy, of 1.0986
    "certain": (0.90, 2.0),  # of the labels; never severe
    "length": (0.05, 0.15),  # longer wins more often than with people
    "length alone": (0.70, 0.85),  # longer wins, where people's labels are not known
    "one vote": (0.90, 0.99),  # of a criterion's votes
    "NA": (0.50, 0.90),  # of a criterion's votes
    "halo": (0.60, 0.90),  # of the ballots
    "contradicted": (0.05, 0.20),  # of the verdicts
    "reasons missing": (0.02, 0.25),
    "reasons templated": (0.10, 0.50),
    "held out": (0.0, 0.0),  # of the battles
    "held-out prompts": (0.0, 2.0),
    "near-duplicates": (0.01, 0.10),
    "refusing responses": (0.10, 0.40),
    "kappa": (0.30, 0.10),  # with people, below
    "dropped": (0.30, 0.70),  # of the battles
}
"""By what is measured: beyond which a finding is a warning, and beyond which it is severe."""

_FEW = 1000
_ENOUGH = 30  # observations that a finding stands on, at least


@dataclass(frozen=True)
class Finding:
    """Something to know before training.

    Attributes:
        severity: "severe", "warning" or "note".
        measure: what was measured (see `THRESHOLDS`).
        value: what it came to.
        text: a sentence about it.
        beyond: how far it is beyond its threshold, for the order of findings.
    """

    severity: str
    measure: str
    value: float
    text: str
    beyond: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Whether the set is worth training on.

    Attributes:
        worth: "yes", "with care" or "no".
        text: the same as a sentence.
        findings: the worst first.
    """

    worth: str
    text: str
    findings: tuple[Finding, ...]


def verdict(check: Check) -> Verdict:
    """What a check comes to."""
    found = [
        *_orders(check),
        *_replies(check),
        *_agreement(check),
        *_labels(check),
        *_looks(check),
        *_criteria(check.criteria, check.records),
        *_reasons(check),
        *_elsewhere(check),
        *_dropped(check),
        *(_humans(check.humans) if check.humans is not None else []),
        *_notes(check),
    ]
    found.sort(key=lambda one: (-_RANK[one.severity], -one.beyond))
    severe = sum(one.severity == SEVERE for one in found)
    warnings = sum(one.severity == WARNING for one in found)
    kept = int((~check.gone).sum())
    left = f"{kept:,} of {check.battles:,} battles are left when those that are unfit are dropped"
    if not kept:
        return Verdict("no", "Not worth training on: no battle is fit for it.", tuple(found))
    if severe:
        text = f"Not worth training on as it is: {_number(severe, 'severe finding')}; {left}."
        return Verdict("no", text, tuple(found))
    if warnings:
        text = f"Worth training on, with care: {_number(warnings, 'warning')}; {left}."
        return Verdict("with care", text, tuple(found))
    return Verdict("yes", f"Worth training on: nothing speaks against it; {left}.", tuple(found))


def _finding(measure: str, value: float, text: str, *, below: bool = False) -> Iterator[Finding]:
    """One, where the value is beyond a threshold."""
    if not math.isfinite(value):
        return
    warning, severe = THRESHOLDS[measure]
    turned = -1.0 if below else 1.0
    if turned * value <= turned * warning:
        return
    scale = abs(severe - warning) or 1.0
    beyond = turned * (value - warning) / scale
    severity = SEVERE if turned * value > turned * severe else WARNING
    yield Finding(severity, measure, value, text, beyond)


def _orders(check: Check) -> Iterator[Finding]:
    several = len(check.by_order) > 1
    for one in check.by_order:
        who = f"{one.annotator}: " if several else ""
        if one.same.of >= _ENOUGH:
            flips = 1.0 - one.same.value
            text = (
                f"{who}order consistency {one.same.value:.0%}: {_share(flips)} of the battles say "
                "more of the position than of the responses"
            )
            yield from _finding("order consistency", one.same.value, text, below=True)
            side = "first" if one.bias.value > 0 else "second"
            text = f"{who}position bias {one.bias.value:+.2f}: what is shown {side} gains by it"
            yield from _finding("position bias", abs(one.bias.value), text)
    alone = [one.annotator for one in check.by_order if one.asked and not one.same.of]
    if alone:
        who = f"{', '.join(alone)}: " if len(alone) < len(check.by_order) else ""
        text = f"{who}asked in one order alone: whatever its position bias is, is in the labels"
        yield Finding(WARNING, "one order", float("nan"), text)


def _replies(check: Check) -> Iterator[Finding]:
    several = len(check.by_order) > 1
    for one in check.by_order:
        who = f"{one.annotator}: " if several else ""
        for measure, number, text in _reply_counts(one):
            share = number / one.asked if one.asked else float("nan")
            yield from _finding(measure, share, f"{who}{share:.1%} of the records {text}")


def _reply_counts(one: OrderReport) -> Iterator[tuple[str, int, str]]:
    yield "unreadable", one.unreadable, "cannot be read"
    yield "unanswered", one.unanswered, "have no reply: run it again before judging the rest"
    yield "declined", one.declined, "are refusals of the annotator"
    if one.cut is not None:
        yield "cut replies", one.cut, "ran into their length: ask for more tokens"
    yield "missing records", one.missing, "are missing, by order and sample: finish the run"


def _agreement(check: Check) -> Iterator[Finding]:
    for one in check.samples:
        if one.agreed.of >= _ENOUGH:
            text = (
                f"{one.annotator}: two samples of one order agree in {one.agreed.value:.0%}; "
                "more of them, or a lower temperature, would make surer labels"
            )
            yield from _finding("samples agree", one.agreed.value, text, below=True)
    both = check.annotators_agree
    if both is not None and both.battles >= _ENOUGH:
        text = f"annotators agree in {both.agreed.value:.0%}, an alpha of {both.alpha:.2f}"
        yield from _finding("annotators agree", both.alpha, text, below=True)


def _labels(check: Check) -> Iterator[Finding]:
    found = check.balance
    share = found.without / check.battles if check.battles else float("nan")
    yield from _finding("without a label", share, f"{share:.0%} of the battles have no label")
    if found.battles < _ENOUGH:
        return
    top = max(range(3), key=lambda place: found.hard[place])
    name = CLASSES[top]
    text = f"{found.hard[top]:.0%} of the labels are {name}: a constant would learn as much"
    yield from _finding("one outcome", found.hard[top], text)
    text = f"mean entropy {found.entropy:.2f} of 1.10 nats: the labels say next to nothing"
    if not found.by_verdict and not check.fitted:
        text += ", as votes do that are counted unfitted (see --aggregator)"
    yield from _finding("uninformative", found.entropy, text)
    text = (
        f"{found.certain.value:.0%} of the labels are next to certain: they were hard votes, and a "
        "judge trained on them will be too sure; log-probabilities or samples would soften them"
    )
    yield from _finding("certain", found.certain.value, text)
    if found.human is not None and found.common is not None and found.people >= _ENOUGH:
        ties, humans = found.common[2], found.human[2]
        text = f"ties make up {ties:.0%} of the labels and {humans:.0%} of people's"
        yield from _finding("ties", abs(ties - humans), text)
        lean = (found.common[0] - found.common[1]) - (found.human[0] - found.human[1])
        text = f"labels lean to {'A' if lean > 0 else 'B'} by {abs(lean):.2f} more than people's"
        yield from _finding("lean", abs(lean), text)
    elif found.lean.known and not found.lean.low <= 0.0 <= found.lean.high:
        text = (
            f"labels lean to {'A' if found.lean.value > 0 else 'B'} by {abs(found.lean.value):.2f}"
        )
        yield from _finding("lean", abs(found.lean.value), text)


def _looks(check: Check) -> Iterator[Finding]:
    for look in check.looks.looks:
        if look.name != "length":  # in words, which is that in characters once more
            yield from _look(look)


def _look(look: Look) -> Iterator[Finding]:
    what = "longer response" if look.name == "characters" else f"response with more {look.name}"
    if look.human.of >= _ENOUGH and look.beyond.low > 0:
        text = (
            f"the {what} wins {look.here.value:.0%} of the decided battles here, and "
            f"{look.human.value:.0%} of them with people"
        )
        yield from _finding("length", look.beyond.value, text)
    elif look.won.of >= _ENOUGH and look.human.of < _ENOUGH:
        text = f"the {what} wins {look.won.value:.0%} of the decided battles"
        yield from _finding("length alone", look.won.value, text)


def _criteria(found: Criteria, records: int) -> Iterator[Finding]:
    if found.single or records < _ENOUGH:
        return
    for one in found.criteria:
        text = (
            f"{one.share:.0%} of the votes on {_words(one.name)} are {one.most}: it never differs"
        )
        yield from _finding("one vote", one.share, text)
        nothing = one.shares[3]
        if one.most != "NA" or one.share <= THRESHOLDS["one vote"][0]:
            text = f"{nothing:.0%} of the votes on {_words(one.name)} are NA"
            yield from _finding("NA", nothing, text)
    text = (
        f"{found.halo.value:.0%} of the ballots have five equal votes: the criteria say one thing "
        "five times"
    )
    yield from _finding("halo", found.halo.value, text)
    text = f"{found.contradicted.value:.0%} of the verdicts go against most of their own votes"
    yield from _finding("contradicted", found.contradicted.value, text)


def _reasons(check: Check) -> Iterator[Finding]:
    found = check.reasons
    if found is None or found.asked < _ENOUGH:
        return
    share = found.missing / found.asked
    yield from _finding("reasons missing", share, f"{share:.0%} of the votes have no reason")
    share = found.templated / found.given if found.given else float("nan")
    text = f"{share:.0%} of the reasons stand word for word in many battles"
    yield from _finding("reasons templated", share, text)


def _elsewhere(check: Check) -> Iterator[Finding]:
    found = check.contamination
    if not check.battles:
        return
    known = found.exact + found.near
    text = f"{_number(known, 'battle')} of held-out files: nothing measured there would be true"
    yield from _finding("held out", known / check.battles, text)
    text = f"{_number(found.prompt, 'battle')} on prompts of held-out files"
    yield from _finding("held-out prompts", found.prompt / check.battles, text)
    again = found.repeated + found.alike
    text = f"{_number(again, 'battle')} there before, but for small edits"
    yield from _finding("near-duplicates", again / check.battles, text)
    refused = (check.refusals.one + check.refusals.both) / check.battles
    text = f"a response of {refused:.0%} of the battles is a refusal"
    yield from _finding("refusing responses", refused, text)


def _humans(found: Humans) -> Iterator[Finding]:
    if found.labels is None or found.common < _ENOUGH:
        return
    prior, own = found.labels.scores[:2]
    text = (
        f"agreement with people: kappa {own.kappa:.2f}, accuracy {own.accuracy:.0%}, where the "
        f"best constant has {prior.accuracy:.0%}"
    )
    yield from _finding("kappa", own.kappa, text, below=True)
    gap = own.against_prior
    if gap is not None and gap.told_apart and gap.value > 0:
        text = (
            f"log loss {own.log_loss:.2f}, worse than the class prior's {prior.log_loss:.2f}: as "
            "probabilities the labels cannot be trusted; count votes by a judge that was fitted "
            "(--aggregator)"
        )
        yield Finding(WARNING, "log loss", own.log_loss, text)


def _dropped(check: Check) -> Iterator[Finding]:
    share = float(check.gone.mean()) if check.battles >= _ENOUGH else 0.0
    text = f"{share:.0%} of the battles are unfit: what is left is no sample of what was drawn"
    yield from _finding("dropped", share, text)


def _notes(check: Check) -> Iterator[Finding]:
    if check.battles < _FEW:
        text = f"{_number(check.battles, 'battle')}: few to train on"
        yield Finding(NOTE, "battles", float(check.battles), text)
    if check.filtered:
        text = (
            f"{_number(check.filtered, 'battle')} were left out before: the figures are of what is "
            "left, and the annotators are no better than their check said"
        )
        yield Finding(NOTE, "filtered", float(check.filtered), text)
    if check.criteria.single:
        text = "each ballot is one verdict under every criterion, so nothing is known of criteria"
        yield Finding(NOTE, "criteria", float("nan"), text)
    if check.humans is None:
        text = "people labelled none of the battles, so nothing is known of how right labels are"
        yield Finding(NOTE, "people", float("nan"), text)
    if not check.contamination.held_out:
        text = "no --held-out file was named, so nothing is known of contamination"
        yield Finding(NOTE, "held out", float("nan"), text)


def _share(value: float) -> str:
    """A share in words where one fits: a third, a quarter."""
    for part, words in (
        (1 / 2, "half"),
        (1 / 3, "a third"),
        (1 / 4, "a quarter"),
        (1 / 5, "a fifth"),
    ):
        if abs(value - part) < 0.02:
            return words
    return f"{value:.0%}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
