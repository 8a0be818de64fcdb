"""One command's worth of training: what is read, begun with, trained and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.settings.config import VOTES, Config
from finetune.training.processes import ALONE, Processes
from judge.errors import InputError

if TYPE_CHECKING:
    from finetune.runs.making import Made
    from finetune.runs.statistics import Statistics
    from finetune.training.loop import Watcher
    from finetune.training.rehearsing import Speed


def run(
    config: Config,
    target: Path,
    *,
    processes: Processes = ALONE,
    watch: Watcher | None = None,
    fresh: bool = False,
    workers: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """Makes the judge that a config asks for; see `finetune.runs.making.make`."""
    if config.optimisation.objective == VOTES:
        from finetune.runs.vote_judges import make_writer

        check_plain(config)
        return make_writer(config, target, processes=processes, watch=watch, fresh=fresh, say=say)
    from finetune.runs.making import device_of, make
    from finetune.runs.preparing import read
    from finetune.runs.starting import start

    battles = read(config, workers=workers)
    dev = "no dev battles" if battles.dev is None else f"{len(battles.dev):,} to choose by"
    say(f"{len(battles.train):,} battles to learn from, {dev}")
    for note in battles.notes:
        say(note)
    begun = start(config, device_of(config, processes))
    return make(
        config, battles, begun, target, processes=processes, watch=watch, fresh=fresh, say=say
    )


def check_plain(config: Config) -> None:
    """Sees to it that ballots are not asked for with what they do not go with.

    Raises:
        InputError: they are.
    """
    parted = config.data.folds is not None or config.distillation.teacher
    if parted and config.optimisation.objective == VOTES:
        raise InputError("folds and teachers are for judges that say who won, not for ballots")


def rehearse(
    config: Config, *, processes: Processes = ALONE, workers: int = 1, steps: int = 3
) -> Speed | Statistics:
    """What would be learned from, and how fast that would be with what memory, by some steps of
    it. Of ballots the latter alone."""
    from finetune.training.rehearsing import dry_run

    if config.optimisation.objective == VOTES:
        from finetune.runs.vote_judges import prepared

        check_plain(config)
        return dry_run(prepared(config, processes).objective, config, steps, processes=processes)
    from finetune.runs.making import device_of
    from finetune.runs.preparing import encoder_of, objective_of, read
    from finetune.runs.starting import start
    from finetune.runs.statistics import measure

    battles = read(config, workers=workers)
    begun = start(config, device_of(config, processes))
    stats = measure(battles.train, encoder_of(begun))
    objective = objective_of(config, begun, battles)
    return replace(stats, speed=dry_run(objective, config, steps, processes=processes))
