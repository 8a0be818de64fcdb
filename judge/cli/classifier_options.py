"""What a command may say about how a fine-tuned judge is run.

`@classifier_options` gives a command the options and one argument, `running`. The orders and what
to keep of long battles are said as they are to judges that ask a model (`--order`,
`--fit-context`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from judge.judges.classifier_settings import ClassifierSettings

CHUNKS = "chunks"
"""What may be done with long battles, but not by a fine-tuned judge, which reads a battle once."""

_MOST_TOKENS = 1 << 24
_DTYPES = ("auto", "float32", "bfloat16", "float16")


def _words(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """What stands between commas, of all times that an option was given."""
    words = [word.strip() for value in values for word in value.split(",")]
    if not all(words):
        raise click.BadParameter("a name is empty; write cpu, cuda:0 or mps")
    return tuple(words)


def _numbers(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[int, ...]:
    words = [word.strip() for value in values for word in value.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise click.BadParameter("lengths are numbers of tokens, such as 512,1024")
    numbers = tuple(map(int, words))
    if not all(0 < number <= _MOST_TOKENS for number in numbers):
        raise click.BadParameter(f"a length is from 1 to {_MOST_TOKENS:,} tokens")
    if len(set(numbers)) < len(numbers):
        raise click.BadParameter("name each length once")
    return numbers


_OPTIONS = (
    click.option(
        "--device",
        multiple=True,
        callback=_words,
        metavar="DEVICE",
        help="Where a fine-tuned judge runs: cpu, cuda:0, mps; several share the work.  [default: "
        "all GPUs, or the processor]",
    ),
    click.option(
        "--dtype",
        type=click.Choice(_DTYPES),
        help="Numbers that a fine-tuned judge computes in.  [default: auto, what the device is "
        "fast in]",
    ),
    click.option(
        "--quantize",
        type=click.Choice(["8bit", "4bit", "none"]),
        help="How a fine-tuned judge's weights are held (needs bitsandbytes).  [default: none]",
    ),
    click.option(
        "--lengths",
        multiple=True,
        callback=_numbers,
        metavar="N[,N...]",
        help="Tokens that a fine-tuned judge reads at most; what it says with each of several "
        "lengths is averaged.  [default: as it was trained]",
    ),
    click.option(
        "--batch-tokens",
        type=click.IntRange(min=1, max=1 << 32),
        metavar="N",
        help="Tokens that a fine-tuned judge works through at once.  [default: what suits the "
        "device]",
    ),
    click.option(
        "--share-prompt/--no-share-prompt",
        default=None,
        help="Work what both orders begin with through once, in fine-tuned causal models.  "
        "[default: where it pays]",
    ),
    click.option(
        "--attention",
        type=click.Choice(["auto", "packed", "padded"]),
        help="How a fine-tuned judge's sequences are put together.  [default: auto, packed where "
        "the model allows]",
    ),
    click.option(
        "--template",
        metavar="NAME",
        help="With hf:, how battles are put: a-then-b or interleaved.  [default: a-then-b]",
    ),
)
NAMES = (
    *("device", "dtype", "quantize", "lengths", "batch_tokens", "share_prompt", "attention"),
    "template",
)


def classifier_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options; the command gets what was said as `running`."""

    def gathered(*args: Any, **values: Any) -> None:
        given = {name: values.pop(name) for name in NAMES}
        said = {name: value for name, value in given.items() if value not in (None, ())}
        command(*args, **values, running=Running(said))

    wrapped: Callable[..., None] = update_wrapper(gathered, command)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@dataclass(frozen=True)
class Running:
    """What the user said about how fine-tuned judges are run.

    Attributes:
        said: the options that were given, by their names.
    """

    said: Mapping[str, Any]

    def settings(
        self, orders: tuple[str, ...] | None = None, policy: str | None = None
    ) -> ClassifierSettings:
        """What was said, as settings; orders and policy are None where nothing was."""
        from judge.judges.classifier_settings import ClassifierSettings

        values = dict(self.said)
        if values.get("quantize") == "none":
            values["quantize"] = None
        if orders is not None:
            values["orders"] = orders
        if policy is not None and policy != CHUNKS:
            values["policy"] = policy
        return ClassifierSettings(**values, said=frozenset(values))
