"""A stand-in for vLLM: as much of its interface as the worker uses, and a scripted model.

The last line of a prompt says what happens: `say TEXT`, `slow TEXT` (five steps), `where` (the
device and the process), `refuse`, `die` (at every try), `die once FILE`, `hang`, `fail` (the engine
raises). A model folder's config.json may say under `load` what loading it comes to. Each request is
written to $STAND_IN_LOG with its process.
"""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

__version__ = "stand-in"


def _common(one, other):
    """How many letters two texts have in common before they part."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


class SamplingParams:
    def __init__(self, **settings):
        self.__dict__.update(settings)


class _Tokenizer:
    def apply_chat_template(self, messages, *, chat_template, tokenize, add_generation_prompt, **_):
        if chat_template == "none":
            raise ValueError("the tokenizer has no chat template")
        if chat_template == "no system" and messages[0]["role"] == "system":
            raise ValueError("System role not supported")
        return "\n".join(message["content"] for message in messages)

    def encode(self, text, *, add_special_tokens):
        return [ord(letter) for letter in text]


class _Engine:
    def __init__(self, options):
        length = options["max_model_len"]
        self.model_config = SimpleNamespace(
            max_model_len=length if length > 0 else 4096, dtype=f"torch.{options['dtype']}"
        )
        self.options = options
        self.running = {}
        self.seen = []
        self.queries = self.hits = 0

    def add_request(self, number, prompt, parameters, *, lora_request):
        text = "".join(map(chr, prompt["prompt_token_ids"]))
        if "STAND_IN_LOG" in os.environ:
            entry = {
                "pid": os.getpid(),
                "text": text,
                "seed": parameters.seed,
                "logprobs": parameters.logprobs,
                "constraint": getattr(parameters.structured_outputs, "__dict__", None),
                "adapter": lora_request and lora_request.path,
                "options": self.options,
            }
            with open(os.environ["STAND_IN_LOG"], "a") as file:
                file.write(json.dumps(entry) + "\n")
        command, _, rest = text.rpartition("\n")[2].partition(" ")
        if command == "refuse":
            raise ValueError("the grammar cannot be compiled\nwith advice on a second line")
        common = max((_common(text, other) for other in self.seen), default=0)
        self.seen.append(text)
        self.queries += len(text)
        self.hits += common
        steps = 5 if command == "slow" else 1
        self.running[number] = [command, rest, parameters, len(text), common, steps]

    def add_lora(self, request):
        if "lora" in os.environ.get("STAND_IN_REFUSES", ""):
            raise ValueError("LoRA rank 16 is greater than max_lora_rank 8.\nwith advice")
        return True

    def abort_request(self, numbers):
        for number in numbers:
            self.running.pop(number, None)

    def has_unfinished_requests(self):
        return bool(self.running)

    def step(self):
        finished = []
        for number, state in list(self.running.items()):
            command, rest, _parameters, _prompt, _common, _ = state
            if command == "hang":
                time.sleep(3600)
            if command == "fail":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if command == "die" and not (rest.startswith("once") and Path(rest[5:]).exists()):
                if rest:
                    Path(rest[5:]).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            state[-1] -= 1
            if state[-1]:
                continue
            del self.running[number]
            where = f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.getpid()}"
            finished.append(_output(number, where if command == "where" else rest, state))
        time.sleep(0.002)
        return finished


def _output(number, text, state):
    _, _, parameters, prompt, common, _ = state
    logprobs = None
    if parameters.logprobs:
        entry = {
            7: SimpleNamespace(logprob=-2.0, rank=3, decoded_token=text),
            8: SimpleNamespace(logprob=-0.5, rank=1, decoded_token="other"),
            9: SimpleNamespace(logprob=float("-inf"), rank=4, decoded_token="never"),
        }
        logprobs = [entry]
    completion = SimpleNamespace(text=text, finish_reason="stop", token_ids=[7], logprobs=logprobs)
    return SimpleNamespace(
        request_id=number,
        finished=True,
        outputs=[completion],
        prompt_token_ids=[0] * prompt,
        num_cached_tokens=common,
    )


class LLM:
    def __init__(self, **options):
        config = json.loads((Path(options["model"]) / "config.json").read_text())
        said = config.get("load", "")
        if said == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if said == "illegal":
            os.kill(os.getpid(), signal.SIGILL)
        if said == "exit":
            raise SystemExit(3)
        if said:
            raise ValueError(said)
        self.llm_engine = _Engine(options)

    def get_tokenizer(self):
        return _Tokenizer()

    def get_metrics(self):
        return [
            SimpleNamespace(name="vllm:prefix_cache_queries", value=self.llm_engine.queries),
            SimpleNamespace(name="vllm:prefix_cache_hits", value=self.llm_engine.hits),
        ]
