"""`arena-judge synth plan`: what is to be annotated is drawn, and what that will cost is said."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options
from judge.cli.classifier_options import Running, classifier_options
from judge.cli.console import Progress, say
from judge.cli.judging import Judging
from judge.cli.prompted_options import Asking
from judge.cli.ticking import follow
from judge.cli.ticking import stop as stop_judging
from synth.cli.plan_sources import Wanted, named_files
from synth.cli.plan_text import Outcome, tell

if TYPE_CHECKING:
    from judge.judges.base import Judge
    from synth.costs import Cost
    from synth.planning import Drawn, Rule

_ALLOCATIONS = ("proportional", "square-root", "equal")
_KEEP = ("no-text", "alike", "near")
_ORDERS = {"ab": ["AB"], "ba": ["BA"], "both": ["AB", "BA"]}
_SLOW = 2  # batches at a judge that takes long: one waits for its last replies, one goes on


def _words(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    if value is None:
        return None
    words = tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
    if not words:
        raise click.BadParameter("name something, such as category,length")
    return words


@click.command()
@click.argument("battles", nargs=-1, metavar="[BATTLES]...")
@click.option(
    "-o",
    "--output",
    default="plan",
    show_default=True,
    metavar="FOLDER",
    help="The plan; an earlier one is replaced.",
)
@click.option(
    "--responses",
    multiple=True,
    metavar="NAME=FILE",
    callback=named_files,
    help="A model's responses; those of several models to the same prompts make battles.",
)
@click.option("--prompts", metavar="FILE", help="The prompts of --responses, or for --generate.")
@click.option(
    "--generate",
    multiple=True,
    metavar="MODEL",
    help="A model that is to answer the --prompts: endpoint:NAME, or NAME. synth run has it do so.",
)
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Battles a prompt, at most, of --responses and --generate.  [default: all pairs]",
)
@click.option(
    "--size", type=click.IntRange(min=1), default=20_000, show_default=True, help="Battles wanted."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    default=0,
    show_default=True,
    help="Of the draw; the same gives the same plan.",
)
@click.option(
    "--by",
    callback=_words,
    metavar="NAMES",
    help="What strata differ in, the most important first: category, length, turns, language, "
    "closeness, source, or columns of the files.  [default: the first five, as far as battles "
    "differ]",
)
@click.option(
    "--allocation",
    type=click.Choice(_ALLOCATIONS),
    default="square-root",
    show_default=True,
    help="What is drawn from a stratum goes with its size, the root of it, or is as much as from "
    "any other.",
)
@click.option(
    "--close",
    type=options.Finite(0, 1, min_open=True),
    metavar="SHARE",
    help="Draw at least this share from the third that the judge is least sure of.",
)
@click.option(
    "--judge",
    "spec",
    default="statistical",
    show_default=True,
    metavar="JUDGE",
    help="Says which battles are close: any that score takes.",
)
@click.option(
    "--per-prompt",
    type=click.IntRange(min=1),
    metavar="K",
    help="Battles with the same prompt, at most.  [default: any number, further ones last in their "
    "stratum]",
)
@click.option(
    "--held-out",
    multiple=True,
    metavar="FILE",
    help="Battles to be judged on later: neither they, nor what is nearly one of them or has the "
    "prompt of one, come into the plan.",
)
@click.option(
    "--keep",
    multiple=True,
    type=click.Choice(_KEEP),
    help="Keep battles without text, with responses that are alike, or nearly the same as others.",
)
@click.option(
    "--annotator",
    "annotators",
    multiple=True,
    metavar="JUDGE",
    help="Who is to annotate: endpoint:MODEL, vllm:FOLDER or the .yaml of a prompted judge.",
)
@click.option("--prompt", metavar="NAME_OR_FILE", help="What they are asked.  [default: annotated]")
@click.option(
    "--order", type=click.Choice(list(_ORDERS)), help="The orders they see.  [default: both]"
)
@click.option("--samples", type=click.IntRange(1, 1000), help="Ballots an order.  [default: 1]")
@click.option(
    "--base-url",
    "base_urls",
    multiple=True,
    metavar="URL",
    help="An OpenAI-compatible server; several share the load.",
)
@click.option("--prices", metavar="FILE", help="Prices that go before those of the package.")
@click.option("--dry-run", is_flag=True, help="Draw and reckon, and write nothing.")
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on standard output.")
@classifier_options
def plan(
    battles: tuple[str, ...],
    output: str,
    responses: dict[str, str],
    prompts: str | None,
    generate: tuple[str, ...],
    pairs: int | None,
    size: int,
    seed: int,
    by: tuple[str, ...] | None,
    allocation: str,
    close: float | None,
    spec: str,
    per_prompt: int | None,
    held_out: tuple[str, ...],
    keep: tuple[str, ...],
    annotators: tuple[str, ...],
    prompt: str | None,
    order: str | None,
    samples: int | None,
    base_urls: tuple[str, ...],
    prices: str | None,
    dry_run: bool,
    workers: int,
    force: bool,
    as_json: bool,
    running: Running,
) -> None:
    """Draw what is to be annotated from BATTLES, from the responses of several models to the same
    prompts, or from prompts that models are to answer.

    Battles that are copies of others but for small edits, that say nothing, or that overlap
    --held-out files are left out and listed in FOLDER/dropped.csv. The rest is put into strata and
    drawn from; any number of battles from the beginning of a plan are such a draw themselves.

    \b
    Example:
      arena-judge synth plan battles.parquet --size 20000 --annotator endpoint:MODEL
      arena-judge synth plan old.csv new.csv --held-out test.csv --close 0.5 -o plan
      arena-judge synth plan battles.csv --by category,length --allocation equal --dry-run
      arena-judge synth plan --responses llama=llama.jsonl --responses qwen=qwen.jsonl --pairs 1
      arena-judge synth plan --prompts prompts.jsonl --generate endpoint:one --generate endpoint:two
    """
    from judge.files.folders import folder_target
    from synth.cli.plan_costs import checked
    from synth.plans import FILE

    wanted = Wanted(battles, responses, prompts, generate, pairs, seed)
    wanted.check()
    inputs = [*wanted.files, *held_out]
    target = folder_target(output, inputs=inputs, force=force, mark=FILE, kind="plan")
    settings = _settings(annotators, prompt, order, samples, base_urls, prices)
    checked(settings)
    rule = _rule(size, seed, by, allocation, close, per_prompt, keep)
    started = time.perf_counter()
    with _judge(spec if rule.wants_closeness else None, base_urls, prices, running) as judge:
        asks = _asks(judge)
        if asks and dry_run:
            raise click.UsageError(
                f"{spec} asks a model about every battle, and a dry run asks nothing; "
                "name another --judge, or draw --by something else than closeness"
            )
        if asks:
            say(f"{spec} is asked about every battle, to find those that are close")
        drawn = _drawn(wanted, rule, judge, held_out, workers)
    replaced = target.exists() and any(target.iterdir())
    costs = _written(target, drawn, settings, dry=dry_run)
    outcome = Outcome(
        None if dry_run else str(target),
        replaced,
        time.perf_counter() - started,
        tuple(_notes(drawn, battles, judge, costs)),
    )
    tell(drawn, outcome, costs, as_json=as_json)


def _rule(
    size: int,
    seed: int,
    by: tuple[str, ...] | None,
    allocation: str,
    close: float | None,
    per_prompt: int | None,
    keep: tuple[str, ...],
) -> Rule:
    from synth.planning import Rule
    from synth.sifting import KEEP

    kept = frozenset(KEEP[name] for name in keep)
    return Rule(size, seed, by, allocation, close, per_prompt, kept)


def _settings(
    annotators: Sequence[str],
    prompt: str | None,
    order: str | None,
    samples: int | None,
    base_urls: Sequence[str],
    prices: str | None,
) -> dict[str, Any]:
    """What plan.yaml says of who is to annotate, and how; what was not said is left open."""
    said = {
        "annotators": list(annotators),
        "prompt": prompt,
        "orders": None if order is None else _ORDERS[order],
        "samples": samples,
        "base_urls": list(base_urls),
        "prices": prices,
    }
    return {name: value for name, value in said.items() if value not in (None, [])}


@contextmanager
def _judge(
    spec: str | None, base_urls: Sequence[str], prices: str | None, running: Running
) -> Iterator[Judge | None]:
    """The judge that says which battles are close; none where nobody asks for it."""
    judging = Judging(Asking({}), running)
    if spec is None:
        judging.heeded([])
        yield None
        return
    from judge.judges import load_judge
    from judge.judges.prompted_settings import DEFAULT, ENDPOINT, PromptedSettings

    settings = DEFAULT
    if spec.startswith(ENDPOINT):
        settings = PromptedSettings(base_urls=tuple(base_urls), prices=prices)
    with closing(load_judge(spec, settings, running.settings())) as judge:
        judging.heeded([judge])
        yield judge


def _notes(
    drawn: Drawn, files: Sequence[str], judge: Judge | None, costs: Sequence[Cost]
) -> Iterator[str]:
    """What a reader of the table and of the cost has to know."""
    from judge.provenance import learned_from

    for file in files if judge is not None else ():
        # It is surer of their battles than of others.
        if judge is not None and learned_from(judge.sources, file):
            yield f"note: {judge.name} learned from {file}, so it finds fewer battles there close"
    if costs and drawn.survey.unwritten[drawn.places].any():
        yield "note: the cost is without the responses that are to be written"


def _asks(judge: Judge | None) -> bool:
    """Whether a judge asks a model."""
    if judge is None or not (judge.members or hasattr(judge, "engine")):
        return False
    from judge.judges.jury import prompted_within

    return bool(prompted_within(judge))


def _drawn(
    wanted: Wanted, rule: Rule, judge: Judge | None, held_out: Sequence[str], workers: int
) -> Drawn:
    from synth.planning import draw_plan

    origins, notes = wanted.origins()
    with Progress("battles", *wanted.expected()) as progress:
        slow = judge is not None and follow([judge], progress)
        found = draw_plan(
            origins,
            rule,
            judge=judge,
            hold=held_out,
            workers=_SLOW if slow else workers,
            tick=None if slow else progress.advance,
            stop=partial(stop_judging, judge) if slow and judge is not None else None,
        )
    for note in notes:
        say(note)
    return found


def _written(
    target: Path, drawn: Drawn, settings: Mapping[str, Any], *, dry: bool
) -> Sequence[Cost]:
    """Writes a plan, a dry one to a place where it does not stay, and says what it will cost."""
    from synth.cli.plan_costs import plan_costs
    from synth.plan_writing import write_plan

    if not dry:
        return plan_costs(write_plan(target, drawn, settings))
    if not settings.get("annotators"):
        return []
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return plan_costs(write_plan(Path(folder) / "plan", drawn, settings))
