"""Judges made one: what is written, what is refused, and what the result says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from finetune.measuring.trials import Ground
from finetune.settings.config import LoraConfig
from finetune.weights.folders import opened, own_loss, read_judge_folder
from finetune.weights.weighing import weights_by_loss
from judge.battles import read_battles
from judge.cli.main import cli
from judge.comparing.leaks import read_seen, seen_of, write_seen
from judge.errors import InputError
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.finetune.adapted import base_model, copied, drawn_folds, drawn_judge
from tests.finetune.small import battles_file

EXACT = ClassifierSettings(device=("cpu",), dtype="float32")
ON_CPU = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, three judges of folds, and battles."""
    room = tmp_path_factory.mktemp("average")
    drawn_folds(base_model(room / "base"), room / "folds")
    battles_file(room / "dev.csv", 12)
    return room


def average(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", "average", *map(str, arguments)])


def proba(folder: Path, battles: Path) -> Any:
    return load_judge(folder, running=EXACT).predict_proba(read_battles(battles))


def change_of(folder: Path) -> dict[str, Any]:
    """What an adapter adds to each matrix."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config["use_rslora"] else rank)
    names = [name.removesuffix(".lora_A.weight") for name in tensors if "lora_A" in name]
    return {
        name: scale * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        for name in names
    }


def mean(parts: Sequence[Any], name: str) -> Any:
    """Of one tensor."""
    return torch.stack([one[name] for one in parts]).mean(dim=0)


def settings_of(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "judge.yaml").read_text()))


def test_the_mean_of_folds_is_the_mean_of_their_changes(room: Path, tmp_path: Path) -> None:
    made = average(room / "folds", "-o", tmp_path / "all" / "one", "--rank", "exact")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("judge ")
    assert "the average of 3 judges, 14 matrices of rank 12, 0.00%" in made.stderr
    target = tmp_path / "all" / "one"
    parts = [change_of(room / "folds" / f"fold-{fold}") for fold in range(3)]
    for name, change in change_of(target).items():
        assert torch.allclose(change, mean(parts, name), atol=1e-6)
    heads = [load_file(room / "folds" / f"fold-{n}" / "head.safetensors") for n in range(3)]
    for name, weight in load_file(target / "head.safetensors").items():
        assert torch.allclose(weight, mean(heads, name), atol=1e-6)
    told = settings_of(target)
    assert told["kind"] == "classifier"
    assert told["folds"] == "f00d"
    assert told["made_by"]["rank"] == 12
    assert [one["judge"] for one in told["averaged"]] == ["fold-0", "fold-1", "fold-2"]
    assert (target / told["base"]).resolve() == (room / "base").resolve()
    assert np.isfinite(proba(target, room / "dev.csv")).all()


def test_what_the_rank_cannot_hold_is_said(room: Path, tmp_path: Path) -> None:
    made = average(room / "folds", "-o", tmp_path / "one", "--json")
    told = json.loads(made.stdout)
    assert told["rank"] == 4
    assert 0.05 < told["lost"] < 0.95
    assert told["judges"] == ["fold-0", "fold-1", "fold-2"]
    assert told["weights"] == pytest.approx([1 / 3] * 3)
    less = json.loads(average(room / "folds", "-o", tmp_path / "two", "--rank", 8, "--json").stdout)
    assert 0 < less["lost"] < told["lost"]


@pytest.mark.parametrize("how", ["deltas", "factors"])
def test_one_judge_is_its_own_average(how: str, room: Path, tmp_path: Path) -> None:
    first = room / "folds" / "fold-0"
    made = average(first, "-o", tmp_path / "one", "--how", how)
    assert made.exit_code == 0, made.output
    for name in ("adapter_model.safetensors", "head.safetensors"):
        held, written = load_file(first / name), load_file(tmp_path / "one" / name)
        assert set(held) == set(written)
        assert all(torch.equal(held[key], written[key]) for key in held)
    one, two = (proba(where, room / "dev.csv") for where in (first, tmp_path / "one"))
    np.testing.assert_array_equal(one, two)


def test_judges_that_are_alike_are_their_own_average(room: Path, tmp_path: Path) -> None:
    base = base_model(tmp_path / "base")
    first = drawn_judge(base, tmp_path / "a" / "x", 1)
    copied(first, tmp_path / "a" / "y")
    made = average(first, tmp_path / "a" / "y", "-o", tmp_path / "a" / "z", "--rank", "exact")
    assert made.exit_code == 0, made.output
    one, two = (change_of(folder) for folder in (first, tmp_path / "a" / "z"))
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    dev = room / "dev.csv"
    np.testing.assert_allclose(proba(first, dev), proba(tmp_path / "a" / "z", dev), atol=1e-6)


def test_the_published_way_is_another(room: Path, tmp_path: Path) -> None:
    made = average(room / "folds", "-o", tmp_path / "one", "--how", "factors")
    assert made.exit_code == 0, made.output
    held = [load_file(room / "folds" / f"fold-{n}" / "adapter_model.safetensors") for n in range(3)]
    written = load_file(tmp_path / "one" / "adapter_model.safetensors")
    for name, weight in written.items():
        assert torch.allclose(weight, mean(held, name), atol=1e-6)
    parts = [change_of(room / "folds" / f"fold-{n}") for n in range(3)]
    far = [
        float((change - mean(parts, name)).abs().max())
        for name, change in change_of(tmp_path / "one").items()
    ]
    assert min(far) > 1e-4


def test_whole_judges_are_averaged_whole(room: Path, tmp_path: Path) -> None:
    folders = [
        drawn_judge(room / "base", tmp_path / f"w{n}", n, whole=True) for n in range(2)
    ]  # fmt: skip
    made = average(*folders, "-o", tmp_path / "one")
    assert made.exit_code == 0, made.output
    assert "matrices" in made.stderr
    assert "rank" not in made.stderr
    held = [load_file(folder / "model.safetensors") for folder in folders]
    written = load_file(tmp_path / "one" / "model.safetensors")
    for name, weight in written.items():
        assert torch.allclose(weight, (held[0][name] + held[1][name]) / 2, atol=1e-6)
    assert np.isfinite(proba(tmp_path / "one", room / "dev.csv")).all()
    told = average(*folders, "-o", tmp_path / "two", "--how", "factors")
    assert told.exit_code == 2
    assert "leave out --how" in told.stderr
    other = base_model(tmp_path / "stranger")
    strange = drawn_judge(other, tmp_path / "w2", 2, whole=True)
    told = average(*folders, strange, "-o", tmp_path / "two")
    assert told.exit_code == 2
    assert "is of the base stranger" in told.stderr


# --- weights --------------------------------------------------------------------------------------


def test_better_folds_count_for_more(room: Path, tmp_path: Path) -> None:
    made = average(room / "folds", "-o", tmp_path / "one", "--weights", "cv", "--json")
    weights = json.loads(made.stdout)["weights"]
    assert weights == pytest.approx(weights_by_loss([1.0, 1.1, 1.2]))
    assert weights[0] / weights[1] == pytest.approx(np.exp(0.1 / 0.05))
    cool = average(
        *(room / "folds", "-o", tmp_path / "two", "--weights", "cv", "--temperature", 10, "--json")
    )
    assert max(json.loads(cool.stdout)["weights"]) < 0.35
    assert weights_by_loss([0.0, 1000.0])[1] > 0.002
    assert settings_of(tmp_path / "one")["averaged"][0]["weight"] == pytest.approx(
        weights[0], abs=1e-5
    )


def test_weights_that_nothing_is_known_for_are_refused(room: Path, tmp_path: Path) -> None:
    lone = drawn_judge(room / "base", tmp_path / "lone", 0)
    told = average(lone, "-o", tmp_path / "one", "--weights", "cv")
    assert told.exit_code == 2
    assert "states no log loss" in told.stderr
    told = average(lone, "-o", tmp_path / "one", "--weights", "advantage")
    assert told.exit_code == 2
    assert "add --dev" in told.stderr
    assert not (tmp_path / "one").exists()


def test_a_judge_is_weighed_by_its_own_fold(room: Path, tmp_path: Path) -> None:
    assert own_loss(read_judge_folder(room / "folds" / "fold-1")) == 1.1
    measured = {"held.csv": {"log_loss": 0.7}, "dev": {"log_loss": 0.5}}
    folder = drawn_judge(room / "base", tmp_path / "x", 0, measured=measured)
    assert own_loss(read_judge_folder(folder)) == 0.7
    # What is held out of all folds is measured on in the end, and weighs no judge of a fold.
    folder = drawn_judge(room / "base", tmp_path / "y", 0, measured=measured, fold=1)
    assert own_loss(read_judge_folder(folder)) == 0.5
    folder = drawn_judge(
        room / "base", tmp_path / "z", 0, measured={"held.csv": {"log_loss": 0.7}}, fold=1
    )
    with pytest.raises(InputError, match="states no log loss"):
        own_loss(read_judge_folder(folder))


# --- trials ---------------------------------------------------------------------------------------


def test_an_average_is_tried_on_battles(room: Path, tmp_path: Path) -> None:
    dev = room / "dev.csv"
    arguments = (room / "folds", "-o", tmp_path / "one", "--dev", dev, "--force-merge", *ON_CPU)
    made = average(*arguments, "--json", "--weights", "advantage", "--rank", "exact")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    names = [one["judge"] for one in told["scores"]]
    assert names[:2] == ["average", "mean of their probabilities"]
    assert sum(told["weights"]) == pytest.approx(1)
    own = told["scores"][0]["log_loss"]
    each = np.mean([one["log_loss"] for one in told["scores"][2:]])
    assert told["less_judges"][0] == pytest.approx(own - each, abs=2e-4)
    assert told["less_mean"][0] == pytest.approx(own - told["scores"][1]["log_loss"], abs=2e-4)
    kept = settings_of(tmp_path / "one")["measured"]["dev.csv"]
    assert kept["log_loss"] == own
    assert kept["battles"] == 12


@pytest.mark.parametrize("as_json", [True, False])
def test_an_average_that_loses_is_not_written(
    as_json: bool, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judges that know the answers, and an average that does not."""

    def said_by(ground: Ground, folder: Path, *about: Any) -> Any:
        sure = 0.9 * ground.labels + 0.1 / 3
        return sure if "fold-" in folder.name else np.full_like(sure, 1 / 3)

    monkeypatch.setattr(Ground, "said_by", said_by)
    target = tmp_path / "z"
    arguments = (room / "folds", "-o", target, "--dev", room / "dev.csv")
    told = average(*arguments, *(["--json"] if as_json else []))
    assert told.exit_code == 1, told.output
    assert "loses against the judges" in told.stderr
    if as_json:
        found = json.loads(told.stdout)
        assert found["refused"] is True
        assert found["output"] is None
        assert found["less_judges"][0] == pytest.approx(np.log(3 * (0.9 + 0.1 / 3)), abs=1e-3)
    else:
        assert "average less its judges' mean log loss: +1.0" in told.stdout
    assert list(tmp_path.iterdir()) == []
    forced = average(*arguments, "--force-merge")
    assert forced.exit_code == 0, forced.output
    assert "--force-merge" in forced.stderr
    assert target.is_dir()


def test_what_was_learned_from_is_known_of_the_average(room: Path, tmp_path: Path) -> None:
    files = [battles_file(tmp_path / f"b{n}.csv", 5, seed=n) for n in range(2)]
    folders = []
    for n, file in enumerate(files):
        made_from = {file.name: {"bytes": 1, "sha256": "00"}}
        folder = drawn_judge(room / "base", tmp_path / "j" / str(n), n, made_from=made_from)
        write_seen(folder, seen_of(file))
        folders.append(folder)
    folders.append(drawn_judge(room / "base", tmp_path / "j" / "quiet", 4))
    made = average(*folders, "-o", tmp_path / "one", "--dev", files[0], "--force-merge", *ON_CPU)
    assert made.exit_code == 0, made.output
    seen = read_seen(tmp_path / "one")
    assert seen is not None
    assert len(seen) == 10
    assert set(seen.names) == {"b0.csv", "b1.csv"}
    assert list(settings_of(tmp_path / "one")["made_from"]) == ["b0.csv", "b1.csv"]
    assert "not known what quiet learned from" in made.stderr
    assert "5 of the 5 battles that it is tried on were learned from" in made.stderr


# --- what does not fit ----------------------------------------------------------------------------


def refused(*arguments: object) -> str:
    told = average(*arguments)
    assert told.exit_code == 2, told.output
    assert told.stderr.count("\n") == 1
    return told.stderr


def test_judges_that_have_no_mean_are_refused(room: Path, tmp_path: Path) -> None:
    first, out = room / "folds" / "fold-0", tmp_path / "out"
    other = base_model(tmp_path / "base")
    assert "of the base" in refused(first, drawn_judge(other, tmp_path / "a", 1), "-o", out)
    whole = drawn_judge(room / "base", tmp_path / "b", 1, whole=True)
    assert "has all its weights" in refused(first, whole, "-o", out)
    short = copied(first, tmp_path / "c")
    tree = settings_of(short)
    base = str(room / "base")
    (short / "judge.yaml").write_text(yaml.safe_dump(tree | {"max_length": 32, "base": base}))
    assert "has max_length 32" in refused(first, short, "-o", out)
    odd = drawn_judge(
        room / "base", tmp_path / "d", 1, lora=LoraConfig(r=4, alpha=8, targets=("q_proj",))
    )
    assert "lacks base_model" in refused(first, odd, "-o", out)
    assert "named twice" in refused(room / "folds", first, "-o", out)
    assert "is neither a judge folder" in refused(room / "base", "-o", out)
    assert "not there" in refused(tmp_path / "nowhere", "-o", out)
    assert "which is read" in refused(first, "-o", room / "folds", "--force")
    assert "which is read" in refused(first, "-o", room / "base", "--force")
    assert not out.exists()


@pytest.mark.parametrize("rank", ["0", "-1", "all", "1e3", "9999999", ""])
def test_what_is_no_rank_is_said(rank: str, room: Path, tmp_path: Path) -> None:
    assert "is no rank" in refused(room / "folds", "-o", tmp_path / "out", "--rank", rank)


def test_beginnings_that_differ_are_told_apart(room: Path, tmp_path: Path) -> None:
    first, out = room / "folds" / "fold-0", tmp_path / "out"
    stranger = drawn_judge(room / "base", tmp_path / "x", 1, start=5)
    assert "did not begin alike" in refused(first, stranger, "-o", out, "--how", "factors")
    made = average(first, stranger, "-o", out)
    assert made.exit_code == 0, made.output
    assert "note: the judges did not begin alike" in made.stderr
    for seed, folder in enumerate([copied(first, tmp_path / "y"), copied(first, tmp_path / "z")]):
        tree = settings_of(folder) | {"base": str(room / "base")}
        (folder / "judge.yaml").write_text(yaml.safe_dump(tree))
        (folder / "train.yaml").write_text(yaml.safe_dump({"run": {"seed": seed}}))
    both = (tmp_path / "y", tmp_path / "z")
    assert "other seeds" in refused(*both, "-o", out, "--how", "factors")


def test_adapters_of_other_kinds(room: Path, tmp_path: Path) -> None:
    stable = LoraConfig(r=4, alpha=8, rslora=True)
    two = [drawn_judge(room / "base", tmp_path / f"r{n}", n, lora=stable) for n in range(2)]
    made = average(*two, "-o", tmp_path / "r", "--rank", "exact")
    assert made.exit_code == 0, made.output
    parts = [change_of(folder) for folder in two]
    for name, change in change_of(tmp_path / "r").items():
        assert torch.allclose(change, (parts[0][name] + parts[1][name]) / 2, atol=1e-6)
    assert "use_rslora" in refused(room / "folds", two[0], "-o", tmp_path / "out")
    dora = LoraConfig(r=4, alpha=8, dora=True)
    two = [drawn_judge(room / "base", tmp_path / f"d{n}", n, lora=dora) for n in range(2)]
    assert "merge the judges first" in refused(*two, "-o", tmp_path / "out")
    made = average(*two, "-o", tmp_path / "d", "--how", "factors")
    assert made.exit_code == 0, made.output
    assert np.isfinite(proba(tmp_path / "d", room / "dev.csv")).all()
    small = drawn_judge(room / "base", tmp_path / "s", 1, lora=LoraConfig(r=2, alpha=8))
    first = room / "folds" / "fold-0"
    assert "another rank" in refused(first, small, "-o", tmp_path / "out", "--how", "factors")
    made = average(first, small, "-o", tmp_path / "mixed", "--rank", "exact", "--json")
    assert json.loads(made.stdout)["rank"] == 6


def test_broken_weights_are_found(room: Path, tmp_path: Path) -> None:
    folder = drawn_judge(room / "base", tmp_path / "x", 1)
    file = folder / "head.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file(tensors | {name: torch.full_like(tensors[name], float("nan"))}, file)
    assert "broken weights" in refused(folder, room / "folds", "-o", tmp_path / "out")
    config = folder / "adapter_config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"r": 3}))
    assert "no two factors of rank 3" in refused(folder, "-o", tmp_path / "out")
    config.write_text(json.dumps(said | {"rank_pattern": {"q_proj": 3}}))
    assert "cannot be averaged" in refused(folder, "-o", tmp_path / "out")
    config.write_text(json.dumps(said))
    file.write_bytes(b"no weights")
    assert "cannot be loaded" in refused(folder, "-o", tmp_path / "out")
    config.write_text("[")
    assert "cannot be read" in refused(folder, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_folds_are_opened(room: Path) -> None:
    names = [path.name for path in opened([room / "folds"])]
    assert names == ["fold-0", "fold-1", "fold-2"]
    with pytest.raises(InputError, match="named twice"):
        opened([room / "folds", room / "folds" / "fold-0"])


def test_a_fold_that_is_missing_is_missed(room: Path, tmp_path: Path) -> None:
    """An average of two judges is none of three folds."""
    folder = tmp_path / "folds"
    shutil.copytree(room / "folds", folder)
    (folder / "folds.yaml").write_text("{folds: x, k: 3, by: prompt, seed: 0}")
    assert len(opened([folder])) == 3
    shutil.rmtree(folder / "fold-1")
    with pytest.raises(InputError, match="has no judge of fold 1"):
        opened([folder])
    assert len(opened([folder / "fold-0", folder / "fold-2"])) == 2
