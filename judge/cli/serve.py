"""`arena-judge serve`: a judge that answers over HTTP."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from judge.cli import options
from judge.cli.console import count, say
from judge.cli.judging import Judging, judge_options, tuned_within
from judge.errors import ArenaJudgeError

if TYPE_CHECKING:
    from judge.judges.base import Judge
    from judge.service.service import Service

UNANSWERED_EXIT = 3

# Tables of ballots from which a prompted judge's consistency is told at the end.
_REMEMBERED = 256


@click.command()
@click.option(
    "--judge",
    "specs",
    multiple=True,
    default=["statistical"],
    show_default="statistical",
    metavar="JUDGE",
    help="A judge that ships with the package, a judge folder (fine-tuned ones, too), "
    "hf:MODEL_OR_FOLDER, a .yaml that composes judges, endpoint:MODEL or vllm:FOLDER; several of "
    "the last two are a jury.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; 0.0.0.0 or :: is everywhere.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 is any that is free.",
)
@click.option(
    "--bearer-env",
    metavar="NAME",
    help="The environment variable with the key that callers must send.  [default: no key]",
)
@click.option(
    "--max-body",
    type=options.Finite(0.001, 1024),
    default=8,
    show_default=True,
    metavar="MIB",
    help="The largest body of a request.",
)
@click.option(
    "--max-battles",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Battles a request.",
)
@click.option(
    "--max-characters",
    type=click.IntRange(min=1),
    default=400_000,
    show_default=True,
    help="Characters a battle.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Battles that may wait; more are refused with 429.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Battles judged at once.",
)
@click.option(
    "--delay",
    type=options.Finite(0, 1000),
    default=5,
    show_default=True,
    metavar="MS",
    help="How long a batch may wait for company while there is a crowd.",
)
@click.option(
    "--grace",
    type=options.Finite(0),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="What is waiting is answered for so long once the server is told to stop.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="For judges that draw at random; the statistical judge does not.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Address and summary as JSON on standard output."
)
@judge_options
def serve(
    specs: tuple[str, ...],
    host: str,
    port: int,
    bearer_env: str | None,
    max_body: float,
    max_battles: int,
    max_characters: int,
    queue: int,
    batch: int,
    delay: float,
    grace: float,
    seed: int,
    as_json: bool,
    judging: Judging,
) -> None:
    """Judge battles over HTTP: POST /v1/judge, one or many, with the probabilities of `score`.

    The page at / says what can be sent and has a form to try it; /healthz is for load balancers,
    /metrics for Prometheus, /openapi.json for programs. SIGTERM or Ctrl-C has what is waiting
    answered and what is new refused; a second one ends it at once.

    \b
    Example:
      arena-judge serve --port 8000
      arena-judge serve --judge judges/mine --host 0.0.0.0 --bearer-env ARENA_JUDGE_KEY
      arena-judge serve --judge endpoint:phi --base-url http://127.0.0.1:9000/v1
      arena-judge serve --judge judges/tuned --device cuda:0 --device cuda:1 --batch 512
    """
    if judging.dry_run:
        raise click.UsageError("--dry-run says nothing to serve; score has it")
    key = _key(bearer_env)
    try:
        from judge.service.limits import MEBIBYTE, Limits
        from judge.service.server import address, is_loopback, listen, run
        from judge.service.service import Service
    except ImportError as error:
        raise ArenaJudgeError(
            f"serving needs {error.name}, which is not installed; pip install 'arena-judge[serve]'"
        ) from None
    limits = Limits(
        body=int(max_body * MEBIBYTE),
        battles=max_battles,
        characters=max_characters,
        queue=queue,
        batch=batch,
        delay=delay / 1000,
    )
    listening = listen(host, port)
    with listening, judging.judge(specs, seed) as judge:
        if hasattr(judge, "seed"):
            judge.seed = seed
        _prepare(judge)
        service = Service(judge, limits, key=key, grace=grace)
        if key is None and not is_loopback(listening):
            say(f"warning: {address(listening)} asks for no key; --bearer-env NAME sets one")
        run(service, listening, lambda: _announce(judge, address(listening), as_json))
        asked = judging.asking.reports(judge)
    _tell(service, as_json)
    for report in asked:
        for line in report.lines():
            say(line)
    if service.unanswered:
        click.get_current_context().exit(UNANSWERED_EXIT)


def _key(variable: str | None) -> str | None:
    """What callers must send."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ArenaJudgeError(f"${variable} has no key; set it, or leave --bearer-env out")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ArenaJudgeError(f"the key in ${variable} cannot be sent in a header; use ASCII only")
    return key


def _prepare(judge: Judge) -> None:
    """Has the first request wait for nothing, and the last million fit the memory."""
    import pandas as pd

    from judge.judges.jury import prompted_within
    from judge.judges.leaves import leaves
    from judge.judges.statistical import StatisticalJudge

    texts = {name: [("text",)] for name in ("prompt", "response_a", "response_b")}
    one = pd.DataFrame({"id": ["0"], **texts})
    for own in leaves([judge]):
        if isinstance(own, StatisticalJudge):
            own.judge(one, ballots=True)
    for tuned in tuned_within([judge]):
        tuned.judge(one)
    for asked in prompted_within(judge):
        asked.remember(_REMEMBERED)


def _announce(judge: Judge, url: str, as_json: bool) -> None:
    """That requests are taken, and where."""
    from judge import __version__

    if as_json:
        said = {"url": url, "judge": judge.name, "version": __version__, "pid": os.getpid()}
        click.echo(json.dumps(said))
    say(f"{judge.name}, arena-judge {__version__}: serving at {url}; Ctrl-C stops it")


def _tell(service: Service, as_json: bool) -> None:
    """What was done, once it is over."""
    metrics = service.metrics
    replies = metrics.replies()
    requests, answered = sum(replies.values()), replies.get("200", 0)
    battles, unjudged = metrics.judged()
    if as_json:
        done = {
            "requests": requests,
            "by_status": replies,
            "battles": battles,
            "unjudged": unjudged,
            "unanswered": service.unanswered,
        }
        click.echo(json.dumps(done))
    parts = [f"{answered:,} of {count(requests, 'request')} answered", count(battles, "battle")]
    if unjudged:
        parts.append(f"{unjudged:,} of them unjudged")
    if service.unanswered:
        turned_away = count(service.unanswered, "request")
        parts.append(f"{turned_away} turned away as the time was up")
    say("stopped: " + ", ".join(parts))
