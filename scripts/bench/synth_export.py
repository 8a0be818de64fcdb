"""How much memory exporting an annotated set takes, and how long.

    python -m scripts.bench.synth_export [--data FOLDER] [--battles 20000] [--samples 5]

Makes a set of so many battles, in both orders and with so many samples, with a reason for every
vote and a critique of each response; battles are such as people had, numbered, so that no two are
alike. Exports it in every form, each in a process of its own. Prints a Markdown table.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from judge.ballots import CRITERIA, VOTES, ballot_table
from judge.prompt_files import load_prompt
from scripts.bench.memory import blocks
from scripts.bench.process import arena_judge
from scripts.bench.report import options, setting, table
from scripts.statistical_data import SAMPLE
from synth.data import ANNOTATIONS, BATTLES, FILE, FORMAT, KIND, REASONS
from synth.manifests import write_manifest
from synth.tables import table_writer

_BLOCK = 1000
_WORDS = (
    "it",
    "answers",
    "what",
    "was",
    "asked",
    "and",
    "says",
    "why",
    "leaving",
    "out",
    "a",
    "step",
)
_TURN = {"A": "B", "B": "A", "AB": "AB", "NA": "NA"}


def write_set(folder: Path, source: Path, battles: int, samples: int, seed: int) -> None:
    """An annotated set, a thousand battles at a time."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    records = table_writer(folder / ANNOTATIONS, turns=())
    with table_writer(folder / BATTLES) as asked, records as said:
        for block in blocks(source, battles, seed):
            columns = {name: block[name] for name in ("id", "prompt", "response_a", "response_b")}
            whole = pd.DataFrame(columns)
            for name in list(columns)[1:]:
                whole[name] = [json.loads(cell) for cell in block[name]]
            for start in range(0, len(whole), _BLOCK):
                part = whole.iloc[start : start + _BLOCK]
                asked.append(part.assign(model_a="one", model_b="two", stratum="all"))
                said.append(_records(part["id"].tolist(), samples, rng))
    write_manifest(folder / FILE, {"format": FORMAT, "kind": KIND, "battles": battles})


def _records(ids: list[str], samples: int, rng: np.random.Generator) -> pd.DataFrame:
    """What one annotator says of battles: mostly the same, with words of its own each time."""
    prompt = load_prompt("critiqued")
    thought = rng.choice(3, size=len(ids), p=[0.4, 0.4, 0.2])
    rows = [
        (n, order, s) for n in range(len(ids)) for order, s in product(("AB", "BA"), range(samples))
    ]
    seen = thought[[n for n, _, _ in rows]]
    drawn = np.where(
        rng.random((len(rows), 6)) < 0.8, seen[:, None], rng.integers(0, 3, (len(rows), 6))
    )
    votes = np.eye(4)[drawn]
    texts = [[_sentence(rng) for _ in range(7)] for _ in rows]
    replies = [
        _reply([VOTES[vote] for vote in six], order, words)
        for six, (_, order, _), words in zip(drawn.tolist(), rows, texts, strict=True)
    ]
    found = ballot_table(
        [ids[n] for n, _, _ in rows],
        "endpoint:large",
        votes[:, :5],
        order=[order for _, order, _ in rows],
        sample=[sample for _, _, sample in rows],
        reply=replies,
        verdict=list(votes[:, 5]),
    )
    columns = zip((*REASONS, "critique_a", "critique_b"), zip(*texts, strict=True), strict=True)
    return found.assign(
        **{name: list(cells) for name, cells in columns},
        ballot_reason="",
        finish="stop",
        attempts=1,
        model="large",
        prompt=prompt.name,
        prompt_version=prompt.version,
        prompt_digest=prompt.digest,
        parameters='{"temperature": 0.7, "max_tokens": 1024, "seed": 0, "top_logprobs": 10}',
        time=1.7e9,
        seconds=2.0,
        prompt_tokens=1200,
        cached_tokens=600,
        completion_tokens=350,
        cost=0.002,
    )


def _sentence(rng: np.random.Generator) -> str:
    return " ".join(_WORDS[n] for n in rng.integers(0, len(_WORDS), 20).tolist())


def _reply(votes: list[str], order: str, texts: list[str]) -> str:
    shown = [_TURN[vote] for vote in votes] if order == "BA" else votes
    members: dict[str, object] = {"critique_a": texts[5], "critique_b": texts[6]}
    for name, vote, text in zip(CRITERIA, shown, texts, strict=False):
        members[name] = {"reason": text, "vote": vote}
    return json.dumps({**members, "verdict": shown[5]})


FORMS = (
    ("preference", ("--format", "preference", "-o", "out.parquet")),
    ("votes, with critiques", ("--format", "votes", "-o", "out.jsonl")),
    ("votes alone", ("--format", "votes", "-o", "out.parquet", "--prompt", "discriminator")),
    ("every reply", ("--format", "votes", "-o", "out.jsonl", "--target", "reply")),
    ("dpo", ("--format", "dpo", "-o", "out.jsonl", "--margin", "0")),
    ("hf", ("--format", "hf", "-o", "out", "--test-share", "0.05")),
)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--battles", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=5, help="an order")
    given = parser.parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_set(data, given.data / SAMPLE, given.battles, given.samples, given.seed)
        for name, arguments in FORMS:
            placed = [
                str(Path(folder) / one) if one.startswith("out") else one for one in arguments
            ]
            run = arena_judge("synth", "export", str(data), *placed, "--force")
            rows.append((name, f"{run.seconds:.0f} s", f"{run.peak / 2**20:,.0f} MiB"))
    print(setting("scripts.bench.synth_export"))
    print(f"\n{given.battles:,} battles, 2 orders, {given.samples} samples\n")
    print(table(("form", "time", "peak memory"), rows))


if __name__ == "__main__":
    main()
