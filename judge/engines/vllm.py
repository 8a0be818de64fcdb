"""Prompts answered by a model on this machine, with vLLM: no server, no key.

    engine = VllmEngine("models/phi3", ledger=Ledger("run.db"), gpus=(0, 1))
    for index, reply in engine.answer(requests): ...

Each GPU has a process of its own (`vllm_worker`), since vLLM takes one model a process and binds it
to its device for good; a thread feeds each from one queue (`vllm_pool`). So a crash in native code
costs a few requests and not the run. Requests that begin alike go to one process together, where
the prefix cache has what they share computed once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from judge.engines.adapters import find_adapter
from judge.engines.base import Engine, Parameters, Reply, Request
from judge.engines.ledger import Ledger
from judge.engines.vllm_pool import Pool, Run, Task
from judge.engines.vllm_process import Ended, Place
from judge.errors import ArenaJudgeError

INTERPRETER = "ARENA_JUDGE_VLLM_PYTHON"
"""The environment variable that names the Python which has vLLM, where this one has not."""

_WINDOW = 512  # requests among which those that begin alike are brought together
_GROUP = 32  # of these, how many go to a process at once
# vLLM's options that make another model of the same files; the others only change how fast it is.
_TELLING = ("hf_overrides", "load_format", "quantization", "revision", "tokenizer")
_SAMPLES = 16  # places at which a large file is read to tell it from another
_SAMPLE_BYTES = 65536


class VllmEngine(Engine):
    """vLLM, started when the first request needs it.

    Args:
        model: a model's folder, or its name on the Hugging Face hub.
        ledger: where replies are kept and looked up; None for nowhere.
        gpus: the GPUs to compute on, a copy of the model on each; empty for the first one, or the
            CPU where there is none.
        cpu_engines: copies side by side on the CPU, each on its share of the cores, where no GPU is
            to be used; 1 leaves the choice of the device to `gpus`.
        adapter: a LoRA adapter's folder (peft's format), applied to every request.
        dtype: as vLLM knows it. By default bfloat16 on a GPU that has it, float16 on one that has
            not, float32 on a CPU, and on a GPU a quantised model's own.
        max_model_len: how many tokens prompt and reply may have together; by default as many as
            the model and the memory allow.
        max_num_seqs: how many requests are computed at once.
        template: a file with a chat template (Jinja) in place of the model's own.
        template_options: names that the template knows, such as `enable_thinking`.
        options: further arguments of `vllm.LLM`; they go before what is chosen here.
        interpreter: the Python that has vLLM; by default $ARENA_JUDGE_VLLM_PYTHON, or this one.
        patience: seconds without a sign after which a process at work counts as dead.

    Raises:
        ArenaJudgeError: there is no such model, adapter or template. That vLLM is not installed, or
            the model not to be loaded, is found out by the first request that needs it.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        ledger: Ledger | None = None,
        gpus: Sequence[int] = (),
        cpu_engines: int = 1,
        adapter: str | Path | None = None,
        dtype: str | None = None,
        max_model_len: int | None = None,
        max_num_seqs: int | None = None,
        template: str | Path | None = None,
        template_options: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        interpreter: str | Path | None = None,
        patience: float = 1800.0,
    ) -> None:
        super().__init__(name=f"vllm:{model}")
        self._model = find_model(model)
        self._adapter = None if adapter is None else find_adapter(adapter, self._model)
        self._settings: dict[str, Any] = {
            "model": self._model,
            "adapter": self._adapter,
            "dtype": dtype,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "template": None if template is None else read_template(template),
            "template_options": dict(template_options or {}),
            "options": dict(options or {}),
        }
        self._places = choose_places(gpus, cpu_engines)
        chosen = interpreter or os.environ.get(INTERPRETER) or sys.executable
        self._interpreter = str(chosen)
        self._patience = patience
        self._ledger = ledger
        self._identity = identify(self._settings)
        self._parameters: tuple[Parameters, Parameters] | None = None
        self._pool: Pool | None = None
        self._starting = threading.Lock()
        self._counting = threading.Lock()

    @property
    def identity(self) -> str:
        """The model as the ledger knows it: its name, and a hash of its files, its adapter and its
        template. A folder that was trained on is another model."""
        return self._identity

    @property
    def max_model_len(self) -> int:
        """How many tokens prompt and reply may have together; loads the model.

        Raises:
            ArenaJudgeError: it cannot be loaded.
        """
        return min(int(ready["length"]) for ready in self._start().ready)

    @property
    def prefix_cache(self) -> tuple[int, int]:
        """Prompt tokens so far, and how many of these vLLM found computed: its own counters."""
        pool = self._pool
        found = pool.counters() if pool is not None else {}
        return found.get("prefix_queries", 0), found.get("prefix_hits", 0)

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that compute, in the order of the GPUs; none before the first
        request."""
        return [] if self._pool is None else self._pool.pids()

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        """See `Engine.answer`. With a ledger, requests that are the same are computed once."""
        stream = enumerate(requests)
        run = Run()
        asked: dict[bytes, Task] = {}
        waiting, room, exhausted = 0, _WINDOW, False
        try:
            while True:
                while not exhausted and waiting < room:
                    window = list(islice(stream, _WINDOW))
                    exhausted = len(window) < _WINDOW
                    tasks, known = self._recall(run, asked, window)
                    if tasks:
                        pool = self._start()
                        room = max(_WINDOW, pool.capacity)
                        waiting += len(tasks)
                        pool.put(group_by_prefix(tasks))
                    for index, reply in known:
                        self._count(reply)
                        yield index, reply
                if not waiting:
                    return
                replies = run.take()
                waiting -= len(replies)
                self._keep(replies)
                for task, reply in replies:
                    asked.pop(task.key or b"", None)
                    self._count(reply)
                    yield task.index, reply
                    for index in task.twins:
                        again = reply if reply.error else replace(reply, from_ledger=True)
                        self._count(again)
                        yield index, again
        finally:
            run.closed = True

    def close(self) -> None:
        """Ends the processes. What others still wait for comes out as failed."""
        with self._starting:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _recall(
        self, run: Run, asked: dict[bytes, Task], window: list[tuple[int, Request]]
    ) -> tuple[list[Task], list[tuple[int, Reply]]]:
        """What is to be computed, and what the ledger has. `asked` holds what is on its way; a
        request that is there already waits for the other's reply."""
        if self._ledger is None:
            return [Task(run, index, request, None, "") for index, request in window], []
        keys = [self._ledger.key(self._identified(request)) for _, request in window]
        found = self._ledger.get_many(keys)
        tasks: list[Task] = []
        known: list[tuple[int, Reply]] = []
        for key, (index, request) in zip(keys, window, strict=True):
            if key in found:
                known.append((index, found[key]))
            elif key in asked:
                asked[key].twins.append(index)
            else:
                asked[key] = Task(run, index, request, key, self._identity)
                tasks.append(asked[key])
        return tasks, known

    def _identified(self, request: Request) -> Request:
        """The request under the name that tells this model from others that are called the same."""
        last = self._parameters
        if last is None or last[0] is not request.parameters:
            parameters = replace(request.parameters, model=self._identity)
            last = self._parameters = request.parameters, parameters
        return replace(request, parameters=last[1])

    def _keep(self, replies: list[tuple[Task, Reply]]) -> None:
        if self._ledger is not None:
            self._ledger.put_many(
                (task.key, task.model, reply) for task, reply in replies if task.key is not None
            )

    def _count(self, reply: Reply) -> None:
        with self._counting:
            self.statistics.count(reply)

    def _count_retries(self, number: int) -> None:
        with self._counting:
            self.statistics.retries += number

    def _start(self) -> Pool:
        """The processes; started where they are not there."""
        with self._starting:
            if self._pool is None:
                try:
                    self._pool = Pool(
                        self._interpreter,
                        self._places,
                        self._settings,
                        patience=self._patience,
                        note=self.notes.append,
                        count_retries=self._count_retries,
                    )
                except Ended as ended:
                    raise ArenaJudgeError(explain(ended, self._model)) from ended
            return self._pool


def group_by_prefix(tasks: Iterable[Task]) -> list[list[Task]]:
    """Tasks whose prompts begin alike, together, in the order of their first; at most 32 in a
    group, so that other processes get some of a prefix that very many share."""
    together: dict[object, list[Task]] = {}
    for task in tasks:
        together.setdefault(task.request.prefix or task.index, []).append(task)
    return [
        group[start : start + _GROUP]
        for group in together.values()
        for start in range(0, len(group), _GROUP)
    ]


def choose_places(gpus: Sequence[int], cpu_engines: int) -> list[Place]:
    """Where the processes compute.

    Raises:
        ArenaJudgeError: there is no sense in what is asked for.
    """
    if os.name != "posix":
        raise ArenaJudgeError("vLLM runs on Linux only; use an endpoint here")
    if any(gpu < 0 for gpu in gpus) or len(set(gpus)) < len(gpus):
        raise ArenaJudgeError(f"GPUs are numbers from 0, each once, not {','.join(map(str, gpus))}")
    if cpu_engines < 1 or (gpus and cpu_engines > 1):
        raise ArenaJudgeError("name GPUs, or a number of engines on the CPU from 1, not both")
    if gpus:
        return [Place(f"GPU {gpu}", gpu) for gpu in gpus]
    if cpu_engines == 1:
        return [Place("this machine")]
    cores = sorted(os.sched_getaffinity(0))
    if cpu_engines > len(cores):
        raise ArenaJudgeError(f"{cpu_engines} engines want a core each, and {len(cores)} are here")
    bounds = [len(cores) * part // cpu_engines for part in range(cpu_engines + 1)]
    return [
        Place(f"CPU part {part}", cores=tuple(cores[bounds[part] : bounds[part + 1]]))
        for part in range(cpu_engines)
    ]


def find_model(model: str | Path) -> str:
    """The model's folder, absolute, or its name on the Hugging Face hub.

    Raises:
        ArenaJudgeError: it can be neither.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ArenaJudgeError(f"{model}: no model folder, it has no config.json")
        return str(folder.resolve())
    if isinstance(model, str) and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model):
        return model
    raise ArenaJudgeError(f"{model}: no such model folder; name a folder, or a model as owner/name")


def read_template(path: str | Path) -> str:
    """A chat template's text.

    Raises:
        ArenaJudgeError: the file cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArenaJudgeError(f"{path}: the chat template cannot be read ({error})") from error


def identify(settings: Mapping[str, Any]) -> str:
    """A model's name and a hash of what decides its replies."""
    digest = hashlib.sha256()
    for name in ("model", "adapter"):
        folder = settings[name]
        if folder is not None and Path(folder).is_dir():
            _hash_folder(digest, Path(folder))
        else:
            digest.update(f"{folder}\0".encode())
    rest = [settings[name] for name in ("template", "template_options", "dtype")]
    rest += [settings["options"].get(name) for name in _TELLING]
    digest.update(json.dumps(rest, sort_keys=True, default=str).encode())
    return f"vllm:{Path(settings['model']).name}@{digest.hexdigest()[:16]}"


def _hash_folder(digest: hashlib._Hash, folder: Path) -> None:
    """Small files whole, large ones at places spread over them: weights of 100 GB are told from
    others in no time, since training changes them everywhere."""
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _SAMPLES * _SAMPLE_BYTES:
                digest.update(file.read())
                continue
            for part in range(_SAMPLES):
                file.seek((size - _SAMPLE_BYTES) * part // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))


def explain(ended: Ended, model: str) -> str:
    """Why there is no engine, in one line, with the mend."""
    reason = " ".join(str(ended).split())
    mends = {
        "missing": f"pip install 'arena-judge[vllm]', or name a Python with it in {INTERPRETER}",
        "interpreter": f"name a Python that has vLLM in {INTERPRETER}",
        "memory": "take a smaller max_model_len, a smaller or a quantised model, or another device",
        "template": "give a chat template",
    }
    if ended.kind in ("missing", "interpreter", "template", "adapter"):
        mend = mends.get(ended.kind)
        return f"{reason}; {mend}" if mend else reason
    if ended.kind == "model":
        mend = "name a folder that is there, or see that the hub can be reached"
        return f"{model}: not found here nor on the Hugging Face hub ({reason}); {mend}"
    if ended.kind == "memory":
        return f"{model}: out of memory ({reason}); {mends['memory']}"
    if ended.kind == "device":
        return f"{model}: {reason}"
    return f"{model}: vLLM cannot load it ({reason})"
