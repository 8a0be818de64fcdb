"""`arena-judge synth export`: an annotated set as training data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from judge.cli import options, outputs
from judge.cli.console import Progress, count, fit, say

if TYPE_CHECKING:
    from judge.aggregation import Aggregator
    from synth.data import AnnotatedSet
    from synth.exporting.counts import Tally
    from synth.exporting.labels import TrainingLabels

PREFERENCE, VOTES, DPO, FOLDER = FORMATS = ("preference", "votes", "dpo", "hf")
# Which options mean something to which formats; the others mean something to all.
_MEANT_FOR = {
    "labels": (PREFERENCE, DPO, FOLDER),
    "source": (PREFERENCE, DPO, FOLDER),
    "hard": (PREFERENCE, FOLDER),
    "prompt": (VOTES, DPO),
    "order": (VOTES, DPO),
    "target": (VOTES,),
    "margin": (DPO,),
    "rejected": (DPO,),
    "test_share": (FOLDER,),
    "title": (FOLDER,),
    "license_id": (FOLDER,),
    "source_licenses": (FOLDER,),
}
_ORDERS = {"ab": ("AB",), "ba": ("BA",), "both": ("AB", "BA")}


def _licences(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> list[tuple[str, str]]:
    """What each source comes under."""
    found = []
    for said in value:
        source, _, terms = (part.strip() for part in said.partition("="))
        if not (source and terms):
            message = f"{said!r} is not of the form SOURCE=LICENCE"
            raise click.BadParameter(message, context, parameter)
        found.append((source, terms))
    return found


@click.command()
@click.argument("data")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    help="preference: battles with soft labels. votes: chat messages whose last is a ballot. dpo: "
    "a right and a wrong ballot of the same messages. hf: a Hugging Face data set and its card.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="A .parquet, .jsonl or (preference) .csv file; for hf a folder.",
)
@click.option("--battles", metavar="FILE", help="The battles, where DATA is a file of votes.")
@click.option(
    "--labels",
    type=click.Choice(["annotators", "human", "mixed"]),
    help="Whose word is the label: the annotators'; people's where there is one, else the "
    "annotators'; or the mean of the two.  [default: annotators; dpo: human]",
)
@click.option(
    "--source",
    type=click.Choice(["auto", "verdict", "votes"]),
    default="auto",
    show_default=True,
    help="What of the annotations is the label: their verdict, their votes, or the verdict where "
    "there is one.",
)
@click.option("--aggregator", metavar="FOLDER", help="Count votes as this judge does, made by fit.")
@click.option("--hard", is_flag=True, help="Label with the likeliest outcome alone.")
@click.option(
    "--prompt",
    metavar="NAME|FILE",
    help="What the student is asked with.  [default: as the annotators were, if it can be]",
)
@click.option(
    "--order",
    type=click.Choice(list(_ORDERS)),
    default="both",
    show_default=True,
    help="How battles are shown.",
)
@click.option(
    "--target",
    type=click.Choice(["consensus", "reply"]),
    default="consensus",
    show_default=True,
    help="The ballot to learn: what all annotations of the battle say, or each reply as it was.",
)
@click.option(
    "--margin",
    type=options.Finite(0, 1),
    default=0.1,
    show_default=True,
    help="By how much the label's likeliest outcome must lead to be right.",
)
@click.option(
    "--rejected",
    type=click.Choice(["replies", "flipped"]),
    default="replies",
    show_default=True,
    help="The wrong ballot: another reply, or where there is none the right one turned around.",
)
@click.option(
    "--test-share",
    type=options.Finite(0, 0.5),
    default=0.0,
    show_default=True,
    help="Share of the battles to hold out as a test split, by prompt.",
)
@click.option("--name", "title", metavar="TEXT", help="What the card calls the data set.")
@click.option("--license", "license_id", metavar="ID", help="The licence of the data set.")
@click.option(
    "--source-license",
    "source_licenses",
    multiple=True,
    metavar="SOURCE=LICENCE",
    callback=_licences,
    help="The licence of what battles were drawn from; repeatable.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the test split."
)
@options.force
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on standard output.")
def export(
    data: str,
    form: str,
    output: str,
    battles: str | None,
    aggregator: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Write the annotated set DATA as training data.

    DATA is a folder that synth run or synth check wrote, or a file of votes with its --battles.
    What cannot be written in the form is left out, and the summary says how much and why.

    \b
    Example:
      arena-judge synth export kept --format preference -o train.parquet
      arena-judge synth export kept --format votes -o chat.jsonl
      arena-judge synth export kept --format votes --prompt criterion -o criteria.jsonl
      arena-judge synth export kept --format dpo --rejected flipped -o pairs.jsonl
      arena-judge synth export kept --format hf --license cc-by-4.0 --test-share 0.05 -o dataset
    """
    _check_meant(click.get_current_context(), form)
    inputs = _inputs(data, battles, aggregator)
    target = _target(form, output, inputs, given["force"])
    replaced = target.exists()

    from synth.data import read_annotated
    from synth.soft_labels import read_aggregator

    annotated = read_annotated(data, battles)
    counting = None if aggregator is None else read_aggregator(aggregator)
    write = {PREFERENCE: _preference, VOTES: _votes, DPO: _pairs, FOLDER: _folder}[form]
    tally, notes = write(annotated, target, counting, given)
    _tell(form, target, tally, notes, replaced, as_json)


Written = tuple["Tally", Sequence[str]]


def _preference(
    data: AnnotatedSet, target: Path, aggregator: Aggregator | None, given: dict[str, Any]
) -> Written:
    from synth.exporting.preference import write_preferences

    return write_preferences(target, data, _labels(data, aggregator, given)), ()


def _votes(
    data: AnnotatedSet, target: Path, aggregator: Aggregator | None, given: dict[str, Any]
) -> Written:
    from synth.exporting.chat import Chats, write_chats
    from synth.exporting.students import student_prompt

    prompt, note = student_prompt(data, given["prompt"])
    with Progress("battles", len(data.battles)) as progress:
        orders = _ORDERS[given["order"]]
        chats = Chats(prompt, given["target"], orders, progress.advance)
        tally = write_chats(target, data, chats, aggregator)
    return tally, _notes(prompt.name, note)


def _pairs(
    data: AnnotatedSet, target: Path, aggregator: Aggregator | None, given: dict[str, Any]
) -> Written:
    from synth.exporting.pairs import FLIPPED, Pairs, write_pairs
    from synth.exporting.students import student_prompt

    flipped = given["rejected"] == FLIPPED
    prompt, note = student_prompt(data, given["prompt"], votes_only=flipped)
    if flipped and prompt.writes:
        raise click.UsageError(
            f"prompt {prompt.name} asks for reasons, and those cannot be turned around; leave "
            "--rejected flipped out, or name a prompt that asks for votes alone"
        )
    labels = _labels(data, aggregator, given | {"labels": given["labels"] or "human"})
    orders = _ORDERS[given["order"]]
    with Progress("battles", len(data.battles)) as progress:
        advance = progress.advance
        pairs = Pairs(prompt, labels, given["margin"], given["rejected"], orders, advance)
        tally = write_pairs(target, data, pairs, aggregator)
    return tally, _notes(prompt.name, note)


def _folder(
    data: AnnotatedSet, target: Path, aggregator: Aggregator | None, given: dict[str, Any]
) -> Written:
    from synth.exporting.card import Licences
    from synth.exporting.dataset import Folder, write_dataset
    from synth.exporting.figures import checked

    licences = Licences(given["license_id"], dict(given["source_licenses"]))
    title = given["title"] or target.resolve().name
    folder = Folder(title, licences, given["test_share"], given["seed"])
    labels = _labels(data, aggregator, given)
    found = checked(data, source=given["source"], aggregator=aggregator, seed=given["seed"])
    tally, counts = write_dataset(target, data, labels, folder, found)
    rows = "; ".join(
        f"{name}: " + ", ".join(f"{number:,} {split}" for split, number in splits.items())
        for name, splits in counts.items()
    )
    notes = [rows]
    if given["license_id"] is None:
        notes.append("the card says that the licence is unknown: --license names one")
    if "test" not in counts["battles"] and given["test_share"]:
        notes.append("no test split: there are too few prompts for one of that share")
    return tally, notes


def _labels(
    data: AnnotatedSet, aggregator: Aggregator | None, given: dict[str, Any]
) -> TrainingLabels:
    from synth.exporting.labels import ANNOTATORS, training_labels

    return training_labels(
        data,
        given["labels"] or ANNOTATORS,
        hard=given["hard"],
        source=given["source"],
        aggregator=aggregator,
    )


def _notes(prompt: str, note: str | None) -> list[str]:
    return [f"asked with the prompt {prompt}", *([note] if note else [])]


def _check_meant(context: click.Context, form: str) -> None:
    """Refuses what would be passed over in silence."""
    for parameter in context.command.params:
        name = parameter.name or ""
        said = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if said and form not in _MEANT_FOR.get(name, FORMATS):
            known = " and ".join(_MEANT_FOR[name])
            raise click.UsageError(f"{parameter.opts[-1]} is for --format {known}, not {form}")


def _inputs(data: str, battles: str | None, aggregator: str | None) -> list[str]:
    """The files that are read."""
    from synth.data import ANNOTATIONS, BATTLES, FILE

    of_set = [str(Path(data) / name) for name in (FILE, BATTLES, ANNOTATIONS)]
    recipe = [] if aggregator is None else [str(Path(aggregator) / "judge.yaml")]
    return [data, *of_set, *([] if battles is None else [battles]), *recipe]


def _target(form: str, output: str, inputs: Sequence[str], force: bool) -> Path:
    """Where it may be written."""
    if form == FOLDER:
        from judge.files.folders import folder_target
        from synth.exporting.dataset import KIND, MARK

        return folder_target(output, inputs=inputs, force=force, mark=MARK, kind=KIND)
    from synth.exporting import chat, pairs, preference
    from synth.exporting.files import check_ending

    module = {PREFERENCE: preference, VOTES: chat, DPO: pairs}[form]
    check_ending(output, module.ENDINGS)
    return outputs.target(output, module.COLUMNS, inputs=inputs, force=force)


def _tell(
    form: str, target: Path, tally: Tally, notes: Sequence[str], replaced: bool, as_json: bool
) -> None:
    if as_json:
        summary = {"output": str(target), "format": form, **tally.settings(), "notes": [*notes]}
        click.echo(json.dumps(summary))
    for note in notes:
        say(note)
    for entry in tally.left_out:
        such = ", ".join(fit(name, 40) for name in entry.ids)
        say(
            f"left out: {entry.words} ({'such as ' if entry.number > len(entry.ids) else ''}{such})"
        )
    did = "replaced" if replaced else "written"
    say(f"{target}: {did}, {count(tally.rows, 'row')} of {count(tally.battles, 'battle')}")
