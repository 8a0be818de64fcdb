"""A plan, from files to its folder: what is left out, what is drawn, and the same once more."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge.battles import read_battles
from judge.comparing.marks import battle_marks
from judge.comparing.near import Kind, duplicates, find
from judge.errors import InputError
from judge.judges.base import Judge
from synth.origins import Origin, of_files, of_responses, to_write
from synth.plan_writing import write_plan
from synth.planning import Drawn, Rule, draw_plan
from synth.plans import BATTLES, FILE, read_plan

Write = Callable[..., str]
Make = Callable[..., pd.DataFrame]
Draw = Callable[..., Drawn]
Words = Callable[..., str]


def digest(folder: Path) -> str:
    names = [path.name for path in sorted(folder.iterdir())]
    contents = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    return str(list(zip(names, contents, strict=True)))


# --- what a plan has ------------------------------------------------------------------------------


def test_a_plan_has_the_battles_as_they_stand_in_their_files(
    write: Write, tmp_path: Path, some: Make, drawn: Draw
) -> None:
    first = some(30, model_a="x", model_b="y", winner=["a", "b", "tie"] * 10, topic="q")
    second = some(20, 1).assign(language="fr")
    files = [write(first, "one.csv"), write(second, "two.jsonl")]
    plan = write_plan(tmp_path / "plan", drawn(files), {"annotators": ["endpoint:m"]})
    assert plan.size == 50
    assert plan.settings["annotators"] == ["endpoint:m"]
    found = pd.concat(list(plan.tables())).set_index("id")
    for table, name in ((first, "one.csv"), (second, "two.jsonl")):
        for row in table.to_dict("records"):
            battle = found.loc[str(row["id"])]
            assert battle["prompt"] == (row["prompt"],)
            assert battle["response_a"] == (row["response_a"],)
            assert battle["response_b"] == (row["response_b"],)
            assert (battle["source"], battle["source_id"]) == (name, row["id"])
            assert battle["write"] == ""
            assert battle["model_a"] == row.get("model_a")
            label = battle[["label_a", "label_b", "label_tie"]].astype(float).to_numpy()
            if "winner" in row:
                assert battle["topic"] == "q"
                assert label.argmax() == ["a", "b", "tie"].index(row["winner"])
            else:
                assert np.isnan(label).all()
                assert battle["language"] == "fr"
    judged = found["closeness"].astype(float)
    assert judged.between(0, 1).sum() + judged.isna().sum() == 50
    assert judged.isna().any()
    assert not judged.isna().all()


def test_turns_and_scripts_survive(write: Write, tmp_path: Path, some: Make, drawn: Draw) -> None:
    rows = []
    for row in some(5).to_dict("records"):
        row |= {
            name: [f"{row[name]} ünï 漢字 🙂\r\n\t", "", "«end»\x1b[2J"]
            for name in row
            if name != "id"
        }
        rows.append(row)
    name = write(pd.DataFrame(rows), "turns.parquet")
    plan = write_plan(tmp_path / "plan", drawn([name]))
    found = pd.concat(list(plan.tables())).set_index("id")
    for row in read_battles(name).to_dict("records"):
        for text in ("prompt", "response_a", "response_b"):
            assert found.loc[row["id"], text] == row[text]
            assert len(row[text]) == 3


def test_what_was_drawn_and_from_what_is_said(
    write: Write, tmp_path: Path, some: Make, drawn: Draw
) -> None:
    files = [write(some(60), "one.parquet"), write(some(40, 1), "two.parquet")]
    hold = write(some(100).iloc[:3], "held.csv")
    rule = Rule(size=20, seed=4, close=0.5, per_prompt=1)
    plan = write_plan(tmp_path / "plan", drawn(files, rule, hold=[hold]))
    said = plan.settings
    assert (said["size"], said["asked"], said["seed"], said["per_prompt"]) == (20, 20, 4, 1)
    assert [one["name"] for one in said["from"]] == ["one.parquet", "two.parquet"]
    assert [one["battles"] for one in said["from"]] == [60, 40]
    for one, file in zip([*said["from"], *said["held_out"]], [*files, hold], strict=True):
        assert one["sha256"] == hashlib.sha256(Path(file).read_bytes()).hexdigest()
        assert one["bytes"] == Path(file).stat().st_size
    assert said["read"] == 100
    assert said["dropped"] == {"held out": 3}
    assert said["undrawn"] == 77
    strata = said["strata"]
    assert strata["allocation"] == "square-root"
    assert strata["close"] == 0.5
    assert strata["closeness"]["judge"] == "unsure"
    assert sum(one["drawn"] for one in strata["counts"]) == 20
    assert sum(one["available"] for one in strata["counts"]) == 97
    found = pd.concat(list(plan.tables()))
    counts = found["stratum"].value_counts().to_dict()
    assert counts == {one["stratum"]: one["drawn"] for one in strata["counts"] if one["drawn"]}


def test_columns_called_as_ours_keep_what_they_say(
    write: Write, tmp_path: Path, some: Make, drawn: Draw
) -> None:
    table = some(6, source="theirs", file_source="too", cost="dear", stratum=7, note=None)
    plan = write_plan(tmp_path / "plan", drawn([write(table)], Rule(by=("file_source", "source"))))
    found = pd.concat(list(plan.tables()))
    assert set(found["source"]) == {"battles.parquet"}
    assert set(found["file_source"]) == {"too"}
    assert set(found["file_file_source"]) == {"theirs"}
    assert set(found["file_cost"]) == {"dear"}
    assert set(found["file_stratum"]) == {"7"}
    assert set(found["stratum"]) == {"too | battles.parquet"}


def test_ids_are_kept_where_they_can_be(
    write: Write, tmp_path: Path, some: Make, drawn: Draw
) -> None:
    first = some(4).assign(id=["x", "y", "y", "b-z"])
    second = some(3, 1).assign(id=["x", "z", "y-2"])
    third = some(2, 2).assign(id=["z", "w"])
    files = [write(first, "a.csv"), write(second, "b.csv"), write(third, "c/b.csv")]
    plan = write_plan(tmp_path / "plan", drawn(files))
    found = pd.concat(list(plan.tables()))
    called = {
        (one, other): name
        for one, other, name in zip(found["source"], found["source_id"], found["id"], strict=True)
    }
    assert found["id"].is_unique
    assert called[files[1], "x"] == "b-x"
    assert called[files[2], "w"] == "w"
    assert called["a.csv", "b-z"] == "b-z"
    assert sorted(found["id"]) == [
        "a-x",
        "a-y",
        "a-y-2",
        "b-x",
        "b-z",
        "b-z-2",
        "b-z-3",
        "w",
        "y-2",
    ]


# --- the same again -------------------------------------------------------------------------------


def test_batches_and_threads_change_no_byte(
    write: Write, tmp_path: Path, some: Make, edited: Make, unsure: Judge
) -> None:
    table = pd.concat([some(300), edited(some(300).iloc[:20])])
    name = write(table)
    digests = set()
    for number, (rows, workers) in enumerate([(1024, 1), (7, 1), (50, 4)]):
        rule = Rule(size=80, seed=3)
        made = draw_plan(of_files([name], chunk_rows=rows), rule, judge=unsure, workers=workers)
        write_plan(tmp_path / f"plan{number}", made)
        digests.add(digest(tmp_path / f"plan{number}"))
    assert len(digests) == 1


def test_the_order_of_rows_changes_no_draw(write: Write, some: Make, drawn: Draw) -> None:
    table = some(200)
    turned = table.iloc[np.random.default_rng(1).permutation(200)].assign(id=range(200))
    texts = []
    for one in (table, turned):
        found = drawn([write(one)], Rule(size=50))
        texts.append(one["prompt"].to_numpy()[found.places].tolist())
    assert texts[0] == texts[1]


def test_a_smaller_plan_is_the_beginning_of_a_larger_one(
    write: Write, tmp_path: Path, some: Make, drawn: Draw
) -> None:
    name = write(some(200))
    ids = []
    for size in (30, 90):
        plan = write_plan(tmp_path / "plan", drawn([name], Rule(size=size, close=0.4)))
        ids.append(pd.concat(list(plan.tables()))["id"].tolist())
    assert ids[0] == ids[1][:30]


def test_another_seed_is_another_plan(write: Write, some: Make, drawn: Draw) -> None:
    name = write(some(100))
    found = [drawn([name], Rule(size=20, seed=seed)).places.tolist() for seed in (0, 1)]
    assert found[0] != found[1]


@pytest.mark.slow
def test_hash_seeds_change_no_byte(write: Write, tmp_path: Path, some: Make) -> None:
    name = write(pd.concat([some(120, category="x"), some(60, 1, category="y")]))
    program = (
        "import sys; from pathlib import Path; from synth.origins import of_files;"
        "from synth.planning import Rule, draw_plan; from synth.plan_writing import write_plan;"
        "from judge.judges import load_judge;"
        "write_plan(Path(sys.argv[2]), draw_plan(of_files([sys.argv[1]]), Rule(size=50),"
        "judge=load_judge(), workers=2))"
    )
    for seed in ("0", "77"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", program, name, str(tmp_path / f"plan{seed}")]
        root = Path(__file__).parents[3]
        subprocess.run(command, env=environment, cwd=root, check=True)
    assert digest(tmp_path / "plan0") == digest(tmp_path / "plan77")


# --- files that are not what they were ------------------------------------------------------------


@pytest.mark.parametrize("change", ["rows", "ids", "texts"])
def test_a_file_that_changes_meanwhile_is_an_error_and_nothing_is_written(
    write: Write, tmp_path: Path, change: str, some: Make, drawn: Draw
) -> None:
    table = some(30)
    found = drawn([write(table)], Rule(size=10))
    if change == "rows":
        table = table.iloc[:29]
    else:
        column = "id" if change == "ids" else "response_a"
        table[column] = "new " + table[column]
    write(table)
    with pytest.raises(InputError, match="has changed while it was read"):
        write_plan(tmp_path / "plan", found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["battles.parquet"]


def test_an_earlier_plan_stays_where_a_new_one_fails(
    write: Write, tmp_path: Path, some: Make, drawn: Draw
) -> None:
    name = write(some(30))
    write_plan(tmp_path / "plan", drawn([name], Rule(size=5)))
    before = digest(tmp_path / "plan")
    found = drawn([name], Rule(size=9))
    write(some(30, 1))
    with pytest.raises(InputError):
        write_plan(tmp_path / "plan", found)
    assert digest(tmp_path / "plan") == before


def test_a_file_that_is_named_twice_is_an_error(write: Write, some: Make) -> None:
    name = write(some(5))
    with pytest.raises(InputError, match="is named twice"):
        of_files([name, str(Path(name).parent / "." / "battles.parquet")])


# --- battles that are made ------------------------------------------------------------------------


@pytest.fixture
def prompts(tmp_path: Path, words: Words) -> str:
    rng = np.random.default_rng(5)
    rows = [{"id": f"p{n}", "prompt": f"tell me of {words(rng, 9)}"} for n in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "prompts.jsonl")


def test_responses_of_models_are_paired_and_drawn(
    prompts: str, tmp_path: Path, words: Words, unsure: Judge
) -> None:
    rng = np.random.default_rng(6)
    files = {}
    for model in ("x", "y", "z"):
        rows = [{"id": f"p{n}", "response": words(rng, 30)} for n in range(12)]
        (tmp_path / f"{model}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        files[model] = str(tmp_path / f"{model}.jsonl")
    origin = of_responses(files, prompts, pairs=2)
    plan = write_plan(tmp_path / "plan", draw_plan([origin], Rule(size=20), judge=unsure))
    found = pd.concat(list(plan.tables()))
    assert len(found) == 20
    assert set(found["model_a"]) | set(found["model_b"]) == {"x", "y", "z"}
    assert found["prompt"].value_counts().max() == 2
    assert plan.settings["from"][0]["models"] == ["x", "y", "z"]
    assert len(plan.settings["from"][0]["files"]) == 4
    assert not plan.writes


def test_responses_that_are_to_be_written_are_no_copies(
    prompts: str, tmp_path: Path, unsure: Judge
) -> None:
    origin = to_write(prompts, ["endpoint:x", "endpoint:y", "endpoint:z"])
    plan = write_plan(tmp_path / "plan", draw_plan([origin], Rule(), judge=unsure))
    found = pd.concat(list(plan.tables()))
    assert len(found) == 36
    assert set(found["write"]) == {"ab"}
    assert found["closeness"].isna().all()
    assert set(found["response_a"]) == {("",)}
    assert plan.writes
    assert plan.settings["writers"] == ["endpoint:x", "endpoint:y", "endpoint:z"]
    assert plan.settings["dropped"] == {}


def test_all_kinds_together_and_prompts_held_out(
    prompts: str, write: Write, tmp_path: Path, some: Make, unsure: Judge
) -> None:
    battles = write(some(10).assign(id=[f"p{n}:0" for n in range(10)]))
    first = json.loads(Path(prompts).read_text().splitlines()[0])["prompt"]
    hold = write(some(1, 9).assign(prompt=first), "held.csv")
    origins: list[Origin] = [*of_files([battles]), to_write(prompts, ["endpoint:x", "endpoint:y"])]
    made = draw_plan(origins, Rule(by=("source", "length")), judge=unsure, hold=[hold])
    plan = write_plan(tmp_path / "plan", made)
    found = pd.concat(list(plan.tables()))
    assert len(found) == 10 + 11
    assert found["id"].is_unique
    assert set(found["source"]) == {"battles.parquet", "to write"}
    assert (first,) not in set(found["prompt"])
    assert {name for name in found["stratum"] if "unwritten" in name}
    assert (found["write"] == "ab").sum() == 11


# --- real battles ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_battles_keep_clear_of_what_is_held_out(
    shared_data: Path, tmp_path: Path, drawn: Draw
) -> None:
    files = [str(shared_data / name) for name in ("llmbar.parquet", "pandalm_testset.parquet")]
    hold = str(shared_data / "arena_dev.csv")
    found = drawn([*files, str(shared_data / "llmfao_crowd.parquet")], Rule(size=400), hold=[hold])
    plan = write_plan(tmp_path / "plan", found)
    battles = pd.concat(list(read_plan(plan.folder).tables()))
    assert len(battles) == 400
    marks = battle_marks(battles)
    assert (find(marks, battle_marks(read_battles(hold))).kinds == Kind.NONE).all()
    assert (duplicates(marks).kinds < Kind.NEAR).all()
    assert (plan.folder / FILE).is_file()
    assert (plan.folder / BATTLES).is_file()
    dropped, undrawn = sum(plan.settings["dropped"].values()), plan.settings["undrawn"]
    assert dropped + undrawn + 400 == plan.settings["read"] == 813 + 999 + 2139
