"""The command `arena-judge`: finds the command that was asked for and says in one line what failed.

Only the command that runs is imported; `--help` knows each one's line from the table below.
"""

from __future__ import annotations

import signal
import sys
from typing import Any, NoReturn

import click

from judge import __version__
from judge.cli.console import clean
from judge.cli.groups import LazyGroup
from judge.errors import ArenaJudgeError

COMMANDS = {
    "score": ("judge.cli.score:score", "Judge battles: probabilities that A, B or neither wins."),
    "compare": ("judge.cli.compare:compare", "Compare judges, predictions and votes on labels."),
    "fit": ("judge.cli.fit:fit", "Learn from labels how to count a judge's votes."),
    "calibrate": (
        "judge.cli.calibrate:calibrate",
        "Mend probabilities that are too sure or not sure enough.",
    ),
    "blend": ("judge.cli.blend:blend", "Learn how several judges make a better one."),
    "cascade": ("judge.cli.cascade:cascade", "Find when a cheap judge may answer alone."),
    "leaderboard": ("judge.cli.leaderboard:leaderboard", "Rate the models that met in battles."),
    "import": ("judge.cli.import_judgments:import_judgments", "Read other tools' judgments."),
    "export": ("judge.cli.export:export", "Convert ballots; write out a ledger."),
    "serve": ("judge.cli.serve:serve", "Judge battles over HTTP."),
    "doctor": ("judge.cli.doctor:doctor", "Say what fine-tuning a model takes, and if it fits."),
    "view": ("judge.cli.view:view", "Browse battles in a web browser, and label them."),
    "synth": ("synth.cli.group:synth", "Make data to train judges on: plan, run, check, export."),
    "finetune": ("finetune.cli.group:finetune", "Train a judge of your own on battles."),
}
INTERRUPTED = 130


class CommandLine(LazyGroup):
    """The command itself, whose failures are one line."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:
            code = _fail(_usage(error), error.exit_code)
        except ArenaJudgeError as error:
            code = _fail(str(error), error.exit_code)
        except click.Abort:
            click.echo("arena-judge: interrupted", err=True)
            code = INTERRUPTED
        except MemoryError:
            code = _fail("out of memory; try fewer --chunk-rows and --workers", 2)
        except OSError as error:
            file = f"{error.filename}: " if error.filename else ""
            code = _fail(f"{file}{error.strerror or error}", 2)
        sys.exit(code if isinstance(code, int) else 0)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    return f"{message}; see {context.command_path} --help" if context else message


def _fail(message: str, code: int) -> int:
    click.echo(f"arena-judge: error: {clean(message)}", err=True)
    return code


@click.group(
    cls=CommandLine,
    table=COMMANDS,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="arena-judge")
@click.pass_context
def cli(context: click.Context) -> None:
    """Which of two answers would people prefer, and how sure can one be?

    \b
    Example:
      arena-judge score battles.csv -o predictions.csv
      arena-judge compare battles.csv predictions.csv
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> NoReturn:
    """The entry point. A polite kill cleans up after itself as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli.main(prog_name="arena-judge")
