"""Recipes: what they may say, and what is said where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.pipeline.graph import Graph, chosen
from finetune.pipeline.recipe import Recipe, read_recipe, recipe_file
from judge.errors import InputError

SAID = """
about: Three steps.
variables: {battles: b.csv, k: 3, more: [--seed, 7]}
fast: {k: 2}
stages:
  last: {run: "finetune average {teach} --like={teach} -o {out}", out: averaged}
  folds: {run: "finetune folds {battles} -k {k} {more} -o {out}"}
  teach:
    run: "finetune teach {battles} --folds {folds} --fold {fold} -o '{out}'"
    out: teachers/fold-{fold}
    each: {fold: "{k}"}
measure:
  battles: "{battles}"
  rows:
    one: {judge: statistical}
    two: {judge: "{last}", than: one, calibrate: true}
    both: {blend: [one, two], than: two}
"""


def recipe(folder: Path, text: str = SAID, **told: str) -> Recipe:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return read_recipe(file, told)


def test_stages_come_after_those_that_they_take_from(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    assert [stage.name for stage in found.stages] == ["folds", "teach", "last"]
    assert found.needs(found.stage("last")) == ("teach",)
    assert found.about == "Three steps."


def test_words_are_filled_and_never_a_shells(tmp_path: Path) -> None:
    graph = Graph(recipe(tmp_path, battles="'a b; rm *.csv'"), tmp_path / "run")
    (folds,) = graph.tasks(graph.recipe.stage("folds"))
    made = str(tmp_path / "run" / "folds")
    said = ("finetune", "folds", "a b; rm *.csv", "-k", "3", "--seed", "7", "-o", made)
    assert folds.words == said
    teach = graph.tasks(graph.recipe.stage("teach"))
    assert [task.name for task in teach] == ["teach.0", "teach.1", "teach.2"]
    assert teach[1].out == tmp_path / "run" / "teachers" / "fold-1"
    assert teach[1].words[5:7] == ("--fold", "1")
    (last,) = graph.tasks(graph.recipe.stage("last"))
    assert last.words[2:5] == tuple(str(task.out) for task in teach)
    assert last.words[5] == f"--like={tmp_path / 'run' / 'teachers' / 'fold-*'}"


def test_the_fast_form_and_what_is_told_go_before(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SAID, encoding="utf-8")
    assert len(read_recipe(file, fast=True).stage("teach").tasks) == 2
    assert len(read_recipe(file, {"k": "5"}, fast=True).stage("teach").tasks) == 5


def test_parts_of_a_graph(tmp_path: Path) -> None:
    found = recipe(tmp_path)

    def names(**told: object) -> list[str]:
        return [stage.name for stage in chosen(found, **told)]  # type: ignore[arg-type]

    assert names(start="teach") == ["teach", "last"]
    assert names(until="teach") == ["folds", "teach"]
    assert names(start="teach", until="teach") == ["teach"]
    assert names(only=("folds", "last")) == ["folds", "last"]
    with pytest.raises(InputError, match="no stage nothing"):
        names(start="nothing")
    with pytest.raises(InputError, match="from last on and until folds"):
        names(start="last", until="folds")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{battles} -k", "{battle} -k", "names battle, and there is none"),
        ("-k {k} {more}", "-k {k}{more}", "wants one value of more"),
        ("out: averaged", "out: ../averaged", "outside the run's folder"),
        ("out: averaged", "out: /averaged", "outside the run's folder"),
        ("out: averaged", "out: folds", "make folds both"),
        ("out: averaged", "to: averaged", "says 'to'"),
        ('{fold: "{k}"}', '{fold: "{battles}"}', "counts up to 'b.csv'"),
        ('{fold: "{k}"}', '{k: "{k}"}', "called as a variable"),
        ("folds: {run", "Folds: {run", "no stage can be called 'Folds'"),
        ("than: one", "than: three", "names 'three' before it"),
        ("fast: {k: 2}", "quick: {k: 2}", "says 'quick'"),
        ("{battles} -k {k} {more} -o {out}", "{battles} {last} -o {out}", "want each other"),
        ("k: 3", "k: {a: 3}", "the variable k is no text"),
        ("about: Three", "about: [Three", "is not YAML"),
        ("'{out}'", "'{out}", "open quotation"),
    ],
)
def test_what_cannot_be_is_said_with_the_file(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    assert old in SAID
    with pytest.raises(InputError, match=said) as error:
        recipe(tmp_path, SAID.replace(old, new))
    assert "mine.yaml" in str(error.value)


def test_unknown_variables_and_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no variable size"):
        recipe(tmp_path, size="3")
    with pytest.raises(InputError, match="is no recipe"):
        recipe_file(str(tmp_path / "none.yaml"))
    file = tmp_path / "slow.yaml"
    file.write_text(SAID.replace("fast: {k: 2}", ""), encoding="utf-8")
    with pytest.raises(InputError, match="no fast form"):
        read_recipe(file, fast=True)


@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_an_error_of_ours(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "any.yaml"
        file.write_text(text, encoding="utf-8", errors="replace")
        with pytest.raises(InputError):
            read_recipe(file)
