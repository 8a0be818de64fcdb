"""Where the battles of a plan come from, as the command line says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from judge.cli.console import expected_rows

if TYPE_CHECKING:
    from synth.origins import Origin


def named_files(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """NAME=FILE as often as it is given, by the names."""
    found: dict[str, str] = {}
    for value in values:
        name, parted, file = value.partition("=")
        if not parted or not name.strip() or not file:
            raise click.BadParameter(f"{value!r} is not NAME=FILE")
        if name.strip() in found:
            raise click.BadParameter(f"{name.strip()!r} is named twice")
        found[name.strip()] = file
    return found


@dataclass(frozen=True)
class Wanted:
    """Files of battles, files of responses by their models, and models that are to answer.

    Attributes:
        battles: files.
        responses: files by models.
        prompts: of the responses, or those to answer.
        generate: the models.
        pairs: how many battles a prompt has at most.
        seed: of what is drawn.
    """

    battles: tuple[str, ...]
    responses: Mapping[str, str]
    prompts: str | None
    generate: tuple[str, ...]
    pairs: int | None
    seed: int

    def check(self) -> None:
        """Sees to it that there is something, and that nothing is said in vain.

        Raises:
            click.UsageError: it is not so.
        """
        made = bool(self.responses or self.generate)
        if not self.battles and not made:
            raise click.UsageError(
                "there is nothing to draw from; name files of battles, --responses, or --generate"
            )
        if self.generate and self.prompts is None:
            raise click.UsageError("--generate wants to know the --prompts")
        for option, given in (("--prompts", self.prompts), ("--pairs", self.pairs)):
            if given is not None and not made:
                raise click.UsageError(f"{option} says nothing without --responses or --generate")

    def origins(self) -> tuple[list[Origin], list[str]]:
        """They, and a list that is filled with what is to be said of them when they are read."""
        from synth.origins import of_files, of_responses, to_write

        notes: list[str] = []
        found = of_files(self.battles)
        if self.responses:
            found.append(
                of_responses(
                    self.responses,
                    self.prompts,
                    pairs=self.pairs,
                    seed=self.seed,
                    told=lambda pairing: notes.extend(pairing.lines()),
                )
            )
        if self.generate and self.prompts is not None:
            models = [name if ":" in name else f"endpoint:{name}" for name in self.generate]
            found.append(to_write(self.prompts, models, pairs=self.pairs, seed=self.seed))
        return found, notes

    @property
    def files(self) -> list[str]:
        """All that is read."""
        prompts = [] if self.prompts is None else [self.prompts]
        return [*self.battles, *self.responses.values(), *prompts]

    def expected(self) -> tuple[int | None, bool]:
        """How many battles there are, where that can be told, and whether it is an estimate."""
        if self.responses or self.generate:
            return None, True
        found = [expected_rows(file) for file in self.battles]
        known = [rows for rows, _ in found if rows is not None]
        total = sum(known) if len(known) == len(found) else None
        return total, any(about for _, about in found)
