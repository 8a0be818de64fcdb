"""Jobs over the workers of a Ray cluster: files in, files out.

    with joined(Cluster(actors=2)):
        for job in done(jobs, make, cluster):
            ...

A job reads one file and writes another, whole or not at all, so that it can be done again when its
worker was lost, and so that nothing but names goes through the cluster. All machines see the files
at the same place.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judge.errors import ArenaJudgeError

LOCAL = "local"
TRIES = 3
"""How often a job is begun before it is held to be what ends its workers."""

_SPARE = 2  # CPUs of a cluster of our own that Ray has for itself, next to the workers
_STORE_BYTES = 1 << 27  # only names of files go through the object store
# Nothing is reported to anybody, and what Ray says of itself stays in its own logs.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without a GPU of its own sees none
}

Work = Callable[[Path, Path], None]
"""Does a job: takes the file to read and the one to write, and raises `ArenaJudgeError` for what
the user can mend."""


@dataclass(frozen=True)
class Cluster:
    """Where jobs are done.

    Attributes:
        address: `local` for a cluster of this machine that ends with the run, `auto` for the one
            that this machine is part of, or an address.
        actors: how many workers; None for as many as there is room for.
        gpus: of each worker; None for one where the work runs on GPUs and there are some.
        cpus: of each worker.
    """

    address: str = LOCAL
    actors: int | None = None
    gpus: float | None = None
    cpus: int = 1


@dataclass(frozen=True)
class Job:
    """What a worker does: reads `source`, writes `target`."""

    source: Path
    target: Path


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """Is connected to the cluster in the block; to one that this process has joined already, it
    stays.

    Raises:
        ArenaJudgeError: Ray is not installed, or the cluster cannot be had.
    """
    needed()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    own = cluster.address == LOCAL and "ray" not in sys.modules
    if own and "RAY_AUTH_MODE" not in os.environ:
        # Ray listens on all interfaces, whatever it is told: whoever has no token is sent away.
        # It reads this when it is imported.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        with _silent():
            ray.init(**_said(cluster), log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # whatever it raises, it is one thing to the user
        raise ArenaJudgeError(
            f"no Ray cluster at {cluster.address}: {_line(error)}; see --ray-address"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing is on standard error in the block: Ray says there that it was told to be silent."""
    sys.stderr.flush()
    with Path(os.devnull).open("wb") as nothing:
        before = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


def needed() -> None:
    """Sees to it that Ray is there.

    Raises:
        ArenaJudgeError: it is not.
    """
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise ArenaJudgeError(
            "--on ray needs ray, which is not installed; pip install 'arena-judge[ray]'"
        )


def done(
    jobs: Sequence[Job],
    make: Callable[[], Work],
    cluster: Cluster,
    *,
    on_gpus: bool = False,
) -> Iterator[int]:
    """The numbers of jobs as they are done, in any order; those of a lost worker are done again.

    Args:
        jobs: what is to be done.
        make: makes a worker's work, once in each; both are sent to it.
        cluster: which has been joined.
        on_gpus: whether the work would have a GPU where there are some.

    Raises:
        ArenaJudgeError: what the work raised, a job that ends its workers, or no room for one.
    """
    if not jobs:
        return
    for job in jobs:  # what ended the workers of an earlier run may have been mended
        _tries(job.target).unlink(missing_ok=True)
    import ray
    import ray.data

    resources: Any = ray.cluster_resources  # whose types are not said
    count, gpus = _room(cluster, len(jobs), on_gpus, resources())
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    items = [
        {"job": number, "source": str(job.source.resolve()), "target": str(job.target.resolve())}
        for number, job in enumerate(jobs)
    ]
    results = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=count),
        fn_constructor_args=(make, os.getcwd()),
        num_cpus=cluster.cpus,
        num_gpus=gpus or None,
    )
    try:
        for row in results.iter_rows():
            if row["error"]:
                raise ArenaJudgeError(row["error"])
            yield int(row["job"])
    except ray.exceptions.RayError as error:
        raise ArenaJudgeError(f"the Ray cluster gave up: {_line(error)}") from error


def _said(cluster: Cluster) -> dict[str, Any]:
    if cluster.address != LOCAL:
        return {"address": cluster.address}
    usable = getattr(os, "sched_getaffinity", None)
    cpus = len(usable(0)) if usable else os.cpu_count() or 1
    return {
        "address": LOCAL,
        "include_dashboard": False,
        "num_cpus": max(cpus, (cluster.actors or 1) * cluster.cpus) + _SPARE,
        "object_store_memory": _STORE_BYTES,
    }


def _room(cluster: Cluster, jobs: int, on_gpus: bool, there: dict[str, float]) -> tuple[int, float]:
    """How many workers there are to be, and how many GPUs each has."""
    gpus = cluster.gpus
    if gpus is None:
        gpus = 1.0 if on_gpus and there.get("GPU", 0) >= 1 else 0.0
    cpus = there.get("CPU", 0) - (_SPARE if cluster.address == LOCAL else 0)
    room = int(cpus // cluster.cpus)
    if gpus:
        room = min(room, int(there.get("GPU", 0) / gpus + 1e-9))
    wanted = cluster.actors or max(room, 1)
    if room < wanted:
        each = f"{cluster.cpus} CPUs and {gpus:g} GPUs"
        has = f"{cpus:g} CPUs and {there.get('GPU', 0):g} GPUs"
        raise ArenaJudgeError(
            f"there is no room for {wanted:,} workers with {each} each: the Ray cluster has {has}"
        )
    return min(wanted, jobs), gpus


def _line(error: BaseException) -> str:
    """An error's last line, which says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class _Worker:
    """One actor's work, made when its first job comes, so that what cannot be made is said like
    what cannot be done."""

    def __init__(self, make: Callable[[], Work], folder: str) -> None:
        self._make, self._folder = make, folder
        self._work: Work | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        source, target = Path(str(batch["source"][0])), Path(str(batch["target"][0]))
        return {"job": batch["job"], "error": [self._do(source, target)]}

    def _do(self, source: Path, target: Path) -> str:
        """What went wrong, or nothing."""
        if target.is_file():
            return ""  # done by a worker that was lost before it could say so
        try:
            if self._work is None:
                os.chdir(self._folder)  # where names that the user gave start from
            if _begun(target) > TRIES:
                return (
                    f"{source}: a block ended {TRIES} workers; is there too little memory? "
                    "give fewer battles a block"
                )
            if self._work is None:
                self._work = self._make()
            self._work(source, target)
        except ArenaJudgeError as error:
            return str(error)
        except Exception as error:
            logging.getLogger(__name__).exception("a job failed")
            return f"a worker failed: {type(error).__name__}: {_line(error)}"
        _tries(target).unlink(missing_ok=True)
        return ""


def _begun(target: Path) -> int:
    """How often a job was begun, this time included."""
    with _tries(target).open("ab") as file:
        file.write(b".")
    return _tries(target).stat().st_size


def _tries(target: Path) -> Path:
    return target.with_name(target.name + ".begun")
