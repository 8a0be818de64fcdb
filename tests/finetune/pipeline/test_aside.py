"""What was made otherwise makes room, and comes back if nothing takes its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from finetune.logits.making import ENDING as PARTS
from finetune.pipeline.aside import UNFINISHED, Aside
from finetune.pipeline.graph import Graph, Task
from finetune.pipeline.recipe import read_recipe
from finetune.pipeline.records import Record

pytest.importorskip("torch")

from finetune.training.checkpoints import ENDING as CHECKPOINTS

RECIPE = """
variables: {battles: b.csv, how: one}
stages:
  labels:
    run: "finetune teach {battles} --name {how} --fold {fold} -o {out}"
    each: {fold: 3}
  logits: {run: "finetune logits {battles} --name {how} -o {out}", out: "logits/x.parquet"}
"""


def graph_of(folder: Path, how: str = "one") -> Graph:
    file = folder / "r.yaml"
    file.write_text(RECIPE)
    return Graph(read_recipe(file, {"how": how}), folder / "run")


def tasks(graph: Graph, stage: str = "labels") -> tuple[Task, ...]:
    return graph.tasks(graph.recipe.stage(stage))


def made(graph: Graph, task: Task, text: str = "weights") -> None:
    """As if a task had run to its end."""
    aside = Aside(graph, lambda line: None)
    key = graph.key(task)
    assert aside.begin(task, key)
    fold = f"fold-{task.name[-1]}"
    (task.out / fold).mkdir(parents=True)
    (task.out / fold / "model").write_text(text)
    graph.records.keep(task.name, Record(key, task.words, 1.0, 1, 1, (fold,)))
    aside.made(task)


def test_what_commands_keep_beside_their_output_is_known() -> None:
    assert set(UNFINISHED) == {PARTS, CHECKPOINTS}


def test_a_change_makes_all_folds_anew_and_forgets_the_old_ones(tmp_path: Path) -> None:
    """A run that is ended while it makes the first of them leaves no record of the others."""
    graph, other = graph_of(tmp_path), graph_of(tmp_path, "two")
    for task in tasks(graph):
        made(graph, task)
    assert all(map(graph.done, tasks(graph)))
    first = tasks(other)[0]
    assert Aside(other, lambda line: None).begin(first, other.key(first))
    first.out.mkdir()  # the command has begun to write, and is killed
    (first.out / "folds.yaml").write_text("k: 3")
    assert not any(map(graph.done, tasks(graph)))
    assert not any(map(other.done, tasks(other)))


def test_folds_share_their_folder(tmp_path: Path) -> None:
    graph, other = graph_of(tmp_path), graph_of(tmp_path, "two")
    for task in tasks(graph):
        made(graph, task)
    for task in tasks(other):
        made(other, task, "other")
    assert all(map(other.done, tasks(other)))
    assert {file.read_text() for file in (tmp_path / "run" / "labels").glob("*/model")} == {"other"}
    assert not list((tmp_path / "run" / ".pipeline" / "aside").rglob("model"))


def test_a_fold_that_was_deleted_is_due(tmp_path: Path) -> None:
    graph = graph_of(tmp_path)
    for task in tasks(graph):
        made(graph, task)
    (tmp_path / "run" / "labels" / "fold-1" / "model").unlink()
    (tmp_path / "run" / "labels" / "fold-1").rmdir()
    assert list(map(graph.done, tasks(graph))) == [True, False, True]


@pytest.mark.parametrize("killed", [False, True])
def test_what_failed_before_it_wrote_anything_costs_nothing(tmp_path: Path, killed: bool) -> None:
    graph, other = graph_of(tmp_path), graph_of(tmp_path, "mistyped")
    for task in tasks(graph):
        made(graph, task)
    first = tasks(other)[0]
    aside = Aside(other, lambda line: None)
    assert aside.begin(first, other.key(first))
    assert not first.out.exists()
    if not killed:
        aside.failed(first)
    found = [
        graph.done(task) or not Aside(graph, lambda line: None).begin(task, graph.key(task))
        for task in tasks(graph)
    ]
    assert found == [True] * 3
    assert len(list((tmp_path / "run" / "labels").glob("*/model"))) == 3


def test_what_a_command_has_begun_is_left_to_it(tmp_path: Path) -> None:
    """And what another has begun, or the same for something else, is not."""
    graph, other = graph_of(tmp_path), graph_of(tmp_path, "two")
    (task,), (changed,) = tasks(graph, "logits"), tasks(other, "logits")
    parts = task.out.with_name(task.out.name + PARTS)
    aside = Aside(graph, lambda line: None)
    assert aside.begin(task, graph.key(task))
    parts.mkdir(parents=True)
    (parts / "0").write_text("done")
    assert aside.begin(task, graph.key(task))
    assert (parts / "0").is_file()
    assert Aside(other, lambda line: None).begin(changed, other.key(changed))
    assert not parts.exists()


def test_records_of_other_forms_are_none(tmp_path: Path) -> None:
    graph = graph_of(tmp_path)
    task = tasks(graph)[0]
    made(graph, task)
    record = graph.records.of(task.name)
    assert record is not None
    graph.records.keep(task.name, replace(record, key="another"))
    assert not graph.done(task)
    (graph.records.folder / f"{task.name}.json").write_text("{")
    assert graph.records.of(task.name) is None
