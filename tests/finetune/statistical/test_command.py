"""`finetune statistical` without folds: the judge, what is said of it, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from judge.battles import read_battles, swap
from judge.comparing.leaks import read_seen
from judge.comparing.marks import battle_marks
from judge.judges import load_judge
from judge.judges.recipes import read_recipe
from tests.finetune.statistical.quick import battles, changed, command, learned, quick, refused

__all__ = ["quick"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles(tmp_path_factory.mktemp("battles") / "battles.csv", 60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, file: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("made") / "words"
    return folder, json.loads(learned(file, "-o", folder, "--json").stdout)


def weights(folder: Path) -> bytes:
    return (folder / "weights.npz").read_bytes()


def test_what_is_made_is_a_judge(made: tuple[Path, dict[str, Any]], file: Path) -> None:
    folder, said = made
    judge = load_judge(folder)
    assert judge.name == "words"
    table = read_battles(file)
    proba = judge.predict_proba(table)
    assert np.allclose(proba.sum(axis=1), 1.0)
    assert np.array_equal(judge.predict_proba(swap(table)), proba[:, [1, 0, 2]])
    assert judge.conformity is not None
    assert [source.name for source in judge.sources] == [file.name]
    crossed = said["measured"]["cross-fitted"]
    assert crossed["battles"] == 60
    assert crossed["low"] <= crossed["log_loss"] <= crossed["high"]
    settings = read_recipe(folder / "judge.yaml").settings
    assert settings["measured"]["cross-fitted"] == crossed
    assert (settings["trained_on"], settings["head_trained_on"]) == (60, 60)
    assert settings["made_by"]["trees"] == 6


def test_it_has_learned_which_words_win(made: tuple[Path, dict[str, Any]]) -> None:
    text = "the quick brown fox answers people"
    rows = [("id", ("which one",), (text + " good good good",), (text,))]
    table = pd.DataFrame(rows, columns=["id", "prompt", "response_a", "response_b"], dtype=object)
    first, second, _ = load_judge(made[0]).predict_proba(table)[0]
    assert first > second


def test_it_knows_what_it_has_seen(made: tuple[Path, dict[str, Any]], file: Path) -> None:
    seen = read_seen(made[0])
    assert seen is not None
    assert set(seen.marks.battles.tolist()) == set(
        battle_marks(read_battles(file)).battles.tolist()
    )


def test_names_do_not_matter(made: tuple[Path, dict[str, Any]], file: Path, tmp_path: Path) -> None:
    """Nor does a second run give anything else."""
    other = changed(tmp_path / "other.csv", file, id=[f"x{n}" for n in range(60)])
    learned(other, "-o", tmp_path / "other")
    assert weights(tmp_path / "other") == weights(made[0])
    again = "replaced" in learned(other, "-o", tmp_path / "other").stderr
    assert again
    assert weights(tmp_path / "other") == weights(made[0])


def test_softening_takes_the_models_names(
    made: tuple[Path, dict[str, Any]], file: Path, tmp_path: Path
) -> None:
    names = {"model_a": ["x", "y"] * 30, "model_b": ["y", "z"] * 30}
    named = changed(tmp_path / "named.csv", file, **names)
    done = learned(named, "-o", tmp_path / "soft")
    assert "whose strengths" not in done.stderr
    assert weights(tmp_path / "soft") != weights(made[0])
    learned(named, "--soften", 0, "-o", tmp_path / "hard")
    assert weights(tmp_path / "hard") == weights(made[0])
    done = learned(named, "--anonymous", "x", "--anonymous", "z", "-o", tmp_path / "none")
    assert "no battle names both models" in done.stderr
    assert weights(tmp_path / "none") == weights(made[0])


def test_natural_battles_give_the_head(file: Path, tmp_path: Path) -> None:
    """The strength learns nothing of their prompts, and every battle left out is counted."""
    own = battles(tmp_path / "natural.csv", 24, seed=5)
    pool = tmp_path / "pool.csv"
    pd.concat([pd.read_csv(file), pd.read_csv(own).head(6).assign(id=range(6))]).to_csv(
        pool, index=False
    )
    done = learned(pool, "--head", own, "-o", tmp_path / "judge", "--json")
    said = json.loads(done.stdout)
    assert (said["trained_on"], said["head_trained_on"]) == (60, 24)
    assert said["measured"]["cross-fitted"]["battles"] == 24
    assert "pool.csv: 60 of 66 learned from (6 held out)" in done.stderr
    seen = read_seen(tmp_path / "judge")
    assert seen is not None
    assert len(seen) == 84
    made_from = read_recipe(tmp_path / "judge" / "judge.yaml").settings["made_from"]
    assert set(made_from) == {"pool.csv", "natural.csv"}


def test_what_is_held_out_is_measured_on_and_not_learned_from(file: Path, tmp_path: Path) -> None:
    table = pd.read_csv(file)
    held = tmp_path / "held.csv"
    table.head(10).to_csv(held, index=False)
    folder = tmp_path / "judge"
    said = json.loads(learned(file, "--held-out", held, "-o", folder, "--json").stdout)
    assert said["measured"]["held.csv"]["battles"] == 10
    seen = read_seen(folder)
    assert seen is not None
    assert not np.isin(seen.marks.prompts, battle_marks(read_battles(held)).prompts).any()
    proba = load_judge(folder).predict_proba(read_battles(held))
    labels = table.head(10)[["winner_model_a", "winner_model_b", "winner_tie"]].to_numpy()
    loss = float(-np.log((proba * labels).sum(axis=1)).mean())
    assert np.isclose(said["measured"]["held.csv"]["log_loss"], loss, atol=1e-5)


def test_extras_count_as_much_as_is_said(file: Path, tmp_path: Path) -> None:
    extra = battles(tmp_path / "extra.csv", 30, seed=3)
    for name, spec in {"one": f"{extra}", "half": f"0.5*{extra}"}.items():
        done = learned(file, "--extra", spec, "-o", tmp_path / name, "--json")
        said = json.loads(done.stdout)
        assert (said["trained_on"], said["head_trained_on"]) == (90, 60)
        assert said["measured"]["cross-fitted"]["battles"] == 60
    assert weights(tmp_path / "one") != weights(tmp_path / "half")


def test_unlabelled_battles_are_told_of(file: Path, tmp_path: Path) -> None:
    table = pd.read_csv(file)
    names = ["winner_model_a", "winner_model_b", "winner_tie"]
    table.loc[:4, names] = np.nan
    table.to_csv(tmp_path / "some.csv", index=False)
    done = learned(tmp_path / "some.csv", "-o", tmp_path / "judge")
    assert "some.csv: 55 of 60 learned from (5 no label)" in done.stderr


def test_battles_without_ties(file: Path, tmp_path: Path) -> None:
    """Nothing is called impossible, and it is said that there are none."""
    table = pd.read_csv(file)
    table[table["winner_tie"] == 0].to_csv(tmp_path / "clear.csv", index=False)
    done = learned(tmp_path / "clear.csv", "-o", tmp_path / "judge")
    assert "no battle is a tie" in done.stderr
    proba = load_judge(tmp_path / "judge").predict_proba(read_battles(file))
    assert (proba[:, 2] > 1e-4).all()
    assert (proba[:, 2] < 0.2).all()


def test_battles_that_are_all_the_same(tmp_path: Path) -> None:
    """The same texts on both sides, always a tie; and empty ones."""
    rows = [
        {"prompt": f"what is {n}", "response_a": text, "response_b": text, "winner": "tie"}
        for n, text in enumerate(["", "yes", "no", "of course"] * 3)
    ]
    file = tmp_path / "same.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    done = learned(file, "-o", tmp_path / "judge")
    assert "does not hold up" in done.stderr
    proba = load_judge(tmp_path / "judge").predict_proba(read_battles(file))
    assert (proba.argmax(axis=1) == 2).all()
    assert np.array_equal(proba[:, 0], proba[:, 1])


@pytest.mark.parametrize("count", [2, 3])
def test_two_prompts_are_enough(tmp_path: Path, count: int) -> None:
    file = battles(tmp_path / "few.csv", 2 * count, seed=count)
    learned(file, "-o", tmp_path / "judge")
    proba = load_judge(tmp_path / "judge").predict_proba(read_battles(file))
    assert np.isfinite(proba).all()


def test_one_prompt_is_refused(file: Path, tmp_path: Path) -> None:
    one = changed(tmp_path / "one.csv", file, prompt="which one")
    said = refused(one, "-o", tmp_path / "judge")
    assert "about one prompt only" in said
    assert "--head" in said
    assert not (tmp_path / "judge").exists()
    learned(one, "--head", file, "-o", tmp_path / "judge")
    assert load_judge(tmp_path / "judge").name == "judge"


def test_files_without_anything_to_learn(file: Path, tmp_path: Path) -> None:
    unlabelled = tmp_path / "unlabelled.csv"
    pd.read_csv(file)[["id", "prompt", "response_a", "response_b"]].to_csv(unlabelled, index=False)
    assert "has no labels" in refused(unlabelled, "-o", tmp_path / "x")
    empty = tmp_path / "empty.csv"
    pd.read_csv(file).head(0).to_csv(empty, index=False)
    assert "empty.csv" in refused(empty, "-o", tmp_path / "x")
    assert "standard input" in refused("-", "-o", tmp_path / "x")
    assert "named twice" in refused(file, "--extra", file, "-o", tmp_path / "x")
    copy = tmp_path / "copy.csv"
    copy.write_bytes(file.read_bytes())
    assert "leaves no battle" in refused(file, "--held-out", copy, "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nothing_else_is_written_over(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "--force" in refused(file, "-o", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert "--folds" in command("statistical", file, "--fold", 0, "-o", tmp_path / "x").stderr


def test_without_lightgbm_it_says_what_to_install(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    found = util.find_spec

    def missing(name: str, package: str | None = None) -> Any:
        return None if name == "lightgbm" else found(name, package)

    monkeypatch.setattr(util, "find_spec", missing)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    said = refused(file, "-o", tmp_path / "judge")
    assert "lightgbm" in said
    assert "pip install 'arena-judge[statistical]'" in said
    assert not (tmp_path / "judge").exists()
