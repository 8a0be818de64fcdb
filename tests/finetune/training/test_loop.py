"""The loop of training: what it comes to does not hang on how it is cut into batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from finetune.runs.preparing import objective_of, read
from finetune.runs.running import rehearse, run
from finetune.runs.starting import start
from finetune.runs.statistics import Statistics
from finetune.settings.config import OptimisationConfig
from finetune.training.curves import read_curve
from finetune.training.loop import Plan, Trainer, fit
from finetune.training.optimising import Precision, RunningMean, groups_of, schedule
from finetune.training.rehearsing import dry_run
from finetune.training.speed import effort_of, peak_flops
from judge.classifier.sizing.devices import named
from judge.errors import ArenaJudgeError
from tests.finetune.small import battles_file, small
from tests.finetune.tiny import tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles_file(tmp_path_factory.mktemp("battles") / "battles.csv")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return tiny_model("bert", folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def trainer_of(battles: Path, base: Path, **told: Any) -> Trainer:
    config = small(battles, base, **told)
    return Trainer(objective_of(config, start(config, CPU), read(config)), config)


def gradients(trainer: Trainer, rows: Any) -> dict[str, Any]:
    """Those that a step would move the weights by."""
    kept: dict[str, Any] = {}

    def hold(weight: float) -> float:
        for name, one in trainer.model.named_parameters():
            if one.grad is not None:
                kept[name] = (one.grad / weight).numpy().copy()
                one.grad = None
        return 0.0

    trainer._update = hold  # type: ignore[method-assign]
    trainer.step(0, rows)
    return kept


@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_batches_are_one_large_one(
    weighted: bool, battles: Path, base: Path, tmp_path: Path
) -> None:
    extra = battles_file(tmp_path / "extra.csv", 8, seed=9)
    told = {"data__extra": (f"0.25*{extra}",)} if weighted else {}
    rows = np.arange(14)
    found = [
        gradients(trainer_of(battles, base, run__batch_tokens=tokens, **told), rows)
        for tokens in (1, 150, 10**6)
    ]
    for one in found[:2]:
        assert set(one) == set(found[2])
        for name, gradient in one.items():
            np.testing.assert_allclose(gradient, found[2][name], atol=1e-6, err_msg=name)


def test_work_done_twice_gives_the_same_gradients(battles: Path, base: Path) -> None:
    rows = np.arange(6)
    once = gradients(trainer_of(battles, base), rows)
    twice = gradients(trainer_of(battles, base, run__checkpointing=True), rows)
    for name, gradient in once.items():
        np.testing.assert_allclose(gradient, twice[name], atol=1e-6, err_msg=name)


def test_it_learns_which_words_win(tmp_path: Path) -> None:
    battles = battles_file(tmp_path / "many.csv", 120)
    base = tiny_model("bert", tmp_path / "base")
    config = small(
        battles,
        base,
        optimisation__epochs=8.0,
        optimisation__step_battles=10,
        optimisation__lr=3e-3,
        data__held_out=(str(battles_file(tmp_path / "other.csv", 40, seed=3)),),
        run__batch_tokens=4096,
    )
    made = run(config, tmp_path / "judge")
    dev, held = made.scores
    assert held.name == "other.csv"
    assert held.log_loss < 0.8 < math.log(3)
    assert held.low < held.log_loss < held.high
    assert dev.log_loss == pytest.approx(made.outcome.dev_log_loss, abs=1e-6)


def test_it_ends_when_nothing_is_gained_and_keeps_the_best(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "base")
    config = small(
        battles, base, optimisation__epochs=30.0, optimisation__lr=0.05, run__eval_every=1,
        run__patience=3,
    )  # fmt: skip
    made = run(config, tmp_path / "judge")
    curve = read_curve(tmp_path / "judge" / "curve.csv")
    looked = [point.dev_log_loss for point in curve]
    assert made.outcome.steps == len(curve) < made.outcome.planned
    best = int(np.argmin(np.array(looked, dtype=float)))
    assert made.outcome.best_step == best + 1 == len(curve) - 3
    assert made.scores[0].log_loss == pytest.approx(looked[best], abs=1e-6)


def test_the_last_weights_are_kept_if_asked_for(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "base")
    config = small(
        battles, base, optimisation__epochs=8.0, optimisation__lr=0.05, run__eval_every=1,
        run__keep="last",
    )  # fmt: skip
    made = run(config, tmp_path / "judge")
    looked = [point.dev_log_loss for point in read_curve(tmp_path / "judge" / "curve.csv")]
    assert made.outcome.best_step == made.outcome.planned == len(looked)
    assert looked[-1] is not None
    assert looked[-1] > min(map(float, looked))  # type: ignore[arg-type]
    assert made.outcome.dev_log_loss == pytest.approx(looked[-1], abs=1e-6)
    assert made.scores[0].log_loss == pytest.approx(looked[-1], abs=1e-6)


def test_without_a_folder_the_best_weights_stay(battles: Path, base: Path) -> None:
    config = small(
        battles, base, optimisation__epochs=6.0, optimisation__lr=0.05, run__eval_every=1
    )
    objective = objective_of(config, start(config, CPU), read(config))
    outcome = fit(objective, config)
    assert objective.evaluate(torch.no_grad) == pytest.approx(outcome.dev_log_loss, abs=1e-6)


def test_the_same_seed_gives_the_same_judge_and_another_another(
    battles: Path, base: Path, tmp_path: Path
) -> None:
    said = []
    for place, seed in enumerate((4, 4, 5)):
        made = run(small(battles, base, run__seed=seed), tmp_path / str(place))
        said.append((made.scores, (tmp_path / str(place) / "head.safetensors").read_bytes()))
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_fewer_bits_come_to_about_the_same(
    dtype: str, family: str, battles: Path, tmp_path: Path
) -> None:
    base = tiny_model(family, tmp_path / "base")
    losses = []
    for place, name in enumerate(("float32", dtype)):
        run(small(battles, base, run__dtype=name), tmp_path / str(place))
        losses.append([p.loss for p in read_curve(tmp_path / str(place) / "curve.csv")])
    np.testing.assert_allclose(losses[0], losses[1], atol=0.1)
    assert losses[0] != losses[1]


def test_a_rate_that_explodes_is_one_line(battles: Path, base: Path, tmp_path: Path) -> None:
    config = small(battles, base, optimisation__lr=1e30, optimisation__epochs=5.0)
    with pytest.raises(ArenaJudgeError, match=r"the loss of step \d+ is no number; lower --lr"):
        run(config, tmp_path / "judge")
    assert not (tmp_path / "judge").exists()


def test_the_plan_has_whole_epochs_and_parts(battles: Path, base: Path) -> None:
    lengths = np.full(10, 20, dtype=np.int64)

    def steps(**told: Any) -> int:
        return len(Plan(lengths, small(battles, base, **told), 256, False))

    assert steps(optimisation__epochs=1.0) == 2
    assert steps(optimisation__epochs=2.5) == 5
    assert steps(optimisation__epochs=0.1) == 1
    assert steps(optimisation__epochs=3.0, optimisation__max_steps=4) == 4
    assert steps(optimisation__step_battles=0, optimisation__step_tokens=60) == 4
    plan = Plan(lengths, small(battles, base, optimisation__epochs=2.5), 256, False)
    whole = [(epoch, far, rows.tolist()) for epoch, far, rows in plan.after(0)]
    for done in range(6):
        rest = [(epoch, far, rows.tolist()) for epoch, far, rows in plan.after(done)]
        assert rest == whole[done:]
    assert plan.tokens == sum(20 * len(rows) for _, _, rows in whole)


def test_the_schedule_rises_and_falls() -> None:
    config = OptimisationConfig(warmup=0.1, final_lr=0.2)
    rates = [schedule(step, 100, config) for step in range(100)]
    top = int(np.argmax(rates))
    assert 8 <= top <= 11
    assert rates[0] > 0
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.2, abs=0.01)
    assert max(rates) <= 1
    assert schedule(0, 1, OptimisationConfig(warmup=0.0)) == 1


def test_lower_layers_learn_slower_and_vectors_do_not_decay(base: Path, battles: Path) -> None:
    config = small(battles, base, optimisation__layer_decay=0.5, optimisation__head_lr=7.0)
    network = start(config, CPU).network
    of = {name: g for g in groups_of(network, config.optimisation) for name in g.names}
    trained = [name for name, one in network.named_parameters() if one.requires_grad]
    assert sorted(of) == sorted(trained)
    layer = "backbone.encoder.layer.{}.attention.self.query.{}"
    assert of[layer.format(1, "weight")].rate == 1
    assert of[layer.format(0, "weight")].rate == 0.5
    assert of["backbone.embeddings.word_embeddings.weight"].rate == 0.25
    assert of["head.layers.1.weight"].rate == 7
    assert of[layer.format(0, "weight")].decay
    assert not of[layer.format(0, "bias")].decay
    assert not of["backbone.embeddings.LayerNorm.weight"].decay


def test_the_running_mean_is_one_and_comes_and_goes() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    mean, expected = RunningMean(layer, 0.9), 0.0
    for step in range(1, 30):
        torch.nn.init.constant_(layer.weight, float(step))
        mean.update(step)
        decay = min(0.9, step / (step + 9))
        expected = decay * expected + (1 - decay) * step
    assert float(mean.means["weight"]) == pytest.approx(expected, rel=1e-5)
    mean.exchange()
    assert layer.weight.item() == pytest.approx(expected, rel=1e-5)
    mean.exchange()
    assert layer.weight.item() == 29


def test_gradients_that_overflow_are_left_out_and_the_scale_is_kept() -> None:
    precision = Precision(torch.float16, CPU)
    one = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([one], lr=0.1)
    precision.scaler.scale(one * float("inf")).sum().backward()
    precision.scaler.step(optimizer)
    precision.scaler.update()
    assert one.item() == 1
    other = Precision(torch.float16, CPU)
    other.load(precision.state())
    assert other.scaler.get_scale() == precision.scaler.get_scale() < Precision(
        torch.float16, CPU
    ).scaler.get_scale()  # fmt: skip


def test_a_dry_run_says_how_fast_and_writes_nothing(
    battles: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stats = rehearse(small(battles, base, optimisation__epochs=2.0), steps=2)
    assert isinstance(stats, Statistics)
    assert stats.used == 18
    assert stats.speed is not None
    assert stats.speed.steps == 8
    assert stats.speed.tokens_second > 0
    assert stats.speed.peak_bytes > 10**6
    assert stats.speed.seconds == stats.speed.total_tokens / stats.speed.tokens_second
    assert not list(tmp_path.iterdir())
    config = small(battles, base)
    objective = objective_of(config, start(config, CPU), read(config))
    ticks = iter(range(100))
    speed = dry_run(objective, config, 2, clock=lambda: float(next(ticks)))
    assert speed.rows_second == pytest.approx(10 / 5)


def test_the_effort_is_six_operations_a_weight_or_four_where_it_does_not_learn(
    battles: Path, base: Path
) -> None:
    full = start(small(battles, base), CPU).network
    layers = sum(
        one.numel()
        for name, one in full.named_parameters()
        if one.ndim == 2 and "embeddings" not in name
    )
    assert effort_of(full).token == 6 * layers
    adapted = start(small(battles, base, lora__lora=True, lora__r=1), CPU).network
    found = effort_of(adapted).token
    assert 4 * layers < found < 4.7 * layers


def test_shares_are_of_the_peaks_that_doctor_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = peak_flops(CPU, torch.float32)
    assert measured is not None
    assert measured > 1e8
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    assert peak_flops(gpu, torch.bfloat16) == named("L4").half
    assert peak_flops(gpu, torch.float32) == named("L4").single
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Z9000")
    assert peak_flops(gpu, torch.bfloat16) is None
