"""What `synth check` found, as tables and sentences for a terminal, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from judge.cli.comparison_table import finite, gap, with_range
from judge.cli.console import clean, count, fit, table

if TYPE_CHECKING:
    from judge.comparing.scores import Comparison
    from synth.checking.estimates import Estimate
    from synth.checking.findings import Verdict
    from synth.checking.whole import Check

_NAME = 24
_DASH = "-"
# What is told otherwise, or is as long as the set.
_NOT_AS_IS = ("labels", "drops", "gone", "rules", "relabelled")


def lines(check: Check, said: Verdict) -> list[str]:
    """Everything, the verdict last."""
    parts = [
        _heading(check),
        _annotators(check),
        _criteria(check),
        _repeated(check),
        _labels(check),
        _looks(check),
        _people(check),
        _counts(check),
        _drops(check),
        _verdict(said),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part).split("\n")


def as_json(check: Check, said: Verdict) -> str:
    """Every figure; null for what is not known."""
    from synth.checking.drops import counts

    found = {
        name: _plain(getattr(check, name))
        for name in check.__dataclass_fields__
        if name not in _NOT_AS_IS
    }
    changed = check.relabelled
    found |= {
        "relabelled": None
        if changed is None
        else {
            "given": changed.given,
            "added": changed.added,
            "changed": changed.changed,
            "unknown": list(changed.unknown),
        },
        "rules": {**asdict(check.rules), "applied": sorted(check.rules.applied)},
        "reasons_to_drop": counts(check.drops),
        "dropped": int(check.gone.sum()),
        "kept": int((~check.gone).sum()),
        "verdict": asdict(said),
    }
    return json.dumps(finite(found), allow_nan=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _heading(check: Check) -> list[str]:
    known = [one if one else "an unknown order" for one in check.orders]
    who = f"{count(check.records, 'record')} by {count(len(check.annotators), 'annotator')}"
    over = f"{count(check.battles, 'battle')}, {count(check.prompts, 'prompt')}"
    return [clean(f"{check.name}: {over}; {who}; shown in {' and '.join(known) or 'no order'}")]


def _annotators(check: Check) -> list[str]:
    if not check.by_order:
        return []
    head = ["annotator", "records", "unreadable", "no reply", "declined", "cut", "missing"]
    head += ["same in both orders [95 %]", "for the first [95 %]"]
    rows = [
        [
            fit(one.annotator, _NAME),
            f"{one.asked:,}",
            *(_of(number, one.asked) for number in (one.unreadable, one.unanswered, one.declined)),
            _DASH if one.cut is None else _of(one.cut, one.asked),
            f"{one.missing:,}",
            _estimate(one.same),
            _estimate(one.bias, "+.3f"),
        ]
        for one in check.by_order
    ]
    silent = sum(one.unasked for one in check.by_order)
    could = [f"{count(silent, 'battle')} could not be asked about."] if silent else []
    return [*table(head, rows), *could]


def _criteria(check: Check) -> list[str]:
    found = check.criteria
    if found.single:
        return ["Criteria: not known; each ballot is one verdict under every criterion."]
    if not found.criteria:
        return []
    several = len(check.by_order) > 1
    rows = []
    for one in found.criteria:
        shares = [f"{share:.1%}" for share in one.shares]
        # Of several annotators the one that keeps its word least.
        told = [by.by[one.name] for by in check.by_order if one.name in by.by]
        same = min((a for a, _ in told if a == a), default=math.nan)
        bias = max((b for _, b in told if b == b), key=abs, default=math.nan)
        rows.append([one.name.replace("_", " "), *shares, _share(same), _signed(bias)])
    worst = " (the worst annotator's)" if several else ""
    head = ["votes", "A", "B", "AB", "NA", f"orders agree{worst}", "for the first"]
    below = [
        f"Five equal votes in {_estimate(found.halo)} of the ballots; verdicts against most of "
        f"their own votes: {_estimate(found.contradicted)}."
    ]
    if check.reasons is not None:
        why = check.reasons
        below.append(
            f"Reasons: {why.given:,} of {why.asked:,} votes have one, {why.distinct:,} different "
            f"ones of {why.words:.0f} words; {why.templated:,} stand in many battles."
        )
        below += [f'  "{fit(text, 70)}" in {count(n, "battle")}' for text, n in why.examples]
    else:
        below.append("Reasons: not known; there are none.")
    return [*table(head, rows), *below]


def _repeated(check: Check) -> list[str]:
    found = [
        f"Samples of {fit(one.annotator, _NAME)} in one order agree in {_estimate(one.agreed)} "
        f"(alpha {_number(one.alpha)})."
        for one in check.samples
    ]
    both = check.annotators_agree
    if both is None:
        return found
    found.append(
        f"Annotators agree in {_estimate(both.agreed)} of the pairs on "
        f"{count(both.battles, 'battle')} (alpha {_number(both.alpha)})."
    )
    rows = [
        [
            f"{fit(one.first, _NAME)} | {fit(one.second, _NAME)}",
            f"{one.accuracy.of:,}",
            _estimate(one.accuracy),
            _number(one.kappa),
            _number(one.alpha),
        ]
        for one in both.pairs
    ]
    return [*found, *(table(["annotators", "battles", "agree", "kappa", "alpha"], rows))]


def _labels(check: Check) -> list[str]:
    found = check.balance
    head = ["labels", "battles", "A", "B", "tie", "likeliest A", "B", "tie"]
    rows = [_three("annotators'", found.battles, found.soft, found.hard)]
    if found.human is not None and found.human_hard is not None:
        rows.append(_three("people's", found.people, found.human, found.human_hard))
    below = (
        f"Mean entropy {_number(found.entropy)} of 1.099 nats; next to certain: "
        f"{_estimate(found.certain)}; without a label: {found.without:,}; "
        f"{found.by_verdict:,} are verdicts, the others counted votes."
    )
    return [*table(head, rows), below]


def _three(name: str, battles: int, soft: Sequence[float], hard: Sequence[float]) -> list[str]:
    return [name, f"{battles:,}", *(_share(value) for value in (*soft, *hard))]


def _looks(check: Check) -> list[str]:
    head = ["more of it wins", "decided", "annotators [95 %]", "people [95 %]", "beyond [95 %]"]
    rows = [
        [
            one.name,
            f"{one.won.of:,}",
            _estimate(one.won),
            _estimate(one.human),
            _estimate(one.beyond, "+.3f"),
        ]
        for one in check.looks.looks
    ]
    slopes = (check.looks.slope, check.looks.human_slope)
    below = f"Log-odds of A with A e times as long: {_signed(slopes[0])}"
    below += f", with people {_signed(slopes[1])}." if slopes[1] == slopes[1] else "."
    return [*table(head, rows), below]


def _people(check: Check) -> list[str]:
    found = check.humans
    if found is None:
        return ["People: not known; none of the battles has a label of theirs."]
    head = ["against people", "battles", "log loss [95 %]", "less the prior's [95 %]"]
    head += ["accuracy", "decided", "kappa", "alpha", "ECE"]
    rows = []
    for one in (found.labels, found.votes, *found.annotators):
        rows += [] if one is None else [_compared(one)]
    if found.labels is not None:
        rows.append(_compared(found.labels, 0))
    told = [
        f"{one.name}: {with_range(one.log_loss, one.low, one.high, '.4f')}"
        for one in ([] if found.ceiling is None else found.ceiling.rows)
    ]
    changed = check.relabelled
    if changed is not None:
        told.append(f"{changed.given:,} labels from the file, {changed.added:,} of them new")
    return [*(table(head, rows) if rows else []), *(clean(line) for line in told)]


def _compared(found: Comparison, place: int = 1) -> list[str]:
    one = found.scores[place]
    return [
        fit(one.name, _NAME),
        f"{one.battles:,}",
        with_range(one.log_loss, one.low, one.high, ".4f"),
        gap(one.against_prior),
        *(_number(v) for v in (one.accuracy, one.decided_accuracy, one.kappa, one.alpha)),
        _number(one.calibration_error),
    ]


def _counts(check: Check) -> list[str]:
    one, refused = check.contamination, check.refusals
    held = (
        f"{one.exact:,} battles are in held-out files, {one.near:,} but for small edits, and the "
        f"prompts of {one.prompt:,} others (of {one.held_out:,} held out)."
        if one.held_out
        else "Held-out files: not known; name them by --held-out."
    )
    told = f"Refusals: {refused.one:,} battles with one, {refused.both:,} with two"
    if refused.against is not None:
        told += f"; the other response won {refused.against:,} of {refused.labelled:,}"
    return [
        held,
        f"There before: {one.repeated:,} battles, {one.alike:,} more but for small edits.",
        f"{told}; {count(refused.declined, 'record')} of annotators that declined.",
    ]


def _drops(check: Check) -> list[str]:
    from synth.checking.drops import REASONS, counts

    rows = [
        [name, f"{number:,}", "yes" if name in check.rules.applied else "no", REASONS[name][1]]
        for name, number in counts(check.drops).items()
    ]
    if not rows:
        return ["Nothing to drop."]
    made = table(["reason to drop", "battles", "applied", "what it is"], rows, left=4)
    return [*made, f"{int(check.gone.sum()):,} of {count(check.battles, 'battle')} go."]


def _verdict(said: Verdict) -> list[str]:
    return [*(clean(f"{one.severity}: {one.text}") for one in said.findings), "", clean(said.text)]


# --- cells ----------------------------------------------------------------------------------------


def _estimate(one: Estimate, form: str = ".1%") -> str:
    return with_range(one.value, one.low, one.high, form)


def _of(number: int, total: int) -> str:
    return f"{number:,} ({number / total:.1%})" if total and number else f"{number:,}"


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else _DASH


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else _DASH


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else _DASH
