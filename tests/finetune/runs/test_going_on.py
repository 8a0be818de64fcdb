"""`--init`, from the command to the predictions: reward models, adapters, one run after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

import torch
import yaml

from judge.battles import labels, read_battles
from judge.cli.main import cli
from judge.metrics import log_loss
from tests.finetune.runs.test_votes import chat_model, messages
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

pytestmark = pytest.mark.slow

Floats = np.ndarray[Any, np.dtype[np.float64]]

SHORT = ["--max-length", "64", "--step-battles", "5", "--device", "cpu", "--no-tensorboard"]
STILL = ["--lr", "0", "--max-steps", "1"]
EXACT = {"dtype": "float32"}  # where the hardware would rather have bfloat16


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles_file(tmp_path_factory.mktemp("battles") / "battles.csv")


def command(*arguments: object, fails: bool = False) -> Any:
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert (done.exit_code == 2) == fails, done.output
    assert fails or done.exit_code == 0, done.output
    assert "Traceback" not in done.output
    return done


def trained(battles: Path, target: Path, *options: object) -> tuple[dict[str, Any], str]:
    """What was measured on the dev battles, and what was said."""
    run = ("finetune", "train", battles, "-o", target, *SHORT, *options, "--json")
    done = command(*run)
    return json.loads(done.stdout), done.stderr


def scored(battles: Path, judge: Path) -> Floats:
    """The probabilities that `score` writes."""
    recipe = judge / "judge.yaml"
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | {"running": EXACT}))
    file = judge.parent / f"{judge.name}-{battles.stem}.csv"
    command("score", battles, "--judge", judge, "-o", file, "--workers", 1, "--chunk-rows", 7)
    return pd.read_csv(file).iloc[:, 1:].to_numpy(dtype=np.float64)


def dev_loss(judge: Path, file: Path) -> float:
    """The log loss on a file of what the judge's folder says of it, as anybody reads it."""
    table = read_battles(file)
    said = labels(table)
    assert said is not None
    return float(log_loss(said, scored(file, judge)))


# --- a reward model -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2", "phi3"])
def test_a_reward_model_is_a_judge_that_goes_by_its_rewards(
    family: str, battles: Path, tmp_path: Path
) -> None:
    """One step that moves nothing: what is written says of (A, B) what the rewards say."""
    from transformers import AutoModelForSequenceClassification

    from finetune.runs.preparing import encoder_of
    from finetune.runs.starting import start
    from finetune.settings.config import read_config

    reward = tiny_model(family, tmp_path / "reward", labels=1)
    target = tmp_path / "judge"
    _, said = trained(battles, target, "--init", reward, "--form", "single", *STILL)
    assert f"note: the head begins with the reward of {reward}" in said
    begun = start(read_config(target / "train.yaml"), torch.device("cpu"))
    encoded = encoder_of(begun).encode(read_battles(battles))
    model = AutoModelForSequenceClassification.from_pretrained(reward, dtype=torch.float32).eval()
    with torch.no_grad():
        rewards = [
            float(model(torch.tensor(ids[None].astype(np.int64))).logits[0, 0])
            for ids in encoded.ids
        ]
    apart = np.array(rewards[0::2]) - np.array(rewards[1::2])
    proba = scored(battles, target)
    np.testing.assert_allclose(np.log(proba[:, 0] / proba[:, 1]), apart, atol=5e-3)
    assert np.ptp(apart) > 0.1


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", ["--form", "single"]),
        ("llama", ["--form", "single", "--no-lora"]),
        ("llama", ["--form", "pair"]),
        ("bert", ["--form", "single"]),
        ("deberta-v2", ["--form", "single"]),
    ],
)
def test_training_from_a_reward_model_is_predicted_as_it_is_loaded(
    family: str, options: list[str], battles: Path, tmp_path: Path
) -> None:
    reward = tiny_model(family, tmp_path / "reward", labels=1)
    target, dev = tmp_path / "judge", battles_file(tmp_path / "dev.csv", 20, seed=3)
    told = ["--init", reward, *options, "--dev", dev, "--lr", "0.01", "--epochs", "2"]
    found, said = trained(battles, target, *told)
    assert "note: the head" in said
    assert dev_loss(target, dev) == pytest.approx(
        found["measured"]["dev.csv"]["log_loss"], abs=2e-3
    )
    recipe = yaml.safe_load((target / "judge.yaml").read_text())
    lora = family == "llama" and "--no-lora" not in options
    assert recipe["weights"] == ("lora" if lora else "full")
    if lora:
        assert recipe["base"] == "../reward"


# --- adapters -------------------------------------------------------------------------------------


def test_post_training_on_other_preferences_is_the_same_command_with_another_file(
    battles: Path, tmp_path: Path
) -> None:
    """Three links of a chain, each judge as good as its run has said; then the first battles are
    known better than to who began with them."""
    base = tiny_model("llama", tmp_path / "base")
    dev = battles_file(tmp_path / "dev.csv", 20, seed=3)
    other = battles_file(tmp_path / "other.csv", 30, seed=4)
    told = ["--dev", dev, "--lr", "0.01", "--epochs", "3", "--lora-r", "4"]
    links = [(other, "--base", base), (battles, "--init", tmp_path / "0")]
    links.append((other, "--init", tmp_path / "1"))
    losses = []
    for number, (file, name, start) in enumerate(links):
        target = tmp_path / str(number)
        found, _ = trained(file, target, name, start, *told)
        losses.append(found["measured"]["dev.csv"]["log_loss"])
        assert dev_loss(target, dev) == pytest.approx(losses[-1], abs=2e-3)
        recipe = yaml.safe_load((target / "judge.yaml").read_text())
        assert (recipe["base"], recipe["weights"]) == ("../base", "lora")
    unmoved = tmp_path / "unmoved"
    trained(battles, unmoved, "--init", tmp_path / "2", *STILL)
    np.testing.assert_allclose(scored(dev, unmoved), scored(dev, tmp_path / "2"), atol=1e-5)
    assert losses[2] < losses[0] + 0.2


def ballots_file(path: Path) -> Path:
    rows = [
        {"id": str(number), "order": order, "messages": messages(word=f"fox {number}")}
        for number in range(6)
        for order in ("AB", "BA")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("lora", [True, False])
def test_what_learned_to_write_ballots_goes_on_as_a_judge_that_says_who_won(
    lora: bool, battles: Path, tmp_path: Path
) -> None:
    """By the judge folder's own name, or by the adapter's in it, with the base or without."""
    base = chat_model("llama", tmp_path / "base")
    ballots = ballots_file(tmp_path / "ballots.jsonl")
    writes = tmp_path / "writes"
    votes = ["--objective", "votes", "--max-length", "4000", "--step-battles", "4", "--lr", "0.01"]
    kind = "--lora" if lora else "--no-lora"
    trained(ballots, writes, "--base", base, kind, *votes)
    inside = writes / ("adapter" if lora else "model")
    starts: dict[str, list[object]] = {"a": ["--init", writes], "b": ["--init", inside]}
    if lora:
        starts["c"] = ["--init", inside, "--base", base]
    for name, start in starts.items():
        trained(battles, tmp_path / name, *start, *STILL, "--lora")
    said = [scored(battles, tmp_path / name) for name in starts]
    for one in said[1:]:
        np.testing.assert_allclose(one, said[0], atol=1e-6)
    recipe = yaml.safe_load((tmp_path / "a" / "judge.yaml").read_text())
    assert (tmp_path / "a" / recipe["base"]).resolve() == (base if lora else writes / "model")
    # Not what the base says under the same new head: the ballots have left their mark.
    trained(battles, tmp_path / "bare", "--base", base, *STILL, "--lora")
    assert np.abs(scored(battles, tmp_path / "bare") - said[0]).max() > 1e-3


def test_ballots_go_on_from_what_was_learned_before(battles: Path, tmp_path: Path) -> None:
    base = chat_model("llama", tmp_path / "base")
    ballots = ballots_file(tmp_path / "ballots.jsonl")
    votes = ["--objective", "votes", "--max-length", "4000", "--step-battles", "4"]
    votes += ["--dev", ballots, "--max-steps", "4"]
    quick = [*votes, "--lr", "0.01"]
    first, _ = trained(ballots, tmp_path / "first", "--base", base, "--lora-r", "4", *quick)
    # The first step's loss is that of where it began, and no --base has to be said.
    still = [*votes, "--lr", "0", "--init", tmp_path / "first"]
    second, _ = trained(ballots, tmp_path / "second", *still)
    loss = first["measured"]["dev, a token"]["log_loss"]
    assert second["measured"]["dev, a token"]["log_loss"] == pytest.approx(loss, rel=1e-3)
    adapter = json.loads((tmp_path / "second" / "adapter" / "adapter_config.json").read_text())
    assert adapter["r"] == 4
    # Its adapter worked in, all weights learn.
    third, _ = trained(ballots, tmp_path / "third", *still, "--no-lora")
    assert third["measured"]["dev, a token"]["log_loss"] == pytest.approx(loss, rel=1e-3)
    assert third["learning"] == third["parameters"]
    assert (tmp_path / "third" / "model" / "config.json").is_file()
    # So does a judge that says who won, but for its head.
    pair = tmp_path / "pair"
    trained(battles, pair, "--base", base, "--lora", "--lr", "0.01")
    trained(ballots, tmp_path / "fourth", *votes, "--lr", "0", "--init", pair)


def test_what_cannot_go_on_is_one_line(battles: Path, tmp_path: Path) -> None:
    base = chat_model("llama", tmp_path / "base")
    ballots = ballots_file(tmp_path / "ballots.jsonl")
    votes = ["--objective", "votes", "--max-length", "4000"]

    def said(file: Path, *options: object) -> str:
        target = tmp_path / "never"
        done = command("finetune", "train", file, "-o", target, *SHORT, *options, fails=True)
        assert not target.exists()
        return str(done.stderr.splitlines()[-1])

    assert "name one: --base MODEL" in said(ballots, *votes)
    assert "leave out --dora" in said(ballots, *votes, "--base", base, "--dora")
    assert "lower --lora-r" in said(ballots, *votes, "--base", base, "--lora-r", 513)
    assert "is no folder to go on from" in said(ballots, *votes, "--init", tmp_path / "none")
    assert "leave out --base" in said(ballots, *votes, "--base", base, "--init", base)
    full = tmp_path / "full"
    trained(battles, full, "--base", base, "--no-lora", *STILL)
    assert "has no more of a model that writes" in said(ballots, *votes, "--init", full)
    pair = tmp_path / "pair"
    trained(battles, pair, "--base", base, "--lora", *STILL)
    moved = tmp_path / "elsewhere" / "deep" / "pair"
    moved.parent.mkdir(parents=True)
    pair.rename(moved)
    assert "names the base model ../base, which is not there" in said(battles, "--init", moved)
    assert "which is not there" in said(ballots, *votes, "--init", moved)
