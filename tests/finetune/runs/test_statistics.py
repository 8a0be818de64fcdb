"""The figures of what would be trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.cli.stats_text import lines, summary
from finetune.rows.data import Extra, read_training
from finetune.runs.statistics import PERCENTILES, TEXTS, WHOLE, Statistics, measure
from judge.classifier.templates import load_template
from judge.classifier.tokens import BattleEncoder
from tests.finetune.files import battle, say, write

tokenizers = pytest.importorskip("tokenizers")


def _words() -> Any:
    """A tokenizer to which each word is a token, and so is each line end."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return tokenizer


@dataclass(frozen=True)
class _Speed:
    """As `finetune.training.rehearsing.Speed`, which needs torch to be read."""

    tokens_second: float = 1000.0
    rows_second: float = 10.0
    share: float | None = None
    peak_bytes: int = 2**31
    total_tokens: int = 60_000
    steps: int = 7

    @property
    def seconds(self) -> float:
        return self.total_tokens / self.tokens_second


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    main = [
        battle(1, "a"),
        battle(2, "b", response_a=""),
        battle(3, ""),
        battle(1, "b", id="again"),
        battle(4, "tie", response_b=say(77, 400)),
    ]
    extra = [battle(n, "a") for n in (4, 5, 6)]
    return write(tmp_path / "main.jsonl", main), write(tmp_path / "extra.jsonl", extra)


def _measured(files: tuple[str, str], template: str = "interleaved") -> Statistics:
    training = read_training(files[0], [Extra(files[1], 0.5)])
    return measure(training, BattleEncoder(_words(), load_template(template), 128))


def test_the_counts_add_up(files: tuple[str, str]) -> None:
    stats = _measured(files)
    assert stats.merged == 8
    assert stats.deduplicated == 6  # one again in the main file, one prompt that both have
    assert stats.used == 5
    assert stats.prompts == 5
    assert stats.empty == 1
    assert stats.soft == 1
    assert stats.labels["main.jsonl"] == pytest.approx((1 / 6, 1 / 2, 1 / 3), abs=1e-4)
    assert sum(stats.labels["extra.jsonl"]) == pytest.approx(1)
    for one in stats.files:
        assert one.battles == one.used + sum(one.left_out.values())


@pytest.mark.parametrize("template", ["interleaved", "single"])
def test_lengths_and_what_does_not_fit(files: tuple[str, str], template: str) -> None:
    stats = _measured(files, template)
    pair = template == "interleaved"
    assert stats.lengths["prompt"].percentiles == (24,) * len(PERCENTILES)
    assert stats.lengths["response_a"].percentiles[0] == 0
    assert stats.lengths["response_b"].percentiles[-1] == 400
    assert stats.lengths["response_b"].mean == pytest.approx((4 * 24 + 400) / 5, abs=0.1)
    assert set(stats.lengths) == {*TEXTS, WHOLE}
    cuts = stats.cuts
    assert cuts.sequences == 10
    assert cuts.cut == (2 if pair else 1)
    assert cuts.tokens <= 10 * 128
    whole = 2 * (5 * 24 + 4 * 24 + 4 * 24 + 400) if pair else 2 * 5 * 24 + 4 * 24 + 4 * 24 + 400
    assert cuts.lost_share == pytest.approx(cuts.lost / whole)
    longest = stats.lengths[WHOLE].percentiles[-1]
    # One longest sequence was cut to the length; what says so stands in for as many tokens more.
    assert longest - 128 <= cuts.lost / (2 if pair else 1) <= longest - 128 + 3


def test_one_tree_for_machines(files: tuple[str, str]) -> None:
    stats = _measured(files)
    found = json.loads(json.dumps(stats.as_dict(), allow_nan=False))
    assert found["speed"] is None
    assert found["merged"] == 8
    assert found["files"][0]["left_out"] == {"no label": 1, "same battle": 1}
    assert set(found["lengths"]["prompt"]) == {"mean", *(f"p{at}" for at in PERCENTILES)}
    timed = replace(stats, speed=_Speed())  # type: ignore[arg-type]
    found = json.loads(json.dumps(timed.as_dict(), allow_nan=False))
    assert found["speed"]["seconds"] == 60
    assert found["speed"]["peak_bytes"] == 2**31


def test_what_people_read(files: tuple[str, str]) -> None:
    stats = replace(_measured(files), speed=_Speed())  # type: ignore[arg-type]
    table = lines(stats)
    assert table[0].split()[:4] == ["file", "weight", "battles", "used"]
    assert table[2].split()[:4] == ["main.jsonl", "1", "5", "3"]
    assert table[3].split()[:4] == ["extra.jsonl", "0.5", "3", "2"]
    assert any(line.startswith("sequence") for line in table)
    said = summary(stats)
    assert said[0].startswith("8 battles merged, 6 without")
    assert "5 used, about 5 prompts" in said[0]
    assert "at 128 tokens proportional cuts 20.0% of sequences" in said[1]
    assert "main.jsonl: left out 1 no label, 1 same battle" in said
    assert said[-1] == "training would be 7 steps and 60,000 tokens, about 1 min 00 s"
    assert "2.0 GiB" in said[-2]


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    main = write(tmp_path / "a\x1b[2Jb.jsonl", [battle(1, "a")])
    stats = measure(read_training(main), BattleEncoder(_words(), load_template("single"), 64))
    assert not any("\x1b" in line for line in lines(stats))


def test_figures_of_real_battles(shared_data: Path) -> None:
    training = read_training(str(shared_data / "llmbar.parquet"))
    stats = measure(training, BattleEncoder(_words(), load_template("a-then-b"), 512))
    assert stats.used == len(training)
    assert list(stats.lengths["prompt"].percentiles) == sorted(stats.lengths["prompt"].percentiles)
    assert np.isfinite(stats.lengths[WHOLE].mean)
