"""What `compare` looked into, as tables and sentences for a terminal, and for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from judge.cli.comparison_table import gap, p_shown, with_range
from judge.cli.console import clean, count, fit, table

if TYPE_CHECKING:
    from judge.cli.scrutiny import Findings, Measured, Scrutiny
    from judge.comparing.ceiling import Ceiling
    from judge.comparing.slices import Slice, Slices
    from judge.comparing.unleaked import LeakReport

_NAME, _ID, _FIRST = 24, 24, 5


def lines(scrutiny: Scrutiny, findings: Findings, measured: Measured) -> list[str]:
    """What stands below the tables of a comparison; nothing where there is nothing to say."""
    parts = []
    if measured.ceiling is not None:
        parts.append(_ceiling(measured.ceiling))
    if measured.slices is not None:
        parts += _slices(measured.slices)
    parts.append(warnings(scrutiny, findings))
    return [line for part in parts if part for line in ["", *part]]


def warnings(scrutiny: Scrutiny, findings: Findings) -> list[str]:
    """What must be known before the figures are believed: whose labels count, leaks, what is not
    there."""
    notes = [
        *_labels(scrutiny, findings),
        *(line for one in findings.leaks for line in _leaks(one)),
        *_dropped(findings),
        *_unknown(findings),
        *_repeats(findings),
        *_missing(findings),
    ]
    return [clean(note) for note in notes]


def as_dict(scrutiny: Scrutiny, findings: Findings, measured: Measured) -> dict[str, Any]:
    """For `--json`, beside the comparison's own figures."""
    found: dict[str, Any] = {
        "leaks": [asdict(one) for one in findings.leaks],
        "learned_from_unknown": list(findings.unknown),
        "dropped": findings.dropped,
        "repeats": {
            "battles": findings.repeats.battles,
            "opposed": findings.repeats.opposed,
            "ids": [list(pair) for pair in findings.repeated],
        },
        "missing": findings.missing.to_dict("records"),
        "ceiling": None if measured.ceiling is None else asdict(measured.ceiling),
    }
    if findings.relabelled is not None:
        one = findings.relabelled
        found["labels"] = {
            "file": scrutiny.labels,
            "given": one.given,
            "added": one.added,
            "changed": one.changed,
            "unknown": list(one.unknown),
        }
    if measured.slices is not None:
        found["slices"] = asdict(measured.slices)
    return found


# --- tables ---------------------------------------------------------------------------------------


def _ceiling(ceiling: Ceiling) -> list[str]:
    rows = [
        [
            row.name,
            f"{ceiling.battles:,}",
            with_range(row.log_loss, row.low, row.high, ".4f"),
            with_range(row.accuracy, row.accuracy_low, row.accuracy_high, ".3f"),
        ]
        for row in ceiling.rows
    ]
    about = (
        f"People: {count(ceiling.votes, 'vote')} on {count(ceiling.battles, 'battle')} with "
        f"several each, all the same on {ceiling.unanimous:.0%}. No judge can expect less log loss "
        "on these labels than the ceiling"
    )
    rest = ceiling.of - ceiling.battles
    if rest:
        about += f"; {count(rest, 'labelled battle')} without several votes are not in it"
    return [
        *table(["people", "battles", "log loss [95 %]", "accuracy [95 %]"], rows),
        clean(f"{about}."),
    ]


def _slices(slices: Slices) -> list[list[str]]:
    """A table for each thing that battles were sliced by, then what to make of them."""
    found = [_by(name, list(of), slices) for name, of in groupby(slices.slices, lambda s: s.by)]
    notes = [
        f"By {name} all battles are alike ({fit(only, _NAME)})." for name, only in slices.alone
    ]
    notes += [
        f"By {name} there is nothing to show: each of {number} slices has fewer than "
        f"{slices.least} battles."
        for name, number in slices.small
    ]
    pooled = [part for part in slices.slices if part.pooled]
    notes += [
        f"{part.name} by {part.by}: pooled, each has fewer than {slices.least} battles: "
        f"{_some(part.pooled, len(part.pooled))}."
        for part in pooled
    ]
    to_prior, to_best = slices.tests
    if to_prior:
        over = f"over these {count(to_prior, 'difference')} to the prior"
        over += f" and over the {to_best:,} to {slices.best}" * bool(to_best)
        misses = 0.05 * (to_prior + to_best)
        notes.append(
            f"p-values are Holm's, {over}: who looks at many slices finds some that stand out by "
            "chance"
            + (f", and of so many intervals about {misses:.0f} miss. " if misses >= 1 else ". ")
            + "The prior is that of all battles; differences are over battles that both have "
            "judged."
        )
    return [*found, [clean(note) for note in notes]]


def _by(name: str, parts: Sequence[Slice], slices: Slices) -> list[str]:
    several = any(score.against_best is not None for part in parts for score in part.scores)
    header = [f"by {name}", "battles", "log loss [95 %]", "less the prior's [95 %]", "p"]
    header += ["less the best's [95 %]", "p"] if several else []
    rows = []
    for part in parts:
        blank = [""] * (len(header) - 3)
        rows.append([fit(part.name, _NAME), f"{part.battles:,}", f"prior {part.prior:.3f}", *blank])
        for score in part.scores:
            row = [
                f"· {fit(score.name, _NAME - 2)}",
                f"{score.battles:,}",
                with_range(score.log_loss, score.low, score.high, ".3f"),
                gap(score.against_prior, "+.3f"),
                p_shown(score.against_prior),
            ]
            if several:
                row += [gap(score.against_best, "+.3f"), p_shown(score.against_best)]
            rows.append(row)
    return table(header, rows)


# --- sentences ------------------------------------------------------------------------------------


def _labels(scrutiny: Scrutiny, findings: Findings) -> list[str]:
    one = findings.relabelled
    if one is None:
        return []
    line = (
        f"{scrutiny.labels}: labels of {count(one.given, 'battle')}, {one.added:,} of which had "
        f"none and {one.changed:,} another; the other battles "
    )
    line += "count as unlabelled." if scrutiny.labels_only else "keep theirs."
    found = [line]
    if one.unknown:
        ids = count(len(one.unknown), "id")
        which = _some(one.unknown, len(one.unknown))
        found.append(f"{scrutiny.labels}: {ids} of no battle here, left out: {which}.")
    return found


def _leaks(one: LeakReport) -> list[str]:
    learned = one.exact + one.near
    which = f"{_some(one.first, max(learned, one.prompt) if learned else one.prompt)}"
    files = ", ".join(fit(name, 40) for name in one.files[:3])
    if not learned:
        return [
            f"{one.judge} learned from no battle here, but from the prompts of {one.prompt:,} of "
            f"them, with other responses, in {files}: {which}; {_without(one)}."
        ]
    near = f" ({one.near:,} of them but for small edits)" if one.near else ""
    more = f", and from the prompts of {one.prompt:,} others" if one.prompt else ""
    return [
        f"LEAK: {one.judge} learned from {learned:,} of the battles here{near}{more}, in {files}: "
        f"{_some(one.first, learned)}; on them its log loss is {one.learned.log_loss:.4f}, "
        f"{_without(one)}."
    ]


def _without(one: LeakReport) -> str:
    learned = one.exact + one.near
    figure = one.without if learned else one.strange
    if not figure.battles:
        return "and there are no others"
    span = with_range(figure.log_loss, figure.low, figure.high, ".4f")
    text = f"without them {span} on {count(figure.battles, 'battle')}"
    if learned and one.prompt and one.strange.battles:
        text += f", and without the prompts {one.strange.log_loss:.4f} on {one.strange.battles:,}"
    return text


def _dropped(findings: Findings) -> list[str]:
    if not findings.dropped:
        return []
    battles = count(findings.dropped, "labelled battle")
    return [f"{battles} that a judge learned from are left out for all judges (--drop-leaks)."]


def _unknown(findings: Findings) -> list[str]:
    names = [fit(name, _NAME) for name in findings.unknown]
    if not names:
        return []
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return [
        f"What {listed} learned from is not known, so leaks would not be seen: "
        "--trained-on NAME=FILE says it."
    ]


def _repeats(findings: Findings) -> list[str]:
    again = findings.repeats
    if not again.battles:
        return []
    opposed = f", {again.opposed:,} of them with the opposite label" if again.opposed else ""
    pairs = [f"{fit(b, _ID)} is {fit(a, _ID)}" for a, b in findings.repeated[:_FIRST]]
    more = ", …" if again.battles > _FIRST else ""
    return [
        f"{count(again.battles, 'battle')} stand here again{opposed}, swapped or not: "
        f"{', '.join(pairs)}{more}."
    ]


def _missing(findings: Findings) -> list[str]:
    found = []
    for judge, rows in findings.missing.groupby("judge", sort=False):
        absent = int((rows["reason"] == "not in file").sum())
        counts = [f"{absent:,} not in its file"] * bool(absent)
        counts += [f"{len(rows) - absent:,} unjudged"] * bool(len(rows) - absent)
        ids = rows["id"].tolist()
        found.append(f"Missing from {judge}: {', '.join(counts)}: {_some(ids, len(ids))}.")
    return found


def _some(names: Sequence[str], of: int) -> str:
    """The first few names, and that there are more."""
    shown = ", ".join(fit(name, _ID) for name in names[:_FIRST])
    return f"{shown}, …" if of > min(len(names), _FIRST) else shown
