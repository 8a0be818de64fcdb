"""One command's worth of training: what is read, begun with, trained and written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.config import VOTES, Config
from finetune.processes import ALONE, Processes

if TYPE_CHECKING:
    from finetune.making import Made
    from finetune.training import Speed, Watcher


def run(
    config: Config,
    target: Path,
    *,
    processes: Processes = ALONE,
    watch: Watcher | None = None,
    fresh: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """Makes the judge that a config asks for; see `finetune.making.make`."""
    if config.optimisation.objective == VOTES:
        from finetune.vote_judges import make_writer

        return make_writer(config, target, processes=processes, watch=watch, fresh=fresh, say=say)
    from finetune.making import device_of, make
    from finetune.preparing import read
    from finetune.starting import start

    battles = read(config)
    dev = "no dev battles" if battles.dev is None else f"{len(battles.dev):,} to choose by"
    say(f"{len(battles.train):,} battles to learn from, {dev}")
    begun = start(config, device_of(config, processes))
    return make(
        config,
        battles,
        begun,
        target,
        processes=processes,
        watch=watch,
        fresh=fresh,
        say=say,
    )


def rehearse(config: Config, *, processes: Processes = ALONE, steps: int = 3) -> Speed:
    """How fast training would be and what memory it would take, by some steps of it."""
    if config.optimisation.objective == VOTES:
        from finetune.training import dry_run
        from finetune.vote_judges import prepared

        return dry_run(prepared(config, processes).objective, config, steps, processes=processes)
    from finetune.making import device_of
    from finetune.preparing import objective_of, read
    from finetune.starting import start
    from finetune.training import dry_run

    battles = read(config)
    begun = start(config, device_of(config, processes))
    return dry_run(objective_of(config, begun, battles), config, steps, processes=processes)
