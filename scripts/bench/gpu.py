"""How fast the fine-tuned judge's network reads on a GPU: prefill of Llama-3-8B's shapes.

    python -m scripts.bench.gpu [--layers N] [--length 1024] [--tokens 16384] [--runs 5] [--vllm]
    python -m scripts.bench.gpu --device cpu --layers 1 --hidden 64    # the same code, anywhere

The weights are drawn at random on the device and nothing is downloaded: how good they are changes
no time. Sequences are as long as battles usually are (`judge.classifier.sizing.lengths`), cut to
--length. They are read packed and padded, each as the judge does it and by CUDA graphs.

CUDA graphs are in this benchmark only. A graph is of one shape, so packed rows are filled up to
--tokens tokens and --sequences sequences, whose ends are data to the kernel that attends to all at
once; padded ones are so many sequences of --length tokens, where a causal model sees nothing of
what is filled up behind. On a processor, which has no graphs, the same rows are run as they are.

Tokens are real ones, none that fill up. The share is of the device's peak in the dtype, by the
operations that the real tokens take. Each way's results are compared with those of sequences read
one by one. --vllm reads the same ids with vLLM, one token written, where it is installed; by itself
it takes most of the GPU's memory, so that is done first, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finetune.training.speed import peak_flops
from judge.classifier.attention import kernel_for
from judge.classifier.batching import token_batches
from judge.classifier.heads import make_head
from judge.classifier.loading import quiet
from judge.classifier.network import Network
from judge.classifier.packing import Layout, register
from judge.classifier.shape import Shape
from judge.classifier.sizing.anatomy import anatomy_of
from judge.classifier.sizing.lengths import usual
from judge.classifier.sizing.runs import Run
from judge.classifier.sizing.timing import operations
from judge.classifier.templates import load_template
from scripts.bench.report import setting, table

Ids = list[npt.NDArray[np.int32]]

# Sequences that are read one by one beside each way.
CHECKED = 8
HEAD_DIM = 128
# What vLLM leaves for others, of the GPU's memory.
VLLM_SHARE = 0.9


@dataclass(frozen=True)
class Way:
    """One way to read all sequences.

    Attributes:
        name: of it.
        read: gives (S, hidden) states in the order of the sequences.
    """

    name: str
    read: Callable[[], Tensor]


def shapes(layers: int, hidden: int, vocabulary: int) -> Any:
    """Llama-3-8B's configuration, or one that is narrower in the same proportions."""
    from transformers import LlamaConfig

    head = min(HEAD_DIM, max(hidden // 4, 8))
    heads = max(hidden // head, 1)
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 7 // 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(heads // 4, 1),
        head_dim=head,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        architectures=["LlamaForCausalLM"],
    )


def network_of(config: Any, device: torch.device, dtype: torch.dtype, *, packed: bool) -> Network:
    """A judge's network with weights drawn at random on the device."""
    from transformers import AutoModel

    attention = register() if packed else "sdpa"
    with quiet(), torch.device(device):
        torch.manual_seed(0)
        kind: Any = AutoModel
        backbone = kind.from_config(config, dtype=dtype, attn_implementation=attention)
    head = make_head("plain", config.hidden_size).to(device)
    shape = Shape(
        base="random",
        family="llama",
        form="pair",
        head="plain",
        pooling="last",
        template=load_template("a-then-b").spec,
        max_length=config.max_position_embeddings,
        policy="proportional",
    )
    return Network(shape, backbone, head, packed=packed).eval()


def sequences(count: int, longest: int, vocabulary: int, seed: int) -> Ids:
    """Ids of sequences as long as battles usually are, in an order of chance."""
    rng = np.random.default_rng(seed)
    some = usual(count)
    tokens = (some.prompts + some.responses) / some.token + 24
    lengths = rng.choice(np.minimum(tokens, longest).astype(np.int64), count)
    return [rng.integers(3, vocabulary, length, dtype=np.int32) for length in lengths]


# --- ways -----------------------------------------------------------------------------------------


def eager(network: Network, ids: Ids, tokens: int) -> Tensor:
    """As the judge reads: batches of like length, packed or padded."""
    lengths = np.array([len(one) for one in ids], dtype=np.int64)
    return _in_order(
        token_batches(lengths, tokens, padded=not network.packed),
        lambda rows: network.states([ids[row] for row in rows]),
    )


def _in_order(groups: Sequence[npt.NDArray[Any]], run: Callable[[list[int]], Tensor]) -> Tensor:
    """The states of groups of rows, row after row."""
    rows = np.concatenate(groups)
    found = torch.cat([run(group.tolist()) for group in groups])
    return found[torch.from_numpy(np.argsort(rows)).to(found.device)]


class Graph:
    """A row of one shape, filled anew for each batch; on CUDA captured once and replayed.

    Args:
        network: a packed one.
        tokens: of the row.
        pieces: the most sequences in it.
        longest: the most tokens of one.
    """

    def __init__(self, network: Network, tokens: int, pieces: int, longest: int) -> None:
        self._network, device = network, network.device
        self._ids = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._positions = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._looked_at = torch.zeros(pieces, dtype=torch.int64, device=device)
        # One more piece is what fills up the row.
        self._ends = torch.zeros(pieces + 2, dtype=torch.int32, device=device)
        self._layout = Layout((longest,) * (pieces + 1), (-1,) * (pieces + 1))
        for what in ("queries", "keys"):
            self._layout.kept[what, device] = self._ends
        self._graph: torch.cuda.CUDAGraph | None = None
        self._states: Tensor | None = None

    def __call__(self, rows: Ids, slots: int | None = None) -> Tensor:
        """(S, hidden) states of sequences, each given so many places of the row, or as many as it
        has tokens."""
        layout = self._fill(rows, slots)
        if self._network.device.type != "cuda":
            return self._run(layout)[: len(rows)]
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        assert self._states is not None
        self._graph.replay()
        return self._states[: len(rows)].clone()

    def _fill(self, rows: Ids, slots: int | None) -> Layout:
        places = [slots or len(one) for one in rows]
        ends = np.cumsum([0, *places])
        size = len(self._ids)
        ids = np.zeros(size, dtype=np.int64)
        positions = np.zeros(size, dtype=np.int64)
        for start, room, one in zip(ends[:-1], places, rows, strict=True):
            ids[start : start + len(one)] = one
            positions[start : start + room] = np.arange(room)
        looked_at = np.zeros(len(self._looked_at), dtype=np.int64)
        looked_at[: len(rows)] = [s + len(one) - 1 for s, one in zip(ends, rows, strict=False)]
        # Pieces that are not there are empty, and the last one has what is left.
        closed = np.full(len(self._ends), ends[-1], dtype=np.int32)
        closed[: len(ends)] = ends
        closed[-1] = size
        for target, values in (
            (self._ids, ids),
            (self._positions, positions),
            (self._looked_at, looked_at),
            (self._ends, closed),
        ):
            target.copy_(torch.from_numpy(values))
        rest = [size - int(ends[-1])] if size > ends[-1] else []
        lengths = (*places, *rest)
        return Layout(lengths, (-1,) * len(lengths))

    def _run(self, layout: Layout) -> Tensor:
        output = self._network.backbone(
            input_ids=self._ids[None],
            position_ids=self._positions[None],
            layout=layout,
            use_cache=False,
        )
        return cast(Tensor, output.last_hidden_state[0][self._looked_at].float())

    def _capture(self) -> None:
        """As torch asks: some runs on another stream first, then one that is recorded."""
        stream: Any = cast(Any, torch.cuda).Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._run(self._layout)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._states = self._run(self._layout)


def packed_graph(network: Network, ids: Ids, tokens: int, pieces: int) -> Callable[[], Tensor]:
    """Packed rows of so many tokens and sequences at most."""
    lengths = np.array([len(one) for one in ids], dtype=np.int64)
    graph = Graph(network, tokens, pieces, int(lengths.max()))
    groups = [
        part
        for group in token_batches(lengths, tokens)
        for part in np.array_split(group, -(-len(group) // pieces))
    ]
    return lambda: _in_order(groups, lambda rows: graph([ids[row] for row in rows]))


def padded_graph(network: Network, ids: Ids, tokens: int) -> Callable[[], Tensor]:
    """As many sequences as fit, each filled up to the longest."""
    longest = max(map(len, ids))
    count = max(tokens // longest, 1)
    graph = Graph(network, count * longest, count, longest)
    groups = np.array_split(np.arange(len(ids)), -(-len(ids) // count))
    return lambda: _in_order(groups, lambda rows: graph([ids[row] for row in rows], longest))


def ways(config: Any, device: torch.device, dtype: torch.dtype, given: Any, ids: Ids) -> list[Way]:
    """All of them; the padded network and the packed one have the same weights."""
    packed = network_of(config, device, dtype, packed=True)
    padded = Network(packed.shape, packed.backbone, packed.head, packed=False).eval()
    budget = max(given.tokens, given.length)
    backbone: Any = packed.backbone

    def by(attention: str, read: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            backbone.set_attn_implementation(attention)
            return read()

        return run

    own = register()
    found = [
        Way("packed", by(own, lambda: eager(packed, ids, budget))),
        Way("padded", by("sdpa", lambda: eager(padded, ids, budget))),
        Way("one by one", by(own, lambda: one_by_one(packed, ids[:CHECKED]))),
    ]
    if device.type == "cpu" or at_once(config, device, dtype):
        graphed = packed_graph(packed, ids, budget, given.sequences)
        found.append(Way("packed, CUDA graphs", by(own, graphed)))
        graphed = padded_graph(packed, ids, budget)
        found.append(Way("padded, CUDA graphs", by(own, graphed)))
    return found


def at_once(config: Any, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel attends to all pieces of a row at once, so that their ends can be data."""
    probe = torch.zeros(1, 1, 1, config.head_dim, device=device, dtype=dtype)
    return kernel_for(probe, probe, None, 0.0) != "pieces"


def one_by_one(network: Network, ids: Ids) -> Tensor:
    """The states of sequences, each by itself."""
    return torch.cat([network.states([one]) for one in ids])


# --- measuring ------------------------------------------------------------------------------------


@torch.inference_mode()
def seconds_of(way: Way, device: torch.device, runs: int) -> tuple[float, Tensor]:
    """The median time of so many runs after one that does not count, and what was found."""
    found = way.read().cpu()
    times = []
    for _ in range(runs):
        _wait(device)
        started = time.perf_counter()
        way.read()
        _wait(device)
        times.append(time.perf_counter() - started)
    return median(times), found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops(config: Any, ids: Ids) -> float:
    """Operations that the real tokens take."""
    lengths = np.array([len(one) for one in ids], dtype=np.float64)
    looks = float((lengths**2).sum() / lengths.sum())
    each = operations(anatomy_of(config.to_dict()), Run(), looks, training=False)
    return float(lengths.sum() * each)


def compared(
    found: dict[str, tuple[float, Tensor | None]], ids: Ids, work: float, peak: float | None
) -> str:
    """The table."""
    tokens = sum(map(len, ids))
    wanted = found["one by one"][1]
    assert wanted is not None
    lines = []
    for name, (seconds, states) in found.items():
        if name == "one by one":
            continue
        far = "" if states is None else f"{_far(states[: len(wanted)], wanted):.1e}"
        share = "" if peak is None else f"{work / seconds / peak:.1%}"
        rate = work / seconds / 1e12
        lines.append([name, f"{tokens / seconds:,.0f}", f"{rate:.3g}", share, far])
    head = ["read", "tokens/s", "TFLOP/s", "of the peak", "from one by one"]
    return table(head, lines)


def _far(states: Tensor, wanted: Tensor) -> float:
    return float((states - wanted).abs().max() / wanted.abs().max())


# --- vLLM -----------------------------------------------------------------------------------------

_VLLM = """
import json, sys, time
from statistics import median
from vllm import LLM, SamplingParams
told = json.load(open(sys.argv[1]))
model = LLM(model=told["model"], load_format="dummy", skip_tokenizer_init=True, dtype=told["dtype"],
            max_model_len=told["length"], enable_prefix_caching=False, **told["more"])
asked = [{"prompt_token_ids": one} for one in told["ids"]]
told_to = SamplingParams(max_tokens=1, detokenize=False, temperature=0)
times = []
for _ in range(told["runs"] + 1):
    started = time.perf_counter()
    model.generate(asked, told_to, use_tqdm=False)
    times.append(time.perf_counter() - started)
print("seconds", median(times[1:]))
"""


def with_vllm(config: Any, ids: Ids, given: Any, dtype: str) -> float | None:
    """Seconds that vLLM takes; None where it cannot be run here, with a line that says why."""
    if find_spec("vllm") is None:
        _say("vLLM is not installed here: not compared")
        return None
    with TemporaryDirectory() as place:
        config.save_pretrained(place)
        more = {"max_num_batched_tokens": max(given.tokens, given.length + 1)}
        if given.device == "cuda":
            more |= {"gpu_memory_utilization": VLLM_SHARE}
        told = {
            "model": place,
            "dtype": dtype,
            "length": given.length + 1,
            "runs": given.runs,
            "ids": [one.tolist() for one in ids],
            "more": more,
        }
        file = Path(place) / "told.json"
        file.write_text(json.dumps(told))
        command = [sys.executable, "-c", _VLLM, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = [line for line in done.stdout.splitlines() if line.startswith("seconds ")]
    if done.returncode or not last:
        why = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        _say(f"vLLM could not be run: {why[:200]}")
        return None
    return float(last[-1].split()[1])


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def options() -> argparse.ArgumentParser:
    """What the benchmark takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default, about in (
        ("layers", 32, "layers; fewer where memory is short"),
        ("hidden", 4096, "numbers of a state, a multiple of 64"),
        ("vocabulary", 128256, "tokens there are"),
        ("rows", 256, "sequences to read"),
        ("length", 1024, "tokens of one at most"),
        ("tokens", 16384, "tokens of a batch"),
        ("sequences", 64, "sequences of a packed row at most, in a graph"),
        ("runs", 5, "of each way"),
        ("seed", 0, "of lengths and ids"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{about} ({default})")
    parser.add_argument("--device", default="cuda", help="(cuda)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--vllm", action="store_true", help="compare with vLLM's prefill")
    return parser


def main() -> None:
    """Measures and prints."""
    given = options().parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured (--device cpu runs the same code)")
        return
    dtype = getattr(torch, given.dtype)
    config = shapes(given.layers, given.hidden, given.vocabulary)
    ids = sequences(given.rows, given.length, given.vocabulary, given.seed)
    found: dict[str, tuple[float, Tensor | None]] = {}
    asked = with_vllm(config, ids, given, given.dtype) if given.vllm else None
    with torch.inference_mode():
        for way in ways(config, device, dtype, given, ids):
            found[way.name] = seconds_of(way, device, given.runs)
    if asked is not None:
        found["vLLM, one token written"] = (asked, None)
    peak = peak_flops(device, dtype)
    print(setting("scripts.bench.gpu"))
    called = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    known = "not known" if peak is None else f"{peak / 1e12:.3g} TFLOP/s"
    print(f"- torch {torch.__version__}; {called}, {given.dtype}, its peak {known}")
    print(f"- Llama's shapes: {given.layers} layers of {given.hidden}, random weights")
    tokens = sum(map(len, ids))
    print(f"- median of {given.runs} runs; {len(ids):,} sequences of {tokens:,} tokens")
    graphs = "CUDA graphs are in this benchmark only"
    if device.type == "cpu":
        graphs += "; a processor has none, and runs the same rows as they are"
    elif "packed, CUDA graphs" not in found:
        graphs += "; this GPU has no kernel for all pieces of a row at once: not measured"
    print(f"- {graphs}\n")
    print(compared(found, ids, flops(config, ids), peak))


if __name__ == "__main__":
    main()
