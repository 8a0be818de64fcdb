"""`arena-judge synth check`: the figures of `compare`, the set that is left, faults in a line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from judge.ballot_files import write_ballots
from synth.data import AnnotatedSet, read_annotated, write_annotated

Run = Callable[..., Result]
Make = Callable[..., AnnotatedSet]
Rng = np.random.Generator


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`arena-judge` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    from judge.cli.main import cli

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, prog_name="arena-judge")

    return invoke


@pytest.fixture
def data(run: Run, annotated_set: Make, rng: Rng) -> AnnotatedSet:
    """A set in the folder `data`, a fifth of which is worth nothing."""
    made = annotated_set(
        rng, 60, consistency=0.8, sharpness=0.8, manifest={"annotators": ["teacher"], "cost": 1.5}
    )
    write_annotated(Path("data"), made)
    return made


def _files(battles: pd.DataFrame, annotations: pd.DataFrame) -> None:
    """The same as a file of ballots and one of battles, as they are from elsewhere."""
    table = battles.copy()
    for name in ("prompt", "response_a", "response_b"):
        table[name] = [json.dumps(list(turns)) for turns in table[name]]
    table.to_csv("battles.csv", index=False)
    write_ballots("ballots.parquet", annotations)


def _same(one: Any, other: Any) -> None:
    """Two comparisons but for what a judge is called and how long it took."""

    def bare(found: Any) -> str:
        prior, score = (
            {key: value for key, value in row.items() if key not in ("name", "effort")}
            for row in found["scores"]
        )
        rest = {name: found[name] for name in ("battles", "common", "prompts", "prior", "rounds")}
        rest |= {"length_correlation": found["length_correlation"], "seed": found["seed"]}
        return json.dumps([prior, score, rest])

    assert bare(one) == bare(other)


# --- the figures of compare -----------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--rounds", "300", "--seed", "5")])
def test_votes_have_every_figure_of_compare(
    run: Run, annotated_set: Make, rng: Rng, more: tuple[str, ...]
) -> None:
    data = annotated_set(
        rng, 90, annotators=("t", "u"), consistency=0.7, unreadable=0.1, verdict=False
    )
    _files(data.battles, data.annotations)
    told = run("synth", "check", "ballots.parquet", "--battles", "battles.csv", "--json", *more)
    assert told.exit_code == 0, told.stderr
    compared = run("compare", "battles.csv", "ballots.parquet", "--json", *more)
    humans = json.loads(told.stdout)["humans"]
    _same(humans["labels"], json.loads(compared.stdout))
    assert humans["votes"] is None
    for place, name in enumerate(("t", "u")):
        write_ballots("one.parquet", data.annotations[data.annotations["judge"] == name])
        alone = run("compare", "battles.csv", "one.parquet", "--json", *more)
        _same(humans["annotators"][place], json.loads(alone.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llmfao_crowd", "pandalm_testset", "judgebench"])
def test_recorded_votes_have_every_figure_of_compare(
    run: Run, shared_data: Path, name: str
) -> None:
    votes = pd.read_parquet(shared_data / "recorded" / "judge_votes.parquet")
    votes[votes["battles"] == name].drop(columns="battles").to_parquet("votes.parquet")
    assert run("import", "votes.parquet", "-o", "ballots.parquet").exit_code == 0
    battles = str(shared_data / f"{name}.parquet")
    said = ("--json", "--rounds", "200")
    told = run("synth", "check", "ballots.parquet", "--battles", battles, *said)
    assert told.exit_code == 0, told.stderr
    found, compared = json.loads(told.stdout), run("compare", battles, "ballots.parquet", *said)
    _same(found["humans"]["labels"], json.loads(compared.stdout))
    assert found["criteria"]["single"] is True
    assert found["reasons"] is None


def test_labels_from_a_file_count_as_in_compare(run: Run, data: AnnotatedSet) -> None:
    _files(data.battles, data.annotations)
    labels = pd.DataFrame({"id": ["b0", "b1", "b2"], "winner": ["tie", "tie", "a"]})
    labels.to_csv("labels.csv", index=False)
    said = ("--labels", "labels.csv", "--json", "--rounds", "200")
    told = json.loads(run("synth", "check", "data", "--source", "votes", *said).stdout)
    compared = run("compare", "battles.csv", "ballots.parquet", *said)
    _same(told["humans"]["labels"], json.loads(compared.stdout))
    assert told["relabelled"]["given"] == 3


def test_an_aggregator_that_was_fitted(run: Run, data: AnnotatedSet) -> None:
    Path("fitted").mkdir()
    Path("fitted/judge.yaml").write_text("kind: recorded\naggregator:\n  temperature: 6\n")
    said = ("synth", "check", "data", "--source", "votes", "--json", "--rounds", "100")
    plain = json.loads(run(*said).stdout)
    found = json.loads(run(*said, "--aggregator", "fitted").stdout)
    assert found["balance"]["entropy"] < plain["balance"]["entropy"]
    assert plain["humans"]["votes"] is None
    # What compare shows of the votes is still there.
    assert found["humans"]["votes"] is not None


# --- what is shown and written --------------------------------------------------------------------


def test_tables_say_everything_and_the_verdict_last(run: Run, data: AnnotatedSet) -> None:
    result = run("synth", "check", "data")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith("data: 60 battles, 60 prompts; 120 records by 1 annotator")
    assert "order-flip" in result.stdout
    assert "Held-out files: not known; name them by --held-out." in lines
    assert lines[-1].startswith(("Worth training on", "Not worth training on"))
    assert max(map(len, lines)) <= 160
    # The same battles, the same words.
    assert run("synth", "check", "data").stdout == result.stdout


def test_the_set_that_is_left(run: Run, data: AnnotatedSet) -> None:
    result = run("synth", "check", "data", "--filter", "kept", "-o", "drops.csv", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    with open("drops.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"id", "reason", "detail", "applied"}
    gone = {row["id"] for row in rows if row["applied"] == "yes"}
    assert 0 < len(gone) < 60
    kept = read_annotated("kept")
    left = data.battles[~data.battles["id"].isin(gone)]
    assert kept.battles["id"].tolist() == left["id"].tolist()
    assert set(kept.annotations["id"]) == set(left["id"])
    assert len(kept.annotations) == 2 * len(left)
    assert told["kept"] == len(left)
    assert told["dropped"] == len(gone)
    # Everything a record had, and what the set said of itself.
    assert kept.annotations["reply"].tolist() == [
        reply
        for name, reply in zip(data.annotations["id"], data.annotations["reply"], strict=True)
        if name not in gone
    ]
    said = yaml.safe_load(Path("kept/synth.yaml").read_text())
    assert said["cost"] == 1.5
    assert (said["check"]["battles"], said["check"]["kept"]) == (60, len(left))
    assert said["check"]["dropped"]["order-flip"] == sum(r["reason"] == "order-flip" for r in rows)
    assert said["check"]["figures"]["annotators"]["teacher"]["records"] == 120
    assert set(said["check"]["from"]) == {"synth.yaml", "battles.parquet", "annotations.parquet"}


def test_what_was_filtered_is_not_sold_as_consistent(run: Run, data: AnnotatedSet) -> None:
    run("synth", "check", "data", "--filter", "kept")
    result = run("synth", "check", "kept", "--filter", "again", "--json")
    told = json.loads(result.stdout)
    assert told["by_order"][0]["same"]["value"] > 0.95
    assert told["kept"] == told["battles"]
    assert "filtered" in {one["measure"] for one in told["verdict"]["findings"]}
    said = yaml.safe_load(Path("again/synth.yaml").read_text())
    assert said["check"]["before"]["battles"] == 60


def test_reasons_are_added_and_taken_away(run: Run, data: AnnotatedSet) -> None:
    plain = json.loads(run("synth", "check", "data", "--json").stdout)
    flips = plain["reasons_to_drop"]["order-flip"]
    kept = json.loads(run("synth", "check", "data", "--keep", "order-flip", "--json").stdout)
    assert kept["dropped"] < plain["dropped"]
    assert kept["reasons_to_drop"]["order-flip"] == flips
    more = json.loads(run("synth", "check", "data", "--drop", "human-disagrees", "--json").stdout)
    assert more["dropped"] > plain["dropped"]
    wide = json.loads(run("synth", "check", "data", "--margin", "0.99", "--json").stdout)
    assert "order-flip" not in wide["reasons_to_drop"]
    both = run("synth", "check", "data", "--drop", "refused", "--keep", "refused")
    assert both.exit_code == 2
    assert "--drop refused and --keep refused" in both.stderr


def test_the_help_names_every_reason(run: Run) -> None:
    from synth.checking.drops import DEFAULTS, REASONS
    from synth.cli.check import _REASONS

    assert set(_REASONS) == set(REASONS)
    text = " ".join(run("synth", "check", "--help").stdout.split())
    applied, _, added = text.partition("those that are only named")
    for name in REASONS:
        assert name in (applied if name in DEFAULTS else added), name


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_ballot_file_of_any_kind_becomes_a_set(run: Run, data: AnnotatedSet, form: str) -> None:
    _files(data.battles, data.annotations)
    name = f"ballots.{form}"
    write_ballots(name, data.annotations)
    said = ("--battles", "battles.csv", "--filter", "kept", "--json")
    result = run("synth", "check", name, *said)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    kept = read_annotated("kept")
    assert len(kept.battles) == told["kept"]
    assert (
        kept.battles["prompt"][0] == data.battles.set_index("id")["prompt"][kept.battles["id"][0]]
    )
    # A set from elsewhere has the figures of the same set made here.
    own = json.loads(run("synth", "check", "data", "--json").stdout)
    for part in ("by_order", "balance", "criteria", "reasons", "reasons_to_drop"):
        assert told[part] == own[part]


def test_votes_alone_are_enough(run: Run, data: AnnotatedSet) -> None:
    rows = [
        {"id": name, "vote": vote.lower(), "judge": "elsewhere"}
        for name, vote in zip(data.battles["id"], "A B" * 30, strict=False)
        if vote != " "
    ]
    pd.DataFrame(rows).to_csv("votes.csv", index=False)
    assert run("import", "votes.csv", "-o", "b.csv").exit_code == 0
    _files(data.battles.drop(columns=["label_a", "label_b", "label_tie"]), data.annotations)
    result = run("synth", "check", "b.csv", "--battles", "battles.csv")
    assert result.exit_code == 0, result.stderr
    for line in ("Criteria: not known", "People: not known", "Held-out files: not known"):
        assert line in result.stdout
    assert "asked in one order alone" in result.stdout


def test_a_page_that_needs_nothing_else(run: Run, data: AnnotatedSet) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m"
    data.annotations["judge"] = hostile
    data.annotations["relevance_reason"] = hostile
    write_annotated(Path("data"), data)
    result = run("synth", "check", "data", "--report", "check.html")
    assert result.exit_code == 0, result.stderr
    page = Path("check.html").read_text()
    assert "<script>" not in page
    assert "\x1b" not in page + result.stdout + result.stderr
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "Is data worth training on?" in page
    for title in ("What to know before training", "Position bias", "Five criteria, or one?"):
        assert title in page
    # An earlier page is replaced, another file is not.
    assert "replaced" in run("synth", "check", "data", "--report", "check.html").stderr
    Path("mine.html").write_text("mine")
    assert run("synth", "check", "data", "--report", "mine.html").exit_code == 2


# --- faults ---------------------------------------------------------------------------------------


def _fails(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.stdout
    line = result.stderr.splitlines()[-1]
    assert line.startswith("arena-judge: error: ")
    for word in words:
        assert word in line


def test_outputs_never_take_the_place_of_what_is_read(run: Run, data: AnnotatedSet) -> None:
    _fails(run("synth", "check", "data", "--filter", "data"), "read by this very command")
    _fails(run("synth", "check", "data", "--filter", "."), "the folder that you are in")
    Path("kept").mkdir()
    _fails(run("synth", "check", "data", "--filter", "kept", "-o", "kept/d.csv"), "write beside it")
    Path("kept/mine.txt").write_text("mine")
    _fails(run("synth", "check", "data", "--filter", "kept"), "is no annotated set")
    Path("notes.csv").write_text("a,b\n1,2\n")
    _fails(run("synth", "check", "data", "-o", "notes.csv"), "is no earlier result")
    assert Path("notes.csv").read_text() == "a,b\n1,2\n"
    _fails(run("synth", "check", "data", "-o", "x.html", "--report", "x.html"), "are one file")
    assert not Path("x.html").exists()


def test_nothing_left_is_no_set(run: Run, data: AnnotatedSet) -> None:
    shares = [str(name) for name in data.annotations if re.search(r"_(A|B|AB|NA)$", str(name))]
    data.annotations[shares] = np.nan
    write_annotated(Path("data"), data)
    result = run("synth", "check", "data", "--filter", "kept", "-o", "d.csv")
    _fails(result, "every battle would be")
    assert "60 of 60 battles go." in result.stdout
    assert not Path("kept").exists()
    assert not Path("d.csv").exists()
    result = run("synth", "check", "data")
    assert result.exit_code == 0
    assert result.stdout.endswith("Not worth training on: no battle is fit for it.\n")


def test_faults_of_the_input_are_one_line(run: Run, data: AnnotatedSet) -> None:
    _files(data.battles, data.annotations)
    _fails(run("synth", "check", "nowhere"), "nowhere", "is not there")
    _fails(run("synth", "check", "ballots.parquet"), "add --battles FILE")
    _fails(run("synth", "check", "data", "--battles", "battles.csv"), "leave out --battles")
    _fails(run("synth", "check", "data", "--held-out", "nowhere.csv"), "nowhere.csv")
    _fails(run("synth", "check", "data", "--labels", "ballots.parquet"), "has no labels")
    _fails(run("synth", "check", "data", "--aggregator", "nowhere"), "nowhere")
    _fails(run("synth", "check", "data", "--margin", "nan"), "no number")
    _fails(run("synth", "check", "data", "--drop", "whim"), "whim")


def test_a_column_that_is_called_as_one_of_ours_is_kept_under_another_name(
    run: Run, data: AnnotatedSet
) -> None:
    own = {"weight": "heavy", "file_weight": "old", "turn": "left", "cost": "1.5"}
    _files(data.battles.assign(**own), data.annotations)
    said = ("--battles", "battles.csv", "--filter", "kept")
    result = run("synth", "check", "ballots.parquet", *said)
    assert result.exit_code == 0, result.stderr
    kept = read_annotated("kept").battles
    assert set(kept["file_file_weight"]) == {"heavy"}
    assert set(kept["file_weight"]) == {"old"}
    assert set(kept["file_turn"]) == {"left"}
    assert set(kept["cost"].astype(float)) == {1.5}


def test_annotations_of_another_kind_are_an_error_before_anything_is_written(
    run: Run, data: AnnotatedSet
) -> None:
    _files(data.battles, data.annotations.assign(seconds="many"))
    said = ("--battles", "battles.csv", "--filter", "kept", "-o", "d.csv")
    _fails(run("synth", "check", "ballots.parquet", *said), "column seconds", "many")
    assert not Path("kept").exists()
    assert not Path("d.csv").exists()


def test_a_kept_set_stays_when_another_cannot_be_written(
    run: Run, data: AnnotatedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("synth", "check", "data", "--filter", "kept")
    before = Path("kept/synth.yaml").read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synth.data.write_manifest", full)
    _fails(run("synth", "check", "data", "--filter", "kept", "--keep", "order-flip"), "No space")
    assert Path("kept/synth.yaml").read_text() == before
    assert len(read_annotated("kept").battles) < 60


def test_names_of_annotators_may_be_anything(run: Run, annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 20, annotators=("class prior", "soft labels", "x" * 300))
    write_annotated(Path("data"), replace(data, manifest={"annotators": []}))
    result = run("synth", "check", "data", "--report", "r.html")
    assert result.exit_code == 0, result.stderr
