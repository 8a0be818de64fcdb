"""Several adapters on one base: what they say together is what they say apart."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("torch")

from finetune.settings.config import LoraConfig
from judge.battles import read_battles
from judge.errors import InputError
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.finetune.adapted import base_model, drawn_folds, drawn_judge
from tests.finetune.small import battles_file

EXACT = ClassifierSettings(device=("cpu",), dtype="float32")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("adapters")
    base = base_model(room / "base")
    drawn_folds(base, room / "folds", (1.0, 1.1))
    # Of another rank, in fewer places, of another kind: what folds never are.
    odd = LoraConfig(r=2, alpha=4, targets=("q_proj", "down_proj"), dora=True)
    drawn_judge(base, room / "odd", 7, lora=odd, max_length=56)
    battles_file(room / "battles.csv", 10)
    return room


def recipe(room: Path, file: str = "tta.yaml", **said: Any) -> Path:
    path = room / file
    path.write_text(yaml.safe_dump({"kind": "adapters"} | said))
    return path


def proba(judge: Path, room: Path, running: ClassifierSettings = EXACT) -> Any:
    with closing(load_judge(judge, running=running)) as loaded:
        return loaded.predict_proba(read_battles(room / "battles.csv"))


def test_together_they_say_what_they_say_apart(room: Path) -> None:
    names = ["folds/fold-0", "folds/fold-1", "odd"]
    apart = [proba(room / name, room) for name in names]
    made = recipe(room, adapters=names)
    with closing(load_judge(made, running=EXACT)) as judge:
        battles = read_battles(room / "battles.csv")
        together = judge.predict_proba(battles)
        again = judge.predict_proba(battles)
        assert [one.name for one in judge.members] == ["fold-0", "fold-1", "odd"]
        shared = {id(one._runner.networks[0].backbone) for one in judge._members}  # type: ignore[attr-defined]
        assert len(shared) == 1
    np.testing.assert_allclose(together, np.mean(apart, axis=0), atol=1e-5)
    np.testing.assert_array_equal(together, again)
    assert np.ptp(apart, axis=0).max() > 1e-3


def test_weights_and_logits(room: Path) -> None:
    names = ["folds/fold-0", "folds/fold-1"]
    one, two = (proba(room / name, room) for name in names)
    linear = {"method": "mean", "pool": "linear", "weights": [0.75, 0.25]}
    found = proba(recipe(room, adapters=names, blend=linear), room)
    np.testing.assert_allclose(found, 0.75 * one + 0.25 * two, atol=1e-5)
    half = [0.5, 0.5]
    log = {"method": "mean", "pool": "log", "strength": half, "tie": half, "shift": 0.0}
    found = proba(recipe(room, adapters=names, blend=log), room)
    wanted = np.exp((np.log(one) + np.log(two)) / 2)
    np.testing.assert_allclose(found, wanted / wanted.sum(axis=1, keepdims=True), atol=1e-5)


def test_lengths_are_averaged_for_each_adapter(room: Path) -> None:
    names = ["folds/fold-0", "folds/fold-1"]
    lengths = ClassifierSettings(device=("cpu",), dtype="float32", lengths=(52, 64))
    wanted = np.mean([proba(room / name, room, lengths) for name in names], axis=0)
    made = recipe(room, adapters=names, running={"lengths": [52, 64]})
    np.testing.assert_allclose(proba(made, room), wanted, atol=1e-5)
    assert np.abs(wanted - proba(recipe(room, adapters=names), room)).max() > 1e-4


def test_exchanging_the_responses_exchanges_the_answers(room: Path) -> None:
    with closing(
        load_judge(recipe(room, adapters=["folds/fold-0", "odd"]), running=EXACT)
    ) as judge:
        battles = read_battles(room / "battles.csv")
        turned = battles.assign(response_a=battles["response_b"], response_b=battles["response_a"])
        np.testing.assert_array_equal(
            judge.predict_proba(battles), judge.predict_proba(turned)[:, [1, 0, 2]]
        )


def test_a_single_adapter_is_the_judge_itself(room: Path) -> None:
    made = recipe(room, adapters=["folds/fold-0"])
    np.testing.assert_allclose(proba(made, room), proba(room / "folds" / "fold-0", room), atol=1e-5)


def test_what_shares_no_base_is_refused(room: Path, tmp_path: Path) -> None:
    other = drawn_judge(base_model(tmp_path / "base"), tmp_path / "x", 1)
    whole = drawn_judge(room / "base", tmp_path / "w", 1, whole=True)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"adapters": ["folds/fold-0", str(other)]}, "is of the base"),
        ({"adapters": ["folds/fold-0", str(whole)]}, "no judge with an adapter"),
        ({}, "lists no adapters"),
        ({"adapters": []}, "lists no adapters"),
        ({"adapters": ["nowhere"]}, "not found"),
        ({"adapters": ["odd"], "blend": {"pool": "ranking", "order": [0]}}, "not one of the pools"),
        (
            {"adapters": ["odd"], "blend": {"pool": "linear", "weights": [0.5, 0.5]}},
            "not one of the pools",
        ),
        ({"adapters": ["odd"], "running": {"lengths": "long"}}, "lengths that cannot be"),
    ]
    for said, why in cases:
        with pytest.raises(InputError, match=why):
            load_judge(recipe(room, "bad.yaml", **said), running=EXACT)
