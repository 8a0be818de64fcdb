"""The data card: what a set is, by whom and how it was made, what it is worth, what it may be used
for. Whoever reads it has nothing else; so what is not known is said to be not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.ballots import CRITERIA
from synth.data import AnnotatedSet
from synth.exporting.columns import KIND_WORDS, meaning
from synth.exporting.counts import Tally
from synth.exporting.drawn import drawn
from synth.exporting.figures import Checked
from synth.exporting.files import Kinds
from synth.exporting.front_matter import front_matter
from synth.exporting.labels import ANNOTATORS, HUMAN, MIXED, TrainingLabels, outcomes
from synth.exporting.markdown import escaped, plain, table

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 40
_LONG = 500
_LANGUAGES = 2000
_LANGUAGE_SHARE = 0.01


@dataclass(frozen=True)
class Licences:
    """Under which terms.

    Attributes:
        of_set: the set's; None where nobody said.
        of_sources: what battles were drawn from, by its name.
    """

    of_set: str | None = None
    of_sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Described:
    """What a card describes.

    Attributes:
        data: the set that was exported.
        labels: of all its battles.
        kept: places of those that were written.
        counts: rows by configuration and split.
        kinds: columns by configuration.
        tally: what was left out.
        checked: what `synth check` says of the set.
    """

    data: AnnotatedSet
    labels: TrainingLabels
    kept: npt.NDArray[np.int64]
    counts: Mapping[str, Mapping[str, int]]
    kinds: Mapping[str, Kinds]
    tally: Tally
    checked: Checked


def card(
    said: Described, title: str, licences: Licences, files: Mapping[str, Mapping[str, str]]
) -> str:
    """The text of README.md."""
    head = front_matter(
        title=title,
        license_name=licences.of_set,
        languages=_languages(said),
        battles=len(said.kept),
        files=files,
    )
    sections = [
        [f"# {escaped(title)}", "", *_what(said)],
        ["## Files", "", *_files(said)],
        ["## Annotators", "", *_annotators(said.data.annotations)],
        ["## How battles were drawn", "", *_drawn(said)],
        ["## Labels", "", *_balance(said)],
        ["## What checking found", "", *_checked(said)],
        ["## What was left out", "", *_left_out(said)],
        ["## Licence and terms", "", *_terms(licences)],
        ["## Known limits", "", *_LIMITS],
        ["## Personal data", "", *_PERSONAL],
    ]
    return head + "\n" + "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def annotators(records: pd.DataFrame) -> list[tuple[str, ...]]:
    """Who was asked with which prompt and parameters, and how much each said: name, model, prompt,
    version, digest, parameters, records, those that could be read."""
    known = [
        name
        for name in ("judge", "model", "prompt", "prompt_version", "prompt_digest", "parameters")
        if name in records.columns
    ]
    read = records[[name for name in CRITERIA if name in records.columns]].notna().any(axis=1)
    cells = (["" if c is None or c != c else str(c) for c in records[name]] for name in known)
    rows = list(zip(*cells, strict=True))
    said = Counter(rows)
    readable = Counter(row for row, one in zip(rows, read.tolist(), strict=True) if one)
    found = []
    for row in sorted(said):
        named = dict(zip(known, row, strict=True))
        texts = (named.get(name, "") for name in _ASKED)
        found.append((*texts, f"{said[row]:,}", f"{readable[row]:,}"))
    return found


_ASKED = ("judge", "model", "prompt", "prompt_version", "prompt_digest", "parameters")


def _what(said: Described) -> list[str]:
    battles, records = (sum(said.counts[name].values()) for name in said.counts)
    models = sorted({row[1] or row[0] for row in annotators(said.data.annotations)})
    by = ", ".join(map(escaped, models[:8])) + (" and others" if len(models) > 8 else "")
    lines = [
        f"{battles:,} {'battle' if battles == 1 else 'battles'}, each a prompt, two responses to "
        "it, and how likely people are to prefer either or neither, as three probabilities. "
        f"{_word(said)} Everything that models said of them is in here: {records:,} records by "
        f"{by or 'nobody'}."
    ]
    people = int((~np.isnan(said.labels.human[said.kept, 0])).sum())
    if people:
        lines += ["", f"People have voted on {people:,} of the battles; see `human_a` and on."]
    return lines


def _word(said: Described) -> str:
    """Whose the probabilities are, in a sentence."""
    origins = {said.labels.origin[place] for place in said.kept.tolist()}
    if origins == {ANNOTATORS}:
        return "The probabilities are those of models, and not of people."
    if origins == {HUMAN}:
        return "The probabilities are shares of the people who were asked."
    if MIXED in origins:
        return "Where people were asked, the probabilities are between theirs and those of models."
    return "The probabilities are those of people where they were asked, else of models."


def _files(said: Described) -> list[str]:
    lines = table(
        ("configuration", "split", "rows"),
        [
            (config, split, f"{rows:,}")
            for config, splits in said.counts.items()
            for split, rows in splits.items()
        ],
    )
    lines += ["", *_LOADING]
    for config, kinds in said.kinds.items():
        rows = [(name, KIND_WORDS[kind], meaning(config, name)) for name, kind in kinds.items()]
        lines += ["", f"Columns of `{config}`:", "", *table(("column", "kind", "what it is"), rows)]
    return lines


def _annotators(records: pd.DataFrame) -> list[str]:
    rows = annotators(records)
    header = ("annotator", "model", "prompt", "version", "digest", "parameters")
    lines = table((*header, "records", "readable"), rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        lines += ["", f"and {len(rows) - _MOST_ROWS:,} more, as the records tell."]
    if not any(row[2] for row in rows):
        lines += ["", "With which prompts the annotators were asked is not known."]
    return lines


def _drawn(said: Described) -> list[str]:
    codes = _languages(said)
    return [
        *drawn(said.data.battles.iloc[said.kept], said.data.manifest.get("plan")),
        "",
        f"Languages: {escaped(', '.join(codes)) if codes else 'not known'}.",
    ]


def _balance(said: Described) -> list[str]:
    proba = said.labels.proba[said.kept]
    likeliest = outcomes(proba)
    mean = proba.mean(axis=0)
    rows = [
        (name, f"{int((likeliest == place).sum()):,}", f"{mean[place]:.1%}")
        for place, name in enumerate(("A", "B", "tie"))
    ]
    lines = table(("outcome", "battles in which it is likeliest", "mean probability"), rows)
    origin = Counter(said.labels.origin[place] for place in said.kept.tolist())
    by = ", ".join(f"{name} {number:,}" for name, number in origin.most_common())
    counted = int((~said.labels.soft.by_verdict[said.kept]).sum())
    lines += ["", f"Whose word the labels are: {by}."]
    if counted:
        lines += ["", f"{counted:,} of the annotators' labels are counted from their votes; the "
                  "others are the mean of their verdicts."]  # fmt: skip
    return lines


def _checked(said: Described) -> list[str]:
    found = said.checked
    if not found.figures:
        return ["Nothing was checked."]
    when = "before battles were dropped from it" if found.filtered else "as it is here"
    lines = [f"`arena-judge synth check` on the set {when}:", ""]
    lines += table(("figure", "value"), found.figures)
    if found.verdict:
        lines += ["", escaped(found.verdict)]
    if found.findings:
        lines += ["", *(f"- {escaped(finding, _LONG)}" for finding in found.findings[:_MOST_ROWS])]
    return lines


def _left_out(said: Described) -> list[str]:
    lines = [f"- {escaped(entry.words)}" for entry in said.tally.left_out]
    lines = lines or ["- Nothing of the annotated set."]
    if said.checked.filtered:
        dropped = said.checked.dropped
        lines += ["", "Checking had dropped battles before, a battle for several reasons perhaps:"]
        lines += ["", *(table(("reason", "battles"), dropped) if dropped else ["- None."])]
    return lines


def _terms(licences: Licences) -> list[str]:
    said = escaped(licences.of_set) if licences.of_set else "not stated: unknown"
    lines = [f"- Of this set: {said}."]
    lines += [f"- Of {escaped(s)}: {escaped(t)}." for s, t in licences.of_sources.items()]
    if not licences.of_sources:
        lines.append("- Of the battles' prompts and responses: not stated: unknown.")
    return [*lines, *_TERMS]


def _languages(said: Described) -> list[str]:
    """Codes of the languages of the prompts, the most frequent first."""
    from judge.comparing.language import UNKNOWN, language, named

    battles = said.data.battles.iloc[said.kept[:: len(said.kept) // _LANGUAGES + 1]]
    stated = battles["language"] if "language" in battles.columns else [None] * len(battles)
    found = Counter(
        named(plain(cell)) if isinstance(cell, str) and cell else language("\n".join(turns))
        for cell, turns in zip(stated, battles["prompt"], strict=True)
    )
    del found[UNKNOWN]
    least = _LANGUAGE_SHARE * sum(found.values())
    return [code for code, number in found.most_common(_MOST_ROWS) if number >= least]


_LOADING = [
    "```python",
    "from datasets import load_dataset",
    "",
    'battles = load_dataset("path/to/this/folder", "battles", split="train")',
    'records = load_dataset("path/to/this/folder", "annotations", split="train")',
    "```",
    "",
    "Each file of `battles` is a battle file for `arena-judge` as it stands.",
]
_TERMS = [
    "",
    "Prompts and responses come under the terms of where they are from. Annotations are the output "
    "of the models named above; some models come with terms of their own for what their output may "
    "be used for, training other models among it. Whoever uses this set has to see to both.",
]
_LIMITS = [
    "- Labels by models are not votes by people. They share what models prefer: length, form, "
    "confident wording, answers like their own.",
    "- Annotators may be wrong together, and agreement between them is no proof.",
    "- No person has checked votes, reasons and critiques, and a reason need not be why a model "
    "voted so.",
    "- Nothing was filtered for what is harmful, false or offensive in prompts and responses.",
    "- What the annotators saw in training is not known, nor whether these battles were in it.",
]
_PERSONAL = [
    "Prompts may be what people really wrote, and responses and annotations may repeat it. Nothing "
    "was done to find names, addresses or other personal data in them. Look before you publish, "
    "and take out what somebody asks you to.",
]
