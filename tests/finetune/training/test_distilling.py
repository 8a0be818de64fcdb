"""What a student learns: teachers and labels, in the order that a battle is shown in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.logits.teachers import mean_teacher
from finetune.runs.preparing import Battles, objective_of, read
from finetune.runs.running import run
from finetune.runs.starting import start
from finetune.training.distilling import Distillation, Mixture, teacher_losses
from finetune.training.objectives import soft_cross_entropy
from finetune.training.planning import Plan
from judge.battles import read_battles
from judge.errors import InputError
from tests.finetune.small import battles_file, small
from tests.finetune.taught import labels_of, predictions, says
from tests.finetune.tiny import tiny_model
from tests.finetune.training.test_resume import EndAfter, Ended, curve_of

CPU = torch.device("cpu")
LOGITS = st.lists(st.floats(-4, 4), min_size=3, max_size=3)
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles_file(tmp_path_factory.mktemp("battles") / "battles.csv")


def student(battles: Path, base: Path, *tables: Path, **told: Any) -> tuple[Distillation, Battles]:
    config = small(
        battles,
        base,
        distillation__teacher=tuple(map(str, tables)),
        **({"data__dev_share": 0.0} | told),
    )
    found = read(config)
    objective = objective_of(config, start(config, CPU), found)
    assert isinstance(objective, Distillation)
    return objective, found


def said_by(seed: int, count: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, 3)) * 2


def softmax(logits: npt.ArrayLike) -> Floats:
    weights = np.exp(logits)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


# --- the loss -------------------------------------------------------------------------------------


@given(LOGITS, LOGITS, LOGITS, st.floats(0, 1), st.floats(0.2, 8), st.floats(0, 2), st.floats(0, 2))
def test_the_loss_and_its_gradient_are_those_of_the_formula(
    own: list[float],
    theirs: list[float],
    label: list[float],
    alpha: float,
    heat: float,
    mse: float,
    cosine: float,
) -> None:
    mixture = Mixture(alpha, heat, mse, cosine)
    logits = torch.tensor([own], dtype=torch.float32, requires_grad=True)
    teacher, target = torch.tensor([theirs]), torch.from_numpy(softmax(label)[None]).float()
    loss = teacher_losses(logits, teacher, alpha, mixture)
    loss = loss + (1 - alpha) * soft_cross_entropy(logits, target)
    loss.sum().backward()
    s, t, y = softmax(own), softmax(theirs), softmax(label)
    hot_s, hot_t = softmax(np.array(own) / heat), softmax(np.array(theirs) / heat)
    long_s, long_t = np.linalg.norm(s), np.linalg.norm(t)
    alike = s @ t / (long_s * long_t)
    expected = alpha * heat**2 * (hot_t * np.log(hot_t / hot_s)).sum()
    expected += -(1 - alpha) * (y * np.log(s)).sum() + mse * np.mean((s - t) ** 2)
    expected += cosine * (1 - alike)
    assert float(loss.detach()[0]) == pytest.approx(expected, rel=2e-4, abs=2e-5)
    # d softmax: what moves a probability moves the logits by the covariance.
    spread = np.diag(s) - np.outer(s, s)
    gradient = alpha * heat * (hot_s - hot_t) + (1 - alpha) * (s - y)
    gradient += mse * spread @ (2 / 3 * (s - t))
    gradient -= cosine * spread @ (t / (long_s * long_t) - alike * s / long_s**2)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy()[0], gradient, atol=2e-4)


def test_two_teachers_give_the_published_loss(battles: Path, base: Path, tmp_path: Path) -> None:
    one, other = (
        says(tmp_path / f"{seed}.parquet", battles, said_by(seed, 24), teacher=str(seed))
        for seed in (1, 2)
    )
    told = {"distillation__alpha": 2 / 3, "distillation__cosine": 2 / 3}
    objective, found = student(battles, base, one, other, optimisation__orders="AB", **told)
    assert found.teachers is not None
    assert found.teachers.names == ("1", "2")
    rows = np.arange(24)
    logits = torch.from_numpy(said_by(3, 24)).float()
    loss = objective.losses(logits, objective.shown(rows, 0))
    s, y = softmax(logits.numpy()), found.train.labels
    expected = -(y * np.log(s)).sum(1)
    for values in found.teachers.values:
        t = softmax(values)
        expected += (t * np.log(t / s)).sum(1)
        expected += 1 - (s * t).sum(1) / (np.linalg.norm(s, axis=1) * np.linalg.norm(t, axis=1))
    np.testing.assert_allclose(loss.numpy(), expected / 3, atol=1e-5)


def test_the_mean_teacher_moves_a_student_as_several_do_but_by_the_cosine(
    battles: Path, base: Path, tmp_path: Path
) -> None:
    tables = [
        says(tmp_path / f"{seed}.parquet", battles, said_by(seed, 24), teacher=str(seed))
        for seed in (1, 2)
    ]
    logits = torch.from_numpy(said_by(3, 24)).float()

    def gradient(several: str, **told: float) -> Floats:
        more = {f"distillation__{name}": value for name, value in told.items()}
        objective, _ = student(battles, base, *tables, distillation__several=several, **more)
        own = logits.clone().requires_grad_()
        objective.losses(own, objective.shown(np.arange(24), 0)).sum().backward()
        assert own.grad is not None
        return np.asarray(own.grad.numpy(), dtype=np.float64)

    alike = [gradient(several, alpha=0.6, mse=0.5) for several in ("each", "mean")]
    np.testing.assert_allclose(*alike, atol=1e-5)
    apart = [gradient(several, cosine=1.0) for several in ("each", "mean")]
    assert np.abs(apart[0] - apart[1]).max() > 1e-3
    warm = [gradient(several, temperature=4.0) for several in ("each", "mean")]
    assert np.abs(warm[0] - warm[1]).max() > 1e-3


def test_a_battle_has_what_there_is_of_it(battles: Path, base: Path, tmp_path: Path) -> None:
    """Teachers of some battles, labels of some: what is not there weighs nothing."""
    import pandas as pd

    table = pd.read_csv(battles)
    table.loc[12:, ["winner_model_a", "winner_model_b", "winner_tie"]] = np.nan
    partly = tmp_path / "partly.csv"
    table.to_csv(partly, index=False)
    one = says(tmp_path / "1.parquet", battles, said_by(1, 24), teacher="1", rows=slice(6, 18))
    other = says(tmp_path / "2.parquet", battles, said_by(2, 24), teacher="2", rows=slice(8, 18))
    objective, found = student(partly, base, one, other, optimisation__orders="AB")
    assert len(found.train) == 18  # of the rest nothing is known
    assert "12 of 18 battles have logits of 2 teachers, 6 of them no label" in found.notes
    logits = torch.from_numpy(said_by(3, 18)).float()
    loss = objective.losses(logits, objective.shown(np.arange(18), 0)).numpy()
    s, y = softmax(logits.numpy()), labels_of(battles)
    kl = [(t * np.log(t / s)).sum(1) for t in (softmax(said_by(seed, 24)[:18]) for seed in (1, 2))]
    ce = -(y[:18] * np.log(s)).sum(1)
    both = (kl[0] + kl[1]) / 2
    np.testing.assert_allclose(loss[:6], ce[:6], atol=1e-5)
    np.testing.assert_allclose(loss[6:8], (0.7 * kl[0] + 0.3 * ce)[6:8], atol=1e-5)
    np.testing.assert_allclose(loss[8:12], (0.7 * both + 0.3 * ce)[8:12], atol=1e-5)
    np.testing.assert_allclose(loss[12:], both[12:], atol=1e-5)
    assert np.isfinite(loss).all()


@pytest.mark.parametrize("orders", ["random", "both", "AB"])
def test_what_teachers_say_turns_with_the_responses(
    orders: str, battles: Path, base: Path, tmp_path: Path
) -> None:
    values = said_by(1, 24)
    table = says(tmp_path / "t.parquet", battles, values)
    objective, _ = student(
        battles, base, table, optimisation__orders=orders, distillation__alpha=1.0
    )
    rows = np.array([3, 0, 7, 9, 11, 20])
    shown = objective.shown(rows, 1)
    # A student that says of each battle, the way round it is shown, what the teacher says.
    said = np.where(shown.turned[:, None], values[shown.rows][:, [1, 0, 2]], values[shown.rows])
    loss = objective.losses(torch.from_numpy(said), shown)
    np.testing.assert_allclose(loss.numpy(), 0, atol=1e-5)
    assert (orders == "AB") != shown.turned.any()


@pytest.mark.parametrize("marked", [True, False])
def test_extras_are_turned_with_their_teachers(
    marked: bool, battles: Path, base: Path, tmp_path: Path
) -> None:
    extra = battles_file(tmp_path / "extra.csv", 12, seed=5)
    tables = [
        says(tmp_path / f"{name}.parquet", file, teacher=name, marked=marked)
        for name, file in (("main", battles), ("extra", extra))
    ]
    _, found = student(battles, base, *tables, data__extra=(str(extra),))
    assert found.train.turned.any()
    assert found.teachers is not None
    said = np.exp(mean_teacher(found.teachers.values)[0])
    np.testing.assert_allclose(said, found.train.labels, atol=1e-9)


def test_the_mean_of_teachers_is_that_of_those_who_speak() -> None:
    values = np.log(np.array([[[0.5, 0.3, 0.2]] * 3, [[0.1, 0.1, 0.8]] * 3]))
    values[1, 1] = values[0, 2] = values[1, 2] = np.nan
    found = np.exp(mean_teacher(values))[0]
    np.testing.assert_allclose(found[0], [0.3, 0.2, 0.5])
    np.testing.assert_allclose(found[1], [0.5, 0.3, 0.2])
    assert np.isnan(found[2]).all()


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"optimisation__orders": "both", "distillation__alpha": 1.0},
        {"model__form": "single"},
    ],
)
def test_labels_as_a_teacher_are_plain_training(
    told: dict[str, Any], battles: Path, base: Path, tmp_path: Path
) -> None:
    extra = battles_file(tmp_path / "extra.csv", 8, seed=5)
    tables = [
        str(says(tmp_path / f"{name}.parquet", file, teacher=name))
        for name, file in (("main", battles), ("extra", extra))
    ]
    # What has no gradient but rounding, such as a key's bias, is not blown up by a larger epsilon.
    plain = {"data__extra": (f"0.5*{extra}",), "optimisation__epsilon": 1e-4}
    plain |= {"optimisation__epochs": 2.0, "optimisation__lr": 3e-3}
    shared = {name: value for name, value in told.items() if not name.startswith("dist")}
    run(small(battles, base, **plain, **shared), tmp_path / "plain")
    run(small(battles, base, distillation__teacher=tuple(tables), **plain, **told),
        tmp_path / "taught")  # fmt: skip
    table = read_battles(battles)
    one, other = (predictions(tmp_path / name, table) for name in ("plain", "taught"))
    assert one.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_student_that_is_ended_again_and_again_comes_to_the_same(
    battles: Path, base: Path, tmp_path: Path
) -> None:
    table = says(tmp_path / "t.parquet", battles, said_by(1, 24))
    config = small(
        battles,
        base,
        distillation__teacher=(str(table),),
        distillation__curriculum=0.5,
        optimisation__epochs=2.0,
        run__eval_every=3,
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(config, whole)
    for step in (1, 4, 5):
        with pytest.raises(Ended):
            run(config, broken, watch=EndAfter(step))
    run(config, broken)
    assert len(curve_of(whole)) == 8
    assert curve_of(whole) == curve_of(broken)
    # What a teacher says is part of what a run is.
    with pytest.raises(Ended):
        run(config, tmp_path / "other", watch=EndAfter(3))
    says(table, battles, said_by(2, 24))
    with pytest.raises(InputError, match="unfinished run"):
        run(config, tmp_path / "other")


def test_a_curriculum_has_teachers_first_and_labels_last(
    battles: Path, base: Path, tmp_path: Path
) -> None:
    extra = battles_file(tmp_path / "extra.csv", 10, seed=5)
    strange = battles_file(tmp_path / "strange.csv", 6, seed=6)
    tables = [
        says(tmp_path / "a.parquet", battles, said_by(1, 24), teacher="a", rows=slice(0, 20)),
        says(tmp_path / "b.parquet", extra, said_by(2, 10), teacher="b"),
    ]
    told = {"data__extra": (str(extra), str(strange)), "distillation__curriculum": 0.5}
    config = small(
        battles, base, data__dev_share=0.0, optimisation__epochs=2.0,
        distillation__teacher=tuple(map(str, tables)), **told,
    )  # fmt: skip
    objective, found = student(battles, base, *tables, optimisation__epochs=2.0, **told)
    plan = Plan(objective.lengths, config, 256, False, objective.phases)
    steps = [(epoch, far, rows) for epoch, far, rows in plan.after(0)]
    size = len(found.train)
    early = np.concatenate([rows for epoch, _, rows in steps if epoch == 0])
    late = np.concatenate([rows for epoch, _, rows in steps if epoch == 1])
    assert [far for _, far, _ in steps] == sorted(far for _, far, _ in steps)
    assert steps[-1][1] == 2.0
    # First all that a teacher speaks of; last labels of the file, and of what none speaks of.
    assert sorted(early.tolist()) == np.flatnonzero(found.teachers.known).tolist()  # type: ignore[union-attr]
    assert len(early) == 30
    source = found.train.source[late - size]
    assert np.bincount(source).tolist() == [24, 0, 6]
    for done in range(len(steps)):
        rest = [rows.tolist() for _, _, rows in plan.after(done)]
        assert rest == [rows.tolist() for _, _, rows in steps[done:]]
    # Early on the label is not looked at.
    logits = torch.from_numpy(said_by(3, 2)).float()
    for offset, labels in ((0, False), (size, True)):
        rows = np.array([0, 1]) + offset
        before = objective.losses(logits, objective.shown(rows, 0))
        objective._labels = objective._labels[:, [2, 0, 1]]
        after = objective.losses(logits, objective.shown(rows, 0))
        assert bool(torch.allclose(before, after)) != labels
    assert objective.weight(rows) == 2
    short = Plan(objective.lengths, small(
        battles, base, optimisation__epochs=2.0, optimisation__max_steps=6
    ), 256, False, objective.phases)  # fmt: skip
    assert [epoch for epoch, _, _ in short.after(0)] == [0, 0, 0, 1, 1, 1]


def test_a_curriculum_without_an_end_is_one_line(battles: Path, base: Path, tmp_path: Path) -> None:
    import pandas as pd

    bare = tmp_path / "bare.csv"
    pd.read_csv(battles).iloc[:, :4].to_csv(bare, index=False)
    table = says(tmp_path / "t.parquet", battles, said_by(1, 24))
    with pytest.raises(InputError, match="has a label; leave out --curriculum"):
        student(bare, base, table, distillation__curriculum=0.5)
    objective, _ = student(bare, base, table)
    assert len(objective.lengths) == 24
    with pytest.raises(InputError, match="dev battles have no labels"):
        student(bare, base, table, data__dev_share=0.25)


# --- tables ---------------------------------------------------------------------------------------


def test_teachers_in_fold_are_refused_unless_asked_for(
    battles: Path, base: Path, tmp_path: Path
) -> None:
    table = says(tmp_path / "t.parquet", battles, said_by(1, 24), about={"in_fold": True})
    with pytest.raises(InputError, match=r"t\.parquet.*that it has learned from.*--in-fold"):
        student(battles, base, table)
    student(battles, base, table, distillation__in_fold=True)


def test_tables_of_one_teacher_are_its_parts(battles: Path, base: Path, tmp_path: Path) -> None:
    values = said_by(1, 24)
    for place, rows in enumerate((slice(0, 10), slice(10, 24))):
        says(tmp_path / f"{place}.parquet", battles, values, rows=rows)
    _, found = student(battles, base, tmp_path / "*.parquet")
    assert found.teachers is not None
    assert found.teachers.values.shape == (1, 24, 3)
    np.testing.assert_allclose(softmax(found.teachers.values[0]), softmax(values))
    says(tmp_path / "more.parquet", battles, values, rows=slice(9, 12))
    with pytest.raises(InputError, match="of which another table of t has spoken"):
        student(battles, base, tmp_path / "*.parquet")


def test_what_cannot_be_a_teacher_is_one_line(battles: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no table"):
        student(battles, base, tmp_path / "*.parquet")
    with pytest.raises(InputError, match="is not there"):
        student(battles, base, tmp_path / "none.parquet")
    other = battles_file(tmp_path / "other.csv", 24, seed=9)
    table = says(tmp_path / "t.parquet", other, said_by(1, 24))
    with pytest.raises(InputError, match="speaks of none of the battles"):
        student(battles, base, table)


@pytest.mark.slow
def test_two_processes_teach_a_student_as_one_does(battles: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    base = tiny_model("bert", tmp_path / "base", hidden_dropout_prob=0.0)
    table = says(tmp_path / "t.parquet", battles, said_by(1, 24), rows=slice(0, 20))
    told = ["--teacher", str(table), "--base", str(base), "--max-length", "64", "--lr", "0.01"]
    told += ["--epochs", "2", "--curriculum", "0.5", "--cosine", "0.5", "--step-battles", "6"]
    told += ["--batch-tokens", "128", "--device", "cpu", "--epsilon", "1e-4", "--no-tensorboard"]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    weights = []
    for name, command in (("one", []), ("two", several)):
        done = subprocess.run(
            [
                *(sys.executable, *command, "-m", "judge", "finetune", "distill", str(battles)),
                *(*told, "-o", str(tmp_path / name)),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        files = sorted((tmp_path / name).glob("*.safetensors"))
        weights.append({key: one for file in files for key, one in load_file(file).items()})
    assert set(weights[0]) == set(weights[1])
    for key, one in weights[0].items():
        np.testing.assert_allclose(one, weights[1][key], atol=1e-5, err_msg=key)
