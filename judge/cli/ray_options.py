"""What a command may say of the machines that battles are judged on.

`@ray_options` gives a command the options and one argument, `cluster`: None for here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import click

from judge.cli.options import Finite

if TYPE_CHECKING:
    from judge.distributed.cluster import Cluster

_NAMES = ("on", "ray_address", "actors", "actor_gpus", "actor_cpus")
_OPTIONS = (
    click.option(
        "--on",
        type=click.Choice(["here", "ray"]),
        default="here",
        show_default=True,
        help="Judge on this machine, or block by block on a Ray cluster; what is written is the "
        "same, and a killed run goes on.",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="With --on ray: local (a cluster of this machine, for this run), auto (the one that "
        "this machine is in), HOST:PORT, or ray://HOST:PORT.  [default: local]",
    ),
    click.option(
        "--actors",
        type=click.IntRange(1, 1_000_000),
        metavar="N",
        help="With --on ray: how many workers.  [default: as many as there is room for]",
    ),
    click.option(
        "--actor-gpus",
        type=Finite(0, 1024),
        metavar="N",
        help="With --on ray: GPUs of each worker.  [default: 1 for fine-tuned judges, where there "
        "are some]",
    ),
    click.option(
        "--actor-cpus",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="With --on ray: CPUs of each worker.  [default: 1]",
    ),
)


def ray_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options; the command gets what was said as `cluster`."""

    def gathered(*args: Any, **values: Any) -> None:
        said = {name: values.pop(name) for name in _NAMES}
        command(*args, **values, cluster=_cluster(**said))

    wrapped: Callable[..., None] = update_wrapper(gathered, command)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _cluster(
    on: str,
    ray_address: str | None,
    actors: int | None,
    actor_gpus: float | None,
    actor_cpus: int | None,
) -> Cluster | None:
    said = {
        "--ray-address": ray_address,
        "--actors": actors,
        "--actor-gpus": actor_gpus,
        "--actor-cpus": actor_cpus,
    }
    if on == "here":
        useless = [name for name, value in said.items() if value is not None]
        if useless:
            raise click.UsageError(f"{useless[0]} is for --on ray")
        return None
    from judge.distributed.cluster import LOCAL, Cluster, needed

    needed()
    return Cluster(ray_address or LOCAL, actors, actor_gpus, actor_cpus or 1)


def check_devices(devices: tuple[str, ...]) -> None:
    """Sees to it that nobody chooses a GPU for workers, which have those that Ray gives them.

    Raises:
        click.UsageError: somebody does.
    """
    if any(name not in ("cpu", "cuda") for name in devices):
        raise click.UsageError(
            "with --on ray a worker has the GPUs that Ray gives it; leave --device out, or say cpu"
        )
