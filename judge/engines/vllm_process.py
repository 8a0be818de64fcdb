"""A worker process of vLLM, seen from the process that started it: where it runs, the socket to it,
and why it ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("vllm_worker.py")
_LOG_TAIL = 65536

Line = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a process computes: on a GPU, or on some of the processor's cores.

    Attributes:
        name: as messages call it.
        gpu: its number among those that this process sees; None for a CPU, or the first GPU.
        cores: the cores it keeps to; empty for all.
    """

    name: str
    gpu: int | None = None
    cores: tuple[int, ...] = ()

    def environment(self) -> dict[str, str]:
        """What binds a process to the place."""
        if self.gpu is not None:
            # Numbers count among the GPUs that a scheduler has left visible.
            visible = [
                name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name
            ]
            bound = visible[self.gpu] if self.gpu < len(visible) else str(self.gpu)
            return {"CUDA_VISIBLE_DEVICES": bound}
        return {"CUDA_VISIBLE_DEVICES": ""} if self.cores else {}


class Ended(Exception):
    """A process is gone; the message says why, `kind` what for where it said so itself."""

    def __init__(self, reason: str, kind: str = "ended") -> None:
        super().__init__(reason)
        self.kind = kind


class Process:
    """A worker process and the socket to it.

    Args:
        interpreter: the Python that has vLLM.
        place: where it computes.
        settings: what it is to load.

    Raises:
        Ended: it could not be started.
    """

    def __init__(self, interpreter: str, place: Place, settings: Line) -> None:
        self.place = place
        self._buffer = bytearray()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process is
        ours, theirs = socket.socketpair()
        self._socket = ours
        try:
            with theirs:
                self._process = subprocess.Popen(
                    # -P: its own folder has a file named vllm.py.
                    [interpreter, "-P", str(WORKER), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=[theirs.fileno()],
                    env=os.environ | place.environment(),
                    # Ctrl-C is for this process to act on, which then ends the worker.
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            ours.close()
            self._log.close()
            raise Ended(f"{interpreter} cannot be run ({error})", "interpreter") from error
        self.send(settings | {"gpu": place.gpu, "cores": list(place.cores)})

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, line: Line) -> None:
        """Writes a line; that the process is gone is noticed by who reads."""
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(line).encode() + b"\n")

    def receive(self, seconds: float) -> Line:
        """The next line of the process.

        Raises:
            Ended: it is gone, or says that it cannot go on, or said nothing for so long.
        """
        line = self._line(seconds)
        if "failed" in line:
            kind, message = line["failed"]
            raise Ended(message, kind)
        return line

    def _line(self, seconds: float) -> Line:
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                found: Line = json.loads(line)
                return found
            searched = len(self._buffer)
            try:
                self._socket.settimeout(seconds)
                data = self._socket.recv(1 << 20)
            except TimeoutError:
                raise Ended(f"it gave no sign for {seconds:.0f} s", "silent") from None
            except OSError:
                data = b""
            if not data:
                raise self._how_it_ended()
            self._buffer += data

    def _how_it_ended(self) -> Ended:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return Ended("it closed its connection")
        if code == -signal.SIGKILL:
            return Ended("the system killed it, as it does when memory runs out", "memory")
        if code == -signal.SIGILL:
            return Ended("this processor cannot compute with this dtype; try float32", "device")
        if code < 0:
            return Ended(f"it was ended by {signal.Signals(-code).name}")
        said = self._last_error()
        return Ended(f"it ended with status {code}{': ' if said else ''}{said}")

    def _last_error(self) -> str:
        """The last line of the process's output that names an error."""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL))
        lines = self._log.read().decode(errors="replace").splitlines()
        errors = [line.strip() for line in lines if re.match(r"\s*[\w.]*(Error|Exception)\b", line)]
        return errors[-1][:400] if errors else ""

    def hang_up(self) -> None:
        """Closes the connection, which ends the process when it next looks, and whoever reads."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self, *, patience: float = 3.0) -> None:
        """Ends the process and what it started; returns when it is gone."""
        self.hang_up()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._socket.close()
        self._log.close()
