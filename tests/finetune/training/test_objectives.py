"""What is learned: the loss of soft labels, battles in either order, the dev battles' log loss."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.runs.preparing import Battles, encoder_of, objective_of, read
from finetune.runs.starting import Start, start
from finetune.training.objectives import Preference, predict, soft_cross_entropy
from judge.judges.classifier import ClassifierJudge
from judge.metrics import log_loss
from tests.finetune.small import battles_file, small
from tests.finetune.tiny import tiny_model

CPU = torch.device("cpu")
DISTRIBUTIONS = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("objectives")
    return battles_file(folder / "battles.csv", 12), tiny_model("llama", folder / "base")


def course(made: tuple[Path, Path], **told: Any) -> tuple[Preference, Start, Battles]:
    battles, base = made
    config = small(battles, base, **told)
    found = read(config)
    begun = start(config, CPU)
    return objective_of(config, begun, found), begun, found


@given(DISTRIBUTIONS, DISTRIBUTIONS, st.floats(0, 0.9))
def test_the_loss_is_the_labels_cross_entropy(
    logits: list[float], label: list[float], smoothing: float
) -> None:
    target = np.array(label) / np.sum(label)
    smoothed = (1 - smoothing) * target + smoothing / 3
    proba = np.exp(logits) / np.exp(logits).sum()
    found = soft_cross_entropy(torch.tensor([logits]), torch.tensor([target]), smoothing)
    assert float(found[0]) == pytest.approx(-(smoothed * np.log(proba)).sum(), rel=1e-4)


def test_battles_come_in_an_order_drawn_anew_each_epoch(made: tuple[Path, Path]) -> None:
    objective, begun, battles = course(made, data__dev_share=0.0)
    encoder = encoder_of(begun)
    rows = np.arange(len(battles.train))
    orders = []
    for epoch in range(6):
        places, labels, weights = objective.batch(rows, epoch)
        turned = places % 2
        orders.append(turned.tolist())
        expected = np.where(
            turned[:, None], battles.train.labels[:, [1, 0, 2]], battles.train.labels
        )
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(weights, battles.train.weights)
        encoded = encoder.encode(battles.train.battles, ("AB", "BA"))
        np.testing.assert_array_equal(encoded.sides[places], turned)
    assert len({tuple(order) for order in orders}) > 1
    assert 0 < np.mean(orders) < 1
    again, _, _ = objective.batch(rows, 3)
    assert (again % 2).tolist() == orders[3]


def test_what_of_a_battle_is_in_a_batch_changes_nothing(made: tuple[Path, Path]) -> None:
    objective, _, battles = course(made, data__dev_share=0.0)
    every = np.arange(len(battles.train))
    places, labels, _ = objective.batch(every, 1)
    some, other, _ = objective.batch(every[3:5], 1)
    np.testing.assert_array_equal(places[3:5], some)
    np.testing.assert_array_equal(labels[3:5], other)


def test_both_orders_are_half_a_battle_each(made: tuple[Path, Path]) -> None:
    objective, _, battles = course(made, optimisation__orders="both", data__dev_share=0.0)
    places, labels, weights = objective.batch(np.array([2]), 0)
    assert places.tolist() == [4, 5]
    np.testing.assert_array_equal(labels[0], labels[1][[1, 0, 2]])
    assert weights.sum() == battles.train.weights[2]
    single, _, _ = course(made, optimisation__orders="AB", data__dev_share=0.0)
    assert (objective.lengths > single.lengths).all()


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"optimisation__orders": "both"},
        {"optimisation__orders": "AB"},
        {"model__form": "single"},
        {"model__form": "pair", "model__head": "symmetric"},
        {"model__attention": "padded"},
    ],
)
def test_the_summed_loss_is_that_of_each_battle_alone(
    told: dict[str, Any], made: tuple[Path, Path]
) -> None:
    objective, _, battles = course(made, data__dev_share=0.0, **told)
    objective.model.eval()
    rows = np.arange(len(battles.train))
    with torch.no_grad():
        together, weight, tokens = objective.loss(rows, 0)
        alone = [objective.loss(rows[at : at + 1], 0) for at in rows]
    assert weight == pytest.approx(battles.train.weights.sum())
    assert tokens == objective.lengths.sum()
    assert float(together) == pytest.approx(sum(float(one[0]) for one in alone), rel=1e-5)


@pytest.mark.parametrize("told", [{}, {"model__form": "single"}])
def test_the_dev_log_loss_is_the_judges(told: dict[str, Any], made: tuple[Path, Path]) -> None:
    objective, begun, battles = course(made, **told)
    found = objective.evaluate(nullcontext)
    judge = ClassifierJudge([begun.network], begun.tokenizer, name="tiny")
    assert battles.dev is not None
    proba = judge.predict_proba(battles.dev.battles)
    assert found == pytest.approx(log_loss(battles.dev.labels, proba), abs=1e-5)


def test_predictions_turn_with_the_responses(made: tuple[Path, Path]) -> None:
    from judge.battles import swap

    _, begun, battles = course(made, data__dev_share=0.0)
    encoder = encoder_of(begun)
    one, other = (
        predict(begun.network.eval(), encoder.encode(table, ("AB", "BA")), 512)
        for table in (battles.train.battles, swap(battles.train.battles))
    )
    np.testing.assert_allclose(one, other[:, [1, 0, 2]], atol=1e-6)
    np.testing.assert_allclose(one.sum(axis=1), 1)


def test_measuring_leaves_the_network_in_training(made: tuple[Path, Path]) -> None:
    objective, begun, _ = course(made)
    begun.network.train()
    objective.evaluate(nullcontext)
    assert begun.network.training
    none, _, _ = course(made, data__dev_share=0.0)
    assert none.evaluate(nullcontext) is None
