"""A real Slurm of one node for the tests that want one; what is not there skips them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NEEDED = ("sbatch", "slurmctld", "slurmd", "munged", "runuser")
CONFIG = """
ClusterName=t
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def awaited(what: Any, seconds: float, said: str) -> None:
    """Waits until something holds."""
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, said
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster of this machine; tests that use it are of the group `slurm`."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"Slurm cannot be started here: {', '.join(missing) or 'not root'}")
    place = tmp_path_factory.mktemp("slurm")
    for part in ("state", "spool"):
        (place / part).mkdir()
    host = socket.gethostname().partition(".")[0]
    file = place / "slurm.conf"
    file.write_text(CONFIG.format(host=host, place=place, ports=free_ports(2)))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(file)
    munge = None
    if not Path("/run/munge/munge.socket.2").exists():
        run("install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge")
        munge = subprocess.Popen(["runuser", "-u", "munge", "--", "munged", "--foreground"])
        awaited(Path("/run/munge/munge.socket.2").exists, 20, "munged does not start")
    try:
        run("slurmctld")
        run("slurmd", "-N", host)
        awaited(lambda: "idle" in run("sinfo", "-h", "-o", "%T"), 60, "the node does not come up")
        yield place
    finally:
        for name in ("slurmd", "slurmctld"):
            pid = place / f"{name}.pid"
            if pid.exists():
                os.kill(int(pid.read_text()), signal.SIGTERM)
                awaited(lambda pid=pid: not pid.exists(), 30, f"{pid.stem} does not end")  # type: ignore[misc]
        if munge is not None:
            munge.terminate()
            munge.wait(20)
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def idle() -> bool:
    """Whether no job is left."""
    return not run("squeue", "-h").strip()
