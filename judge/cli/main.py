"""The command `arena-judge`: finds the command that was asked for and says in one line what failed.

Only the command that runs is imported; `--help` knows each one's line from the table below.
"""

from __future__ import annotations

import signal
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn, cast

import click

from judge import __version__
from judge.cli.console import clean
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
    "view": ("judge.cli.view:view", "Browse battles in a web browser, and label them."),
}
INTERRUPTED = 130


class CommandLine(click.Group):
    """A group of commands that are imported when they run, and whose failures are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return cast(click.Command, getattr(import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        close = get_close_matches(args[0], COMMANDS, n=1)
        if close and args[0] not in COMMANDS:
            ctx.fail(f"No such command {args[0]!r}, did you mean {close[0]}")
        return super().resolve_command(ctx, args)

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
