"""The process that vLLM lives in: one model on one device, spoken to over a socket in JSON lines.

`judge.engines.vllm` starts it as `python -P vllm_worker.py DESCRIPTOR`, with an interpreter that
may be another environment's, since vLLM pins a torch of its own. So this file imports the standard
library alone, and vLLM when it has been told what to load.

It reads one line of settings, answers {"ready": ...} or {"failed": [kind, message]}, and from then
on takes {"ask": [call, ...]} and {"forget": [number, ...]} and gives {"replies": [...]}. Calls join
the running batch as they come and leave it one by one: no batch waits for its slowest reply. The
process ends when the other side closes the socket, also when that side was killed.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 1 << 30
CPU_SEQUENCES = 32
GPU_SEQUENCES = 256
# vLLM's own default on a CPU, 128, would have half a block of 128 tokens computed again in each
# call that shares a prefix; its kernels want multiples of 32.
CPU_BLOCK = 32
CPU_LENGTH = 32768
CPU_STEP = 8192  # tokens; more at once are not faster there
TOP_LOGPROBS = 20

Line = dict[str, Any]


class Failure(Exception):
    """The model cannot be had. Kinds: missing, model, adapter, device, memory, template, engine."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Call:
    """A request ready to be computed."""

    number: int
    tokens: list[int]
    parameters: Any


class Channel:
    """JSON lines over a socket; several threads may write."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("r", encoding="utf-8", newline="\n")
        self._lock = threading.Lock()

    def read(self) -> Line | None:
        """The next line; None when the other side is gone."""
        try:
            line = self._lines.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith("\n") else None

    def write(self, line: Line) -> None:
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            self._socket.sendall(data)


def set_environment(settings: Line) -> None:
    """What vLLM reads from the environment when it is imported; what the user has set stays."""
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        # The engine in this very process: it ends when this process ends, and holds no memory on.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, min(4, _free_memory() // (4 * GIB)))),
    }
    if Path(settings["model"]).is_dir():
        defaults["HF_HUB_OFFLINE"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if settings.get("cores"):
        os.sched_setaffinity(0, settings["cores"])


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def llm_options(
    settings: Line, *, cpu: bool, bf16: bool, config: Mapping[str, Any]
) -> dict[str, Any]:
    """What `vllm.LLM` is made with.

    Args:
        settings: what the engine was asked for; its `options` go before everything here.
        cpu: whether there is no GPU.
        bf16: whether the GPU computes in bfloat16.
        config: the model's config.json, empty where it is not at hand.
    """
    length = settings.get("max_model_len")
    options: dict[str, Any] = {
        "model": settings["model"],
        "dtype": settings.get("dtype") or default_dtype(cpu=cpu, bf16=bf16, config=config),
        # -1: as long as the model and the memory allow.
        "max_model_len": length or -1,
        "max_num_seqs": settings.get("max_num_seqs") or (CPU_SEQUENCES if cpu else GPU_SEQUENCES),
        "max_logprobs": TOP_LOGPROBS,
        "seed": 0,
        "enable_prefix_caching": True,
        # CUDA graphs where there are any.
        "enforce_eager": cpu,
        "disable_log_stats": False,
        # A greedy reply to a schema can go round in white space for ever.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    if cpu:
        # A seeded draw kills the engine there when prefills are cut in chunks, so a step must
        # have room for the longest prompt.
        known = int(config.get("max_position_embeddings") or 0)
        length = length or (min(known, CPU_LENGTH) if known else -1)
        options |= {
            "block_size": CPU_BLOCK,
            "max_model_len": length,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_STEP, length if length > 0 else CPU_LENGTH),
        }
    if settings.get("adapter"):
        options |= {
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": lora_rank(settings["adapter"]),
        }
    return options | dict(settings.get("options") or {})


def default_dtype(*, cpu: bool, bf16: bool, config: Mapping[str, Any]) -> str:
    """bfloat16 needs instructions that many CPUs lack, which ends the process without a word."""
    quantised = "quantization_config" in config
    if cpu:
        return "float16" if quantised else "float32"
    if quantised:
        return "auto"
    return "bfloat16" if bf16 else "float16"


def lora_rank(adapter: str) -> int:
    """The smallest rank vLLM has kernels for that the adapter fits in."""
    try:
        said = json.loads((Path(adapter) / "adapter_config.json").read_text())
        rank = max(map(int, [said["r"], *(said.get("rank_pattern") or {}).values()]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Failure(
            "adapter", f"{adapter}: not a LoRA adapter, it has no adapter_config.json with a rank"
        ) from None
    for known in (8, 16, 32, 64, 128, 256, 320, 512):
        if rank <= known:
            return known
    raise Failure("adapter", f"{adapter}: vLLM takes adapters of rank 512 at most, not {rank}")


def read_config(model: str) -> dict[str, Any]:
    try:
        config = json.loads((Path(model) / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def one_line(error: BaseException) -> str:
    """The line of an error that says what is wrong; vLLM's often come with much advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and "validation error" in lines[0]:
        said = [line for line in lines[1:] if "[type=" in line or line.startswith("Value error")]
        lines = said or lines[1:]
    text = lines[0] if lines else type(error).__name__
    text = re.sub(r"\s*\[type=.*", "", text).removeprefix("Value error, ")
    return text if len(text) <= 300 else text[:299] + "…"


def kind_of(error: BaseException) -> str:
    """What a failed load failed for."""
    text = f"{type(error).__name__} {error}".lower()
    memory = ("outofmemory", "out of memory", "memoryerror", "kv cache", "available memory")
    if any(word in text for word in (*memory, "free memory", "cannot allocate", "cache blocks")):
        return "memory"
    if "device type" in text or "no cuda" in text or "nvidia driver" in text:
        return "device"
    if any(word in text for word in ("repo", "couldn't connect", "not a local folder", "offline")):
        return "model"
    return "engine"


class Model:
    """vLLM with a model loaded, and how requests are put to it.

    Args:
        settings: model, adapter, gpu, template, template_options, dtype, max_model_len,
            max_num_seqs, options.
    """

    def __init__(self, settings: Line) -> None:
        started = time.monotonic()
        if importlib.util.find_spec("vllm") is None:
            raise Failure("missing", f"vLLM is not installed in {sys.executable}'s environment")
        try:
            self._load(settings)
        except Failure:
            raise
        except Exception as error:
            raise Failure(kind_of(error), one_line(error)) from error
        self.seconds = time.monotonic() - started

    def _load(self, settings: Line) -> None:
        # By name: neither is there where the types are checked.
        torch: Any = importlib.import_module("torch")
        vllm: Any = importlib.import_module("vllm")
        cpu = bool(importlib.import_module("vllm.platforms").current_platform.is_cpu())
        if cpu:
            # Sampling has bits that torch would compile: seconds, and a compiler, for nothing.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        gpu = settings.get("gpu")
        if gpu is not None and (cpu or not torch.cuda.is_available()):
            raise Failure("device", f"there is no GPU {gpu} here that vLLM {vllm.__version__} sees")
        bf16 = not cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        options = llm_options(settings, cpu=cpu, bf16=bf16, config=read_config(settings["model"]))
        self._llm: Any = vllm.LLM(**options)
        self._engine: Any = self._llm.llm_engine
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._sampling: Any = vllm.SamplingParams
        self._structured: Any = importlib.import_module(
            "vllm.sampling_params"
        ).StructuredOutputsParams
        self._adapter: Any = None
        if adapter := settings.get("adapter"):
            lora = importlib.import_module("vllm.lora.request")
            self._adapter = lora.LoRARequest("adapter", 1, adapter)
            try:
                # With the first request it would end the engine, and each one after it.
                self._engine.add_lora(self._adapter)
            except Exception as error:
                raise Failure("adapter", f"{adapter}: {one_line(error)}") from error
        self._template: str | None = settings.get("template")
        self._template_options: dict[str, Any] = dict(settings.get("template_options") or {})
        self.length = int(self._engine.model_config.max_model_len)
        self.about = {
            "device": "cpu" if cpu else torch.cuda.get_device_name(0),
            "dtype": str(self._engine.model_config.dtype).removeprefix("torch."),
            "version": str(vllm.__version__),
            "sequences": int(options["max_num_seqs"]),
        }
        try:
            self._render([{"role": "user", "content": "?"}])
        except Exception as error:
            raise Failure("template", f"{settings['model']}: {one_line(error)}") from error

    def _render(self, messages: list[dict[str, str]]) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            messages,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=True,
            **self._template_options,
        )
        # The template has put the special tokens in already.
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def prepare(self, call: Line) -> Call:
        """Renders and tokenises a request; runs beside the computing, in the reading thread.

        Raises:
            ValueError: the request cannot be computed; the message says why.
        """
        try:
            tokens = self._render(call["messages"])
        except Exception:
            merged = merge_system(call["messages"])
            if merged is None:
                raise
            tokens = self._render(merged)
        if len(tokens) + call["max_tokens"] > self.length:
            raise ValueError(
                f"the prompt's {len(tokens)} tokens and {call['max_tokens']} for the reply are "
                f"more than the {self.length} that the model takes"
            )
        constraint = {
            name: call[name] for name in ("json", "choice", "regex") if call.get(name) is not None
        }
        parameters = self._sampling(
            temperature=call["temperature"],
            max_tokens=call["max_tokens"],
            seed=call.get("seed"),
            logprobs=min(call["top_logprobs"], TOP_LOGPROBS) or None,
            structured_outputs=self._structured(**constraint) if constraint else None,
        )
        return Call(call["number"], tokens, parameters)

    def add(self, call: Call) -> None:
        self._engine.add_request(
            str(call.number),
            {"prompt_token_ids": call.tokens},
            call.parameters,
            lora_request=self._adapter,
        )

    def forget(self, numbers: Iterable[int]) -> None:
        self._engine.abort_request([str(number) for number in numbers])

    @property
    def busy(self) -> bool:
        return bool(self._engine.has_unfinished_requests())

    def step(self) -> list[Line]:
        """One forward pass for all that run; the replies that it finished."""
        return [read_output(output) for output in self._engine.step() if output.finished]

    def counters(self) -> dict[str, int]:
        """vLLM's own count of prompt tokens looked up in the prefix cache, and found there."""
        found = {"prefix_queries": 0, "prefix_hits": 0}
        for metric in self._llm.get_metrics():
            for name in found:
                if metric.name == f"vllm:{name.replace('prefix', 'prefix_cache')}":
                    found[name] += int(metric.value)
        return found


def merge_system(messages: list[dict[str, str]]) -> list[dict[str, str]] | None:
    """The system message put before the user's first, for templates that refuse one."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return None
    text = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{"role": "user", "content": text}, *messages[2:]]


def read_output(output: Any) -> Line:
    """vLLM's finished output as a reply."""
    completion = output.outputs[0]
    logprobs = None
    if completion.logprobs is not None:
        logprobs = [
            read_choice(token, entries)
            for token, entries in zip(completion.token_ids, completion.logprobs, strict=False)
        ]
    return {
        "number": int(output.request_id),
        "text": completion.text,
        "finish": completion.finish_reason or "stop",
        "logprobs": logprobs,
        "prompt": len(output.prompt_token_ids),
        "cached": output.num_cached_tokens or 0,
        "completion": len(completion.token_ids),
    }


def read_choice(token: int, entries: Mapping[int, Any]) -> list[Any]:
    """[token, log-probability, [[token, log-probability], ...]] with the likeliest first; tokens
    that the grammar has ruled out are left out."""
    chosen = entries[token]
    top = sorted(
        (entry for entry in entries.values() if math.isfinite(entry.logprob)),
        key=lambda entry: -entry.logprob,
    )
    return [
        chosen.decoded_token or "",
        chosen.logprob,
        [[entry.decoded_token or "", entry.logprob] for entry in top],
    ]


def read_lines(channel: Channel, model: Model, inbox: queue.SimpleQueue[Any]) -> None:
    """Takes calls and hands them on prepared; ends the process when the other side is gone."""
    while (line := channel.read()) is not None:
        if "forget" in line:
            inbox.put(line["forget"])
        for call in line.get("ask", ()):
            try:
                inbox.put(model.prepare(call))
            except Exception as error:
                inbox.put({"number": call["number"], "error": one_line(error)})
    # The other side is gone and nothing computed here can be of use to anyone.
    os._exit(0)


def serve(channel: Channel, model: Model) -> None:
    """Steps the model as long as it has work, and sends what is finished."""
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=read_lines, args=(channel, model, inbox), daemon=True).start()
    while True:
        replies: list[Line] = []
        item = None if model.busy else inbox.get()
        while True:
            if isinstance(item, Call):
                try:
                    model.add(item)
                except Exception as error:
                    replies.append({"number": item.number, "error": one_line(error)})
            elif isinstance(item, list):
                model.forget(item)
            elif item is not None:
                replies.append(item)
            try:
                item = inbox.get_nowait()
            except queue.Empty:
                break
        if model.busy:
            replies += model.step()
        if replies:
            line: Line = {"replies": replies}
            if not model.busy:
                line["counters"] = model.counters()
            channel.write(line)


def main() -> None:
    channel = Channel(int(sys.argv[1]))
    settings = channel.read()
    if settings is None:
        return
    set_environment(settings)
    try:
        model = Model(settings)
        channel.write({"ready": model.about | {"length": model.length, "seconds": model.seconds}})
        serve(channel, model)
    except Failure as failure:
        channel.write({"failed": [failure.kind, str(failure)]})
    except (BrokenPipeError, ConnectionError):
        pass  # the other side is gone
    except Exception as error:
        channel.write({"failed": [kind_of(error), one_line(error)]})
    sys.stdout.flush()
    sys.stderr.flush()
    # vLLM's threads would keep it alive.
    os._exit(1)


if __name__ == "__main__":
    main()
