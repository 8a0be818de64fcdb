"""What `compare` looks into beside the figures of judges: whose labels count, what judges have
learned from, what they left out, how they do on slices, and what people themselves agree on.

`@scrutiny_options` gives a command the options and one argument, `scrutiny`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from judge.cli import outputs
from judge.cli.console import say
from judge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from judge.cli.entrants import Entrant
    from judge.comparing.ceiling import Ceiling
    from judge.comparing.label_files import Relabelled
    from judge.comparing.leaks import Facts, Leaks, Repeats, Seen
    from judge.comparing.marks import Marks
    from judge.comparing.slices import Slices
    from judge.comparing.unleaked import LeakReport
    from judge.comparison import Comparison
    from judge.labelled import Labelled

ALL = "all"
LEAKS = ("judge", "id", "kind", "similarity")
MISSING = ("id", "judge", "reason")
_NO_SLICES = ("id", "prompt", "response_a", "response_b", "label_a", "label_b", "label_tie")


def _names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, map(str.strip, (value or "").split(",")))))
    if value is not None and not names:
        raise click.BadParameter(f"name what to slice by, or {ALL}")
    if set(names) & set(_NO_SLICES):
        raise click.BadParameter(f"{names[0]} is different for every battle")
    return names


_OPTIONS = (
    click.option(
        "--labels",
        metavar="FILE",
        help="Labels (id and winner_... columns) that go before those in LABELLED.",
    ),
    click.option(
        "--labels-only", is_flag=True, help="Leave out battles that --labels has no label for."
    ),
    click.option(
        "--slices",
        callback=_names,
        metavar="all|NAME,...",
        help="Judges on parts of the battles: turns, length, length-difference, language, code, "
        "category, model, or a column of LABELLED.",
    ),
    click.option(
        "--slice-least",
        type=click.IntRange(min=2),
        default=50,
        show_default=True,
        help="Slices of fewer battles are pooled.",
    ),
    click.option(
        "--trained-on",
        multiple=True,
        metavar="[NAME=]FILE",
        help="Battles that a judge learned from whose folder does not say so.",
    ),
    click.option("--leaks", metavar="FILE", help="List battles that judges learned from, as CSV."),
    click.option(
        "--drop-leaks", is_flag=True, help="Leave out battles that any of the judges learned from."
    ),
    click.option("--missing", metavar="FILE", help="List battles that judges left out, as CSV."),
)
_GIVEN = (
    *("labels", "labels_only", "slices", "slice_least"),
    *("trained_on", "leaks", "drop_leaks", "missing"),
)


def scrutiny_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options; the command gets what was said as `scrutiny`."""

    def gathered(*args: Any, **values: Any) -> None:
        given = {name: values.pop(name) for name in _GIVEN}
        if given["labels_only"] and given["labels"] is None:
            raise click.UsageError("--labels-only is for labels from a file: name it by --labels")
        command(*args, **values, scrutiny=Scrutiny(**given))

    wrapped: Callable[..., None] = update_wrapper(gathered, command)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@dataclass(frozen=True)
class Findings:
    """What was looked into before judges are compared.

    Attributes:
        battles: as they are compared.
        relabelled: what labels from a file did; None without one.
        leaks: for each judge that is known to have learned from some of the battles.
        unknown: judges of which it is not known what they learned from.
        repeats: battles that stand in the file again, with the ids of both.
        dropped: battles left out since a judge learned from them.
        missing: a row for each battle that a judge left out.
        leak_table: a row for each leak.
    """

    battles: Labelled
    relabelled: Relabelled | None
    leaks: tuple[LeakReport, ...]
    unknown: tuple[str, ...]
    repeats: Repeats
    repeated: tuple[tuple[str, str], ...]
    dropped: int
    missing: pd.DataFrame
    leak_table: pd.DataFrame


@dataclass(frozen=True)
class Measured:
    """What was looked into after they were compared; None for what there is none of."""

    ceiling: Ceiling | None
    slices: Slices | None


@dataclass(frozen=True)
class Scrutiny:
    """What the user said about it (see the options)."""

    labels: str | None = None
    labels_only: bool = False
    slices: tuple[str, ...] = ()
    slice_least: int = 50
    trained_on: tuple[str, ...] = ()
    leaks: str | None = None
    drop_leaks: bool = False
    missing: str | None = None

    @property
    def read(self) -> list[str]:
        """The files that are read for it."""
        files = [*self.trained_on, *(name.partition("=")[2] for name in self.trained_on)]
        return [*files, *([] if self.labels is None else [self.labels])]

    def targets(
        self, inputs: Sequence[str], force: bool, *, others: Sequence[Path] = ()
    ) -> dict[str, Path]:
        """Where the lists go, `leaks` and `missing`; before any work is done.

        Args:
            inputs: what the command reads.
            force: replace any file.
            others: what else it writes.

        Raises:
            InputError: a path is no place for one.
        """
        found: dict[str, Path] = {}
        for key, name, columns in (
            ("leaks", self.leaks, LEAKS),
            ("missing", self.missing, MISSING),
        ):
            if name is not None:
                found[key] = outputs.target(name, columns, inputs=inputs, force=force)
        paths = [path.resolve() for path in (*others, *found.values())]
        if len(set(paths)) < len(paths):
            raise click.UsageError("two of the outputs are one file")
        return found

    def write(self, targets: dict[str, Path], findings: Findings) -> None:
        """Writes the lists that were asked for."""
        from judge.files.atomic import written_whole

        tables = {"leaks": findings.leak_table, "missing": findings.missing}
        for key, path in targets.items():
            replaced = path.is_file()
            text = tables[key].to_csv(index=False, lineterminator="\n")
            with written_whole(path) as file:
                file.write(text.encode("utf-8", "replace"))
            say(f"{path}: {'replaced' if replaced else 'written'}")

    @property
    def facts(self) -> Facts:
        """What is to be kept of each batch of battles."""
        from judge.comparing.facts import battle_facts, lengths_and_votes
        from judge.comparing.leaks import with_marks
        from judge.comparing.slicing import columns_wanted

        if not self.slices:
            return with_marks(lengths_and_votes)
        columns = [] if ALL in self.slices else columns_wanted(self.slices)
        return with_marks(partial(battle_facts, columns=columns))

    def learned(
        self, field: Sequence[Entrant], *, chunk_rows: int = 4096, workers: int = 1
    ) -> dict[str, Seen]:
        """What the entrants have learned from, as far as it is known: what their folders say, and
        what the user does of the others.

        Raises:
            InputError: a file cannot be read, or is of no entrant.
        """
        from judge.comparing.leaks import merged, seen_by, seen_of

        own = {one.name: None if one.judge is None else seen_by(one.judge) for one in field}
        parts = {name: [] if seen is None else [seen] for name, seen in own.items()}
        for argument in self.trained_on:
            names, file = _of_whom(argument, own)
            seen = seen_of(file, chunk_rows=chunk_rows, workers=workers)
            for name in names:
                parts[name].append(seen)
        return {name: merged(seen) for name, seen in parts.items() if seen}

    def look(
        self,
        field: Sequence[Entrant],
        battles: Labelled,
        learned: dict[str, Seen],
        *,
        rounds: int,
        seed: int,
    ) -> Findings:
        """Looks into battles that all entrants have judged.

        Raises:
            InputError: labels that cannot be had, or nothing is left to compare by.
        """
        import numpy as np

        from judge.comparing.leaks import find_leaks, find_repeats, leak_table
        from judge.comparing.marks import Marks
        from judge.comparing.unleaked import leak_reports

        battles, changed = self._relabelled(battles)
        marks = Marks.from_frame(_facts_of(battles))
        labelled = np.asarray(~np.isnan(battles.labels).any(axis=1), dtype=np.bool_)
        leaks = [find_leaks(name, marks, seen) for name, seen in learned.items()]
        reports = leak_reports(
            leaks,
            battles.ids,
            battles.labels,
            battles.proba,
            battles.prompts,
            rounds=rounds,
            seed=seed,
        )
        repeats = find_repeats(marks, battles.labels)
        left = self._left(leaks, labelled, marks)
        table = leak_table(battles.ids, leaks)
        return Findings(
            battles if left.all() else _only(battles, left),
            changed,
            tuple(reports),
            tuple(one.name for one in field if one.name not in learned),
            repeats,
            tuple((battles.ids[a], battles.ids[b]) for a, b in repeats.places),
            int((labelled & ~left).sum()),
            self._missing(field, battles, left),
            table,
        )

    def measure(
        self, findings: Findings, result: Comparison, *, rounds: int, seed: int
    ) -> Measured:
        """Slices, if they were asked for, and what people agree on."""
        from judge.comparing.ceiling import human_ceiling
        from judge.comparing.slices import compare_slices
        from judge.files.labelling import VOTES

        battles = findings.battles
        facts = _facts_of(battles)
        ceiling = human_ceiling(
            battles.labels,
            facts[list(VOTES)].to_numpy(dtype=float),
            groups=battles.prompts,
            rounds=rounds,
            seed=seed,
        )
        slices = None
        if self.slices:
            names = [score.name for score in result.scores[1:] if score.battles]
            slices = compare_slices(
                battles.labels,
                {name: battles.proba[name] for name in names},
                facts,
                best=result.best,
                groups=battles.prompts,
                by=() if ALL in self.slices else self.slices,
                least=self.slice_least,
                rounds=rounds,
                seed=seed,
            )
        return Measured(ceiling, slices)

    def _relabelled(self, battles: Labelled) -> tuple[Labelled, Relabelled | None]:
        import numpy as np

        from judge.comparing.label_files import read_label_file, relabelled
        from judge.files.labelling import VOTES

        if self.labels is None:
            return battles, None
        given = read_label_file(self.labels)
        changed = relabelled(
            battles.ids, battles.labels, given, only=self.labels_only, file=self.labels
        )
        facts = _facts_of(battles).copy()
        facts.loc[changed.from_file, list(VOTES)] = np.nan  # they made another label
        return replace(battles, labels=changed.labels, facts=facts), changed

    def _left(
        self, leaks: Sequence[Leaks], labelled: npt.NDArray[np.bool_], marks: Marks
    ) -> npt.NDArray[np.bool_]:
        """(N,) the battles that are compared on."""
        import numpy as np

        left = np.ones(len(marks), dtype=np.bool_)
        if self.drop_leaks:
            for one in leaks:
                left &= ~one.learned
        if not (left & labelled).any() and labelled.any():
            raise InputError(
                "judges learned from every labelled battle, so none is left",
                mend="compare on other battles, or without --drop-leaks",
            )
        return left

    def _missing(
        self, field: Sequence[Entrant], battles: Labelled, left: npt.NDArray[np.bool_]
    ) -> pd.DataFrame:
        import numpy as np

        from judge.comparing.missing import missing_table

        files = {
            one.name: frozenset(one.predictions["id"])
            for one in field
            if one.predictions is not None
        }
        labels = np.where(left[:, None], battles.labels, np.nan)
        return missing_table(
            battles.ids, labels, battles.proba, in_file=files, reasons=battles.reasons
        )


def _of_whom(argument: str, own: dict[str, Seen | None]) -> tuple[list[str], str]:
    """The entrants that learned from a file, and the file. A path may hold "=" itself."""
    name, given, file = argument.partition("=")
    if given and name in own:
        return [name], file
    if given and not os.path.exists(argument):
        known = ", ".join(own)
        raise InputError(f"--trained-on speaks of {name!r}", mend=f"name one of {known}")
    silent = [name for name, seen in own.items() if seen is None]
    if not silent:
        raise InputError(
            f"--trained-on {argument} is for judges whose folder does not say what they learned "
            "from, and all do",
            mend="add to what one says: --trained-on NAME=FILE",
        )
    return silent, argument


def _facts_of(battles: Labelled) -> pd.DataFrame:
    if battles.facts is None:
        raise ValueError("battles were read without facts")
    return battles.facts


def length_difference(battles: Labelled) -> npt.NDArray[np.float64]:
    """(N,) log of how many times as long response A is as B."""
    return _facts_of(battles)["length_difference"].to_numpy(dtype=float)


def _only(battles: Labelled, left: npt.NDArray[np.bool_]) -> Labelled:
    """Some of the battles."""
    places = left.nonzero()[0]
    return replace(
        battles,
        ids=[battles.ids[place] for place in places.tolist()],
        labels=battles.labels[left],
        prompts=battles.prompts[left],
        proba={name: proba[left] for name, proba in battles.proba.items()},
        facts=_facts_of(battles).iloc[places].reset_index(drop=True),
        reasons={},
    )
