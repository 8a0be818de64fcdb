"""How many prompt tokens vLLM computes for a battle, by vLLM's own counters.

    python -m scripts.bench.prefix_reuse [--battles FILE] [--rows N] [--model FOLDER]

Five calls a battle and order, one a criterion, show the same battle and end in another question: a
prefix cache has the battle computed once, if the calls come together while the cache holds it. The
script sends them as the prompted judge does, then criterion after criterion for comparison, then
the prompt that asks for all votes in one reply. The cache is kept far smaller than the run, since a
cache that holds everything would flatter any order.

vLLM is real; it wants an environment with it (ARENA_JUDGE_VLLM_PYTHON, or .venv-vllm here). Without
--model, the model is a tiny one made on the spot, whose tokenizer learns from the battles: how many
tokens are shared does not depend on the weights. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from judge.battles import read_battles
from judge.encoding import BattleText
from judge.engines.base import Parameters, Request
from judge.engines.vllm import INTERPRETER, VllmEngine
from judge.errors import ArenaJudgeError
from judge.prompt_files import load_prompt, own_prompts
from judge.prompting import Prompt

ROOT = Path(__file__).parents[2]
ORDERS = ("AB", "BA")
BLOCK = 32  # tokens; a prefix is shared in whole blocks
VOCABULARY = 16384


@dataclass(frozen=True)
class Figures:
    """What a way of asking came to."""

    way: str
    calls: int
    shown: int  # battles in an order
    asked: int  # prompt tokens
    computed: int

    def row(self) -> str:
        return (
            f"| {self.way} | {self.calls / self.shown:.2f} | {self.asked / self.shown:,.0f} "
            f"| {self.computed / self.shown:,.0f} | {self.computed / self.asked:.1%} |"
        )


def requests(prompt: Prompt, texts: list[BattleText], *, together: bool) -> list[Request]:
    """The calls of all battles in both orders. Those of a battle carry one prefix, by which the
    engine brings them together; or none, criterion after criterion."""
    parameters = Parameters("bench", max_tokens=prompt.max_tokens, regex=prompt.regex)
    return [
        Request(
            prompt.render(battle, order, question),
            parameters,
            prefix=prompt.prefix(battle, order) if together else "",
        )
        for question in (prompt.questions if not together else [None])
        for battle in texts
        for order in ORDERS
        for question in (prompt.questions if together else [question])
    ]


def measure(way: str, engine: VllmEngine, asked: list[Request], shown: int) -> Figures:
    before = engine.prefix_cache
    for index, reply in engine.answer(asked):
        if reply.error is not None:
            raise ArenaJudgeError(f"request {index}: {reply.error}")
    queries, hits = (now - then for now, then in zip(engine.prefix_cache, before, strict=True))
    return Figures(way, len(asked), shown, queries, queries - hits)


@contextmanager
def model_folder(given: Path | None, texts: list[BattleText], positions: int) -> Iterator[Path]:
    """The model to ask: the given one, or a tiny one."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as scratch:
        learned = Path(scratch) / "texts.json"
        turns = [turn for text in texts for side in vars(text).values() for turn in side]
        words = [(ROOT / "prompts" / f"{name}.yaml").read_text("utf-8") for name in own_prompts()]
        learned.write_text(json.dumps(turns + words))
        maker = ROOT / "tests" / "vllm" / "tiny_model.py"
        arguments = ["--texts", learned, "--vocabulary", VOCABULARY, "--positions", positions]
        command = [os.environ[INTERPRETER], maker, scratch, *arguments]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        yield Path(scratch) / "model"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--battles", type=Path, default=ROOT / "examples" / "battles.csv")
    parser.add_argument("--rows", type=int, default=100, help="battles at most")
    parser.add_argument("--model", type=Path, help="a model folder; by default a tiny one")
    parser.add_argument("--length", type=int, default=4096, help="tokens of prompt and reply")
    parser.add_argument("--cache", type=int, default=32768, help="tokens that the cache holds")
    arguments = parser.parse_args()
    default = ROOT / ".venv-vllm" / "bin" / "python"
    os.environ.setdefault(INTERPRETER, str(default) if default.exists() else sys.executable)

    battles = read_battles(arguments.battles)
    texts = [
        BattleText(*sides)
        for sides in zip(
            battles["prompt"], battles["response_a"], battles["response_b"], strict=True
        )
    ]
    with model_folder(arguments.model, texts, arguments.length) as folder:
        # What does not fit would be cut first, which is not what is measured here.
        fitting = [text for text in texts if _letters(text) < 2 * arguments.length]
        fitting = fitting[: arguments.rows]
        criterion, discriminator = load_prompt("criterion"), load_prompt("discriminator")
        ways = (
            ("a call a criterion, battle by battle", criterion, True),
            ("a call a criterion, criterion by criterion", criterion, False),
            ("all votes in one reply", discriminator, True),
        )
        lines = []
        for way, prompt, together in ways:
            options = {"num_gpu_blocks_override": arguments.cache // BLOCK, "block_size": BLOCK}
            with VllmEngine(folder, max_model_len=arguments.length, options=options) as engine:
                asked = requests(prompt, fitting, together=together)
                lines.append(measure(way, engine, asked, len(ORDERS) * len(fitting)))
    letters = sum(map(_letters, fitting)) / len(fitting)
    print(
        f"{len(fitting)} battles of {arguments.battles.name} ({letters:,.0f} characters on average)"
        f" in both orders; a cache of {arguments.cache:,} tokens.\n"
    )
    print("| | calls an order | prompt tokens an order | computed | share |")
    print("| --- | --- | --- | --- | --- |")
    for figures in lines:
        print(figures.row())


def _letters(text: BattleText) -> int:
    return sum(len(turn) for side in vars(text).values() for turn in side)


if __name__ == "__main__":
    try:
        main()
    except ArenaJudgeError as error:
        sys.exit(f"prefix_reuse: {error}")
