"""The recipes that come with the package: every command of theirs is one that there is."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from finetune.pipeline.graph import Graph
from finetune.pipeline.recipe import read_recipe, recipe_file
from judge.cli.main import cli

NAMES = ("cpu", "phi3", "three-folds", "first-place")


def parsed(words: list[str]) -> click.Context:
    """The command that words name, with its options read and nothing run."""
    context = cli.make_context("arena-judge", words, resilient_parsing=True)
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    return command.make_context("x", words)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_that_there_is(name: str, fast: bool, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file(name), fast=fast)
    graph = Graph(recipe, tmp_path)
    assert recipe.about
    assert recipe.rows
    for stage in recipe.stages:
        for task in graph.tasks(stage):
            context = parsed(list(task.words))
            assert str(task.out) in map(str, context.params.values())
    names = {stage.name for stage in recipe.stages}
    used = {name for stage in recipe.stages for name in recipe.needs(stage)}
    ends = {row.judge.partition("}")[0].strip("{") for row in recipe.rows}
    assert names - used <= ends | {"pruned"}


def test_they_are_all_here() -> None:
    folder = recipe_file("cpu").parent
    assert {path.stem for path in folder.glob("*")} == set(NAMES)
