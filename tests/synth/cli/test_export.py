"""`arena-judge synth export`, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from judge.battles import labels, read_battles
from synth.data import AnnotatedSet, write_annotated

Run = Callable[..., Result]
Make = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`arena-judge` in this process, in an empty folder."""
    from judge.cli.main import cli

    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, exit_code: int = 0) -> Result:
        found = CliRunner().invoke(cli, arguments, prog_name="arena-judge")
        assert found.exit_code == exit_code, found.output
        return found

    return invoke


@pytest.fixture
def data(annotated_set: Make, rng: np.random.Generator, tmp_path: Path) -> AnnotatedSet:
    """Sixty battles in the folder `data`, half of them labelled by people."""
    made: AnnotatedSet = annotated_set(rng, 60, samples=2, sharpness=0.9, consistency=0.8)
    made.battles.loc[made.battles.index >= 30, ["label_a", "label_b", "label_tie"]] = np.nan
    write_annotated(tmp_path / "data", made)
    return made


@pytest.mark.parametrize("file", ["train.parquet", "train.jsonl", "train.csv"])
def test_preferences_go_through_every_command(run: Run, data: AnnotatedSet, file: str) -> None:
    found = run("synth", "export", "data", "--format", "preference", "-o", file)
    assert f"{file}: written, 60 rows of 60 battles" in found.stderr
    assert len(read_battles(file)) == 60
    run("score", file, "-o", "p.csv")
    compared = run("compare", file, "p.csv", "--json")
    assert json.loads(compared.stdout)["battles"] == 60
    run("calibrate", file, "--predictions", "p.csv", "-o", "better.csv")


def test_a_judge_is_fitted_on_what_is_exported(run: Run, data: AnnotatedSet) -> None:
    run("synth", "export", "data", "--format", "preference", "-o", "train.parquet", "--hard")
    found = labels(read_battles("train.parquet"))
    assert found is not None
    assert set(found.max(axis=1)) == {1.0}
    data.annotations.to_parquet("votes.parquet")
    run("fit", "train.parquet", "--ballots", "votes.parquet", "-o", "fitted")
    run(
        *("synth", "export", "data", "--format", "preference", "-o", "again.parquet"),
        *("--source", "votes", "--aggregator", "fitted"),
    )
    assert len(read_battles("again.parquet")) == 60


def test_people_go_first_where_they_are_asked_to(run: Run, data: AnnotatedSet) -> None:
    options = ("--format", "preference", "-o", "train.parquet")
    run("synth", "export", "data", *options, "--labels", "human")
    found = read_battles("train.parquet")
    assert found["label_from"].tolist() == ["human"] * 30 + ["annotators"] * 30
    shown = labels(found)
    assert shown is not None
    wanted = data.battles[["label_a", "label_b", "label_tie"]].to_numpy()[:30]
    assert np.array_equal(shown[:30], wanted)


def test_votes_and_pairs_say_what_was_left_out(run: Run, data: AnnotatedSet) -> None:
    found = run(
        *("synth", "export", "data", "--format", "votes", "-o", "chat.jsonl"),
        *("--prompt", "discriminator", "--json"),
    )
    said = json.loads(found.stdout)
    assert said["format"] == "votes"
    assert said["rows"] == 120
    assert len(Path("chat.jsonl").read_text().splitlines()) == 120
    found = run(
        *("synth", "export", "data", "--format", "dpo", "-o", "pairs.parquet", "--json"),
        *("--prompt", "discriminator", "--rejected", "flipped"),
    )
    said = json.loads(found.stdout)
    assert said["rows"] == len(pd.read_parquet("pairs.parquet")) > 0
    left = {entry["what"]: entry["number"] for entry in said["left_out"]}
    orders = sum(n if what.startswith("order") else 2 * n for what, n in left.items())
    assert said["rows"] + orders == 120
    for what, number in left.items():
        assert number > 0
        assert what.split()[-1] in found.stderr


def test_the_default_prompt_is_the_annotators(run: Run, data: AnnotatedSet) -> None:
    found = run("synth", "export", "data", "--format", "votes", "-o", "chat.jsonl")
    assert "asked with the prompt annotated\n" in found.stderr
    assert "the prompt annotated has changed since the annotators were asked" in found.stderr
    messages = json.loads(Path("chat.jsonl").read_text().splitlines()[0])["messages"]
    assert list(json.loads(messages[-1]["content"]))[-1] == "verdict"


def test_a_folder_for_the_hub(run: Run, data: AnnotatedSet) -> None:
    options = ("--license", "cc-by-4.0", "--source-license", "arena=arena terms")
    found = run(
        *("synth", "export", "data", "--format", "hf", "-o", "out", "--test-share", "0.2"),
        *options,
        "--json",
    )
    said = json.loads(found.stdout)
    assert said["rows"] == 60
    assert "battles: 48 train, 12 test; annotations: 192 train, 48 test" in said["notes"]
    text = Path("out/README.md").read_text()
    assert "license: cc-by-4.0" in text
    assert "Of arena: arena terms" in text
    assert "the same verdict in both orders" in text
    assert "battles that people have labelled | 30 |" in text
    assert "The probabilities are those of models, and not of people." in text
    again = run("synth", "export", "data", "--format", "hf", "-o", "out", "--labels", "human")
    assert "those of people where they were asked, else" in Path("out/README.md").read_text()
    assert "out: replaced, 60 rows of 60 battles" in again.stderr
    assert "licence is unknown" in again.stderr
    assert not list(Path("out/battles").glob("test-*"))


def test_a_set_that_check_filtered_says_what_was_found(run: Run, data: AnnotatedSet) -> None:
    run("synth", "check", "data", "--filter", "kept")
    run("synth", "export", "kept", "--format", "hf", "-o", "out")
    text = Path("out/README.md").read_text()
    assert "on the set before battles were dropped from it" in text
    assert "| the other response wins when they change places |" in text
    assert len(read_battles("out/battles/train-00000-of-00001.parquet")) < 60


def test_votes_from_elsewhere_are_exported_with_their_battles(run: Run, data: AnnotatedSet) -> None:
    votes = data.annotations[["id", "judge", "order", "sample", "relevance", "clarity"]]
    votes.to_csv("votes.csv", index=False)
    options = ("--format", "preference", "-o", "train.csv")
    assert "add --battles" in run("synth", "export", "votes.csv", *options, exit_code=2).stderr
    run("synth", "export", "votes.csv", "--battles", "data/battles.parquet", *options)
    assert len(read_battles("train.csv")) == 60
    options = ("--format", "hf", "-o", "out")
    run("synth", "export", "votes.csv", "--battles", "data/battles.parquet", *options)
    found = run(
        *("synth", "export", "votes.csv", "--battles", "data/battles.parquet"),
        *("--format", "votes", "-o", "chat.jsonl"),
        exit_code=2,
    )
    assert "60 battles without a vote on every criterion" in found.stderr
    run(
        *("synth", "export", "votes.csv", "--battles", "data/battles.parquet"),
        *("--format", "votes", "-o", "chat.jsonl", "--prompt", "criterion"),
    )
    assert len(Path("chat.jsonl").read_text().splitlines()) == 240


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "preference", "-o", "t.txt"), "end it in .parquet, .jsonl or .csv"),
        (("--format", "votes", "-o", "t.csv"), "end it in .jsonl or .parquet"),
        (("--format", "preference", "-o", "t.csv", "--margin", "0.3"), "--margin is for"),
        (("--format", "votes", "-o", "t.jsonl", "--hard"), "--hard is for --format preference"),
        (("--format", "hf", "-o", "t", "--source-license", "x"), "SOURCE=LICENCE"),
        (("--format", "hf", "-o", "t", "--seed", "-1"), "--seed"),
        (("--format", "hf", "-o", "t", "--test-share", "nan"), "no number"),
        (("--format", "hf", "-o", "mine"), "is there already and is no exported data set"),
        (("--format", "hf", "-o", "data", "--force"), "which is read by this very command"),
        (("--format", "preference", "-o", "data/battles.parquet"), "is read by this very command"),
        (("--format", "votes", "-o", "t.jsonl", "--prompt", "best"), "no prompt is called best"),
        (
            ("--format", "votes", "-o", "t.jsonl", "--prompt", "referenced"),
            "shows reference answers, and the battles have none",
        ),
        (
            (
                "--format",
                "dpo",
                "-o",
                "t.jsonl",
                *("--rejected", "flipped", "--prompt", "reasoned"),
            ),
            "cannot be turned around",
        ),
        (("--format", "preference", "-o", "no/t.csv"), "its folder is not there"),
        (("--format", "preference", "-o", "t.csv", "--aggregator", "none"), "none"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    run: Run, data: AnnotatedSet, options: tuple[str, ...], message: str
) -> None:
    Path("mine").mkdir()
    Path("mine", "README.md").write_text("mine")
    before = sorted(path.name for path in Path().iterdir())
    found = run("synth", "export", "data", *options, exit_code=2)
    assert message in found.stderr
    assert "Traceback" not in found.output
    assert sorted(path.name for path in Path().iterdir()) == before


def test_other_files_are_not_replaced(run: Run, data: AnnotatedSet) -> None:
    Path("mine.csv").write_text("id,prompt,response_a,response_b\n1,a,b,c\n")
    options = ("--format", "preference", "-o", "mine.csv")
    assert "no earlier result" in run("synth", "export", "data", *options, exit_code=2).stderr
    run("synth", "export", "data", *options, "--force")
    assert "mine.csv: replaced" in run("synth", "export", "data", *options).stderr


def test_hostile_names_do_nothing_to_a_terminal(
    run: Run, data: AnnotatedSet, tmp_path: Path
) -> None:
    evil = "\x1b[31mred\x07"
    data.battles["id"] = data.battles["id"].replace("b0", evil)
    data.annotations["id"] = data.annotations["id"].replace("b0", evil)
    rows = data.annotations["id"] == evil
    for name in data.annotations.columns:
        if name.endswith(("_A", "_B", "_AB", "_NA")):
            data.annotations.loc[rows, name] = np.nan
    write_annotated(tmp_path / "data", data)
    found = run("synth", "export", "data", "--format", "preference", "-o", "t.csv")
    assert "\x1b" not in found.stderr
    assert "left out: 1 battle that nobody could judge ([31mred)" in found.stderr
