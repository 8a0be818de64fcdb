"""What a command may say about how a prompted judge asks, and what it is told at the end.

`@prompted_options` gives a command the options and one argument, `asking`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options
from judge.cli.console import count, say

if TYPE_CHECKING:
    from judge.consistency import Consistency
    from judge.engines.base import Estimate, Statistics
    from judge.judges.base import Judge
    from judge.judges.prompted import PromptedJudge
    from judge.judges.prompted_settings import PromptedSettings

_ORDERS = {"ab": ("AB",), "ba": ("BA",), "both": ("AB", "BA")}
_POLICIES = ("head-tail", "proportional", "recent", "longest-first", "chunks")


def _gpus(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(number) for number in value.split(","))
    except ValueError:
        raise click.BadParameter("GPUs are numbers, such as 0,1") from None


_OPTIONS = (
    click.option(
        "--base-url",
        "base_urls",
        multiple=True,
        metavar="URL",
        help="An OpenAI-compatible server; several share the load.  [default: $OPENAI_BASE_URL, "
        "or OpenAI]",
    ),
    click.option(
        "--api-key-env",
        multiple=True,
        metavar="NAME",
        help="The environment variable that has the key; several are for as many servers, or take "
        "turns at one.  [default: OPENAI_API_KEY]",
    ),
    click.option(
        "--prompt",
        metavar="NAME_OR_FILE",
        help="discriminator, criterion, reasoned, referenced, or a file.  [default: discriminator]",
    ),
    click.option(
        "--order",
        type=click.Choice(list(_ORDERS)),
        help="The orders that battles are shown in.  [default: both]",
    ),
    click.option("--samples", type=click.IntRange(1, 1000), help="Ballots an order.  [default: 1]"),
    click.option(
        "--temperature",
        type=options.Finite(0, 5),
        help="How freely replies are drawn.  [default: 0, or 0.7 with several samples]",
    ),
    click.option(
        "--logprobs/--no-logprobs",
        default=None,
        help="Votes as distributions, where the server gives log-probabilities.  [default: yes]",
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        help="How often a reply that cannot be read is asked for again.  [default: 2]",
    ),
    click.option(
        "--context",
        type=click.IntRange(min=1),
        metavar="N",
        help="Tokens that prompt and reply may have together.  [default: the model's with vllm:, "
        "else no limit]",
    ),
    click.option(
        "--fit-context",
        type=click.Choice(_POLICIES),
        help="What to keep of longer battles.  [default: head-tail; for a fine-tuned judge, as it "
        "was trained]",
    ),
    click.option(
        "--tokenizer",
        metavar="PATH",
        help="A tokenizer.json or model folder to count tokens with.  [default: the model's own "
        "if it is at hand, else an estimate]",
    ),
    click.option(
        "--concurrency", type=click.IntRange(min=1), help="Calls at once.  [default: 256]"
    ),
    click.option("--rpm", type=options.Finite(0, min_open=True), help="Calls a minute, at most."),
    click.option("--tpm", type=options.Finite(0, min_open=True), help="Tokens a minute, at most."),
    click.option(
        "--timeout",
        type=options.Finite(0, min_open=True),
        help="Seconds a call may take.  [default: 120]",
    ),
    click.option(
        "--client",
        type=click.Choice(["aiohttp", "openai"]),
        help="What sends the calls; the openai package is far slower.  [default: aiohttp]",
    ),
    click.option("--gpus", callback=_gpus, metavar="0,1", help="With vllm:, the GPUs to use."),
    click.option("--adapter", metavar="FOLDER", help="With vllm:, a LoRA adapter."),
    click.option(
        "--ledger",
        metavar="FILE",
        help="Where replies are kept, so that none is paid for twice.  [default: "
        "$ARENA_JUDGE_LEDGER, or a file in the user's cache]",
    ),
    click.option("--no-cache", is_flag=True, default=None, help="Keep and look up no replies."),
    click.option(
        "--max-cost",
        type=options.Finite(0),
        metavar="DOLLARS",
        help="Stop asking before it costs more.",
    ),
    click.option("--prices", metavar="FILE", help="Prices that go before those of the package."),
    click.option(
        "--dry-run",
        is_flag=True,
        default=None,
        help="Estimate calls, tokens and cost; ask nothing, write nothing.",
    ),
)
_NAMES = (
    *("base_urls", "api_key_env", "prompt", "order", "samples", "temperature", "logprobs"),
    *("retries", "context", "fit_context", "tokenizer", "concurrency", "rpm", "tpm", "timeout"),
    *("client", "gpus", "adapter", "ledger", "no_cache", "max_cost", "prices", "dry_run"),
)


def prompted_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options; the command gets what was said as `asking`."""

    def gathered(*args: Any, **values: Any) -> None:
        given = {name: values.pop(name) for name in _NAMES}
        said = {name: value for name, value in given.items() if value not in (None, ())}
        command(*args, **values, asking=Asking(said))

    wrapped: Callable[..., None] = update_wrapper(gathered, command)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@dataclass(frozen=True)
class Asking:
    """What the user said about how to ask.

    Attributes:
        said: the options that were given, by their names.
    """

    said: Mapping[str, Any]

    @property
    def dry_run(self) -> bool:
        return bool(self.said.get("dry_run"))

    @property
    def orders(self) -> tuple[str, ...] | None:
        """The orders that were said."""
        return _ORDERS.get(self.said.get("order", ""))

    def settings(self, seed: int) -> PromptedSettings:
        """What was said, as settings."""
        from judge.judges.prompted_settings import PromptedSettings

        known = {item.name for item in fields(PromptedSettings)}
        values = {name: value for name, value in self.said.items() if name in known}
        if "order" in self.said:
            values["orders"] = self.orders
        if self.said.get("no_cache") and "ledger" in self.said:
            raise click.UsageError("--ledger and --no-cache contradict one another")
        said = frozenset(values)
        values["keep"] = not self.said.get("no_cache")
        return PromptedSettings(**values, seed=seed, dry=self.dry_run, said=said)

    def reports(self, judge: Judge) -> list[Report]:
        """What each prompted judge did."""
        return [
            Report(
                one.name,
                one.engine.statistics,
                one.consistency(),
                one.reading.unreadable,
                tuple(one.engine.notes),
            )
            for one in asked_by(judge)
        ]

    def tell_estimate(self, judge: Judge, battles: str, chunk_rows: int, *, as_json: bool) -> None:
        """What judging a file would come to."""
        from judge.battles import iter_battles

        results = []
        for one in asked_by(judge):
            estimate = one.estimate(iter_battles(battles, chunk_rows=chunk_rows))
            results.append({"judge": one.name, **asdict(estimate)})
            if not as_json:
                for line in _estimated(one.name, estimate):
                    say(line)
        if as_json:
            click.echo(json.dumps({"dry_run": results}))


@dataclass(frozen=True)
class Report:
    """What a prompted judge did in a run.

    Attributes:
        judge: its name.
        statistics: of its engine.
        consistency: of its ballots.
        unreadable: replies that no vote could be read from, those asked again included.
        notes: what its engine wants known.
    """

    judge: str
    statistics: Statistics
    consistency: Consistency
    unreadable: int
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people."""
        done = self.statistics
        parts = [f"{count(done.calls, 'call')}, {done.from_ledger:,} from the ledger"]
        if done.failed:
            parts.append(f"{done.failed:,} failed")
        if done.unsent:
            parts[-1] += f" ({done.unsent:,} of them not sent: the budget was spent)"
        if done.retries:
            parts.append(f"{done.retries:,} attempts made again")
        lines = [f"{self.judge}: {', '.join(parts)}"]
        if done.calls:
            tokens = (
                f"tokens: {done.prompt_tokens:,} in ({done.cached_tokens:,} from the server's "
                f"cache), {done.completion_tokens:,} out"
            )
            cost = f"; cost ${done.cost:,.4f}" if done.cost else ""
            lines.append(tokens + cost)
        lines += self.consistency.lines()
        if self.unreadable:
            lines.append(
                f"{count(self.unreadable, 'reply').replace('replys', 'replies')} unreadable"
            )
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def to_dict(self) -> dict[str, object]:
        """For `--json`; what is not known is null."""
        found = asdict(self.consistency) | {"unreadable_rate": self.consistency.unreadable_rate}
        return {
            "judge": self.judge,
            "statistics": asdict(self.statistics),
            "consistency": {name: _plain(value) for name, value in found.items()},
            "unreadable_replies": self.unreadable,
            "notes": list(self.notes),
        }


def _plain(value: float) -> float | None:
    return None if value != value else value


def _estimated(judge: str, estimate: Estimate) -> list[str]:
    sent = estimate.requests - estimate.from_ledger
    cost = "not known (name its --prices)"
    if estimate.cost is not None:
        cost = f"${estimate.cost:,.4f} at most"
    return [
        f"{judge}: {count(sent, 'call')} to be made, {estimate.from_ledger:,} in the ledger",
        f"tokens: about {estimate.prompt_tokens:,} in, {estimate.completion_tokens:,} out at most; "
        f"cost: {cost}",
        "nothing was asked, nothing was written",
    ]


def asked_by(judge: Judge) -> list[PromptedJudge]:
    """The prompted judges that a judge asks; their code is loaded only where there can be some."""
    if not judge.members and not hasattr(judge, "engine"):
        return []
    from judge.judges.jury import prompted_within

    return prompted_within(judge)
