"""The Hugging Face folder: files that load, a split by prompt, a card that says what there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from judge.ballots import CRITERIA
from judge.battles import read_battles
from synth.data import AnnotatedSet
from synth.exporting import dataset
from synth.exporting.card import Licences
from synth.exporting.dataset import Folder, write_dataset
from synth.exporting.figures import Checked, checked, in_words
from synth.exporting.labels import training_labels

Make = Callable[..., Any]

HOSTILE = "evil](http://x) <script>alert(1)</script> | `code`\n---\nlicense: mit\n# Gotcha"


@pytest.fixture
def data(said: Make, make_set: Make, battles_called: Make) -> AnnotatedSet:
    """Sixty battles, three about each prompt, in both orders."""
    ids = [f"b{n}" for n in range(60)]
    battles = battles_called(ids)
    for name in ("prompt", "response_a", "response_b"):
        battles[name] = [(f"What is the {name} of the {n // 3} in this list?",) for n in range(60)]
    battles["stratum"] = ["code | long" if n % 2 else "talk | short" for n in range(60)]
    battles["source"] = ["/home/nobody/secret/arena.csv"] * 40 + ["hh.jsonl"] * 20
    votes = ["A", "B", "AB"]
    records = [
        said(one, votes[n % 3], verdict=votes[n % 3], order=order, judge=HOSTILE)
        for n, one in enumerate(ids)
        for order in ("AB", "BA")
    ]
    plan = {
        "seed": 7,
        "from": [{"name": "arena.csv", "battles": 5000}],
        "held_out": [{"name": "dev.csv", "battles": 972}],
        "strata": {
            "by": ["code", "length"],
            "counts": [{"stratum": "code | long", "available": 9}],
        },
        "writers": [HOSTILE],
    }
    return make_set(records, battles, {"plan": plan, "battles": 60})


def written(
    data: AnnotatedSet, path: Path, **options: Any
) -> tuple[dict[str, Any], str, dict[str, dict[str, int]]]:
    """The head of the card, its text and the rows."""
    licences = options.pop("licences", Licences())
    title = options.pop("title", "a set")
    checked = options.pop("checked", Checked(figures=(("figure", "1"),)))
    _, counts = write_dataset(
        path, data, training_labels(data), Folder(title, licences, **options), checked
    )
    text = (path / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body, counts


def test_the_folder_is_what_the_hub_reads(data: AnnotatedSet, tmp_path: Path) -> None:
    head, body, counts = written(data, tmp_path / "out", test_share=0.2)
    assert counts == {
        "battles": {"train": 48, "test": 12},
        "annotations": {"train": 96, "test": 24},
    }
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("*.parquet"))
    assert names == [
        f"{config}/{split}-00000-of-00001.parquet"
        for config in ("annotations", "battles")
        for split in ("test", "train")
    ]
    assert [config["config_name"] for config in head["configs"]] == ["battles", "annotations"]
    for config in head["configs"]:
        for files in config["data_files"]:
            (file,) = (tmp_path / "out").glob(files["path"])
            rows = pq.read_metadata(file).num_rows
            assert rows == counts[config["config_name"]][files["split"]]
    assert head["license"] == "unknown"
    assert head["language"] == ["en"]
    assert head["size_categories"] == ["n<1K"]
    assert "not stated: unknown" in body
    assert "with seed 7, by code, length." in body
    assert "clear of dev.csv (972 battles)" in body
    assert "| arena.csv | 40 | 5,000 |" in body
    assert "| code \\| long | 30 | 9 |" in body


def test_prompts_are_on_one_side_with_their_records(data: AnnotatedSet, tmp_path: Path) -> None:
    written(data, tmp_path / "out", test_share=0.2)
    sides = {
        split: read_battles(tmp_path / "out" / "battles" / f"{split}-00000-of-00001.parquet")
        for split in ("train", "test")
    }
    assert not set(sides["train"]["prompt"]) & set(sides["test"]["prompt"])
    assert sorted([*sides["train"]["id"], *sides["test"]["id"]]) == sorted(data.battles["id"])
    for split, battles in sides.items():
        records = pd.read_parquet(
            tmp_path / "out" / "annotations" / f"{split}-00000-of-00001.parquet"
        )
        assert set(records["id"]) == set(battles["id"])
        assert records["reply"].str.startswith("{").all()
    drawn = [sides[split]["stratum"].value_counts(normalize=True) for split in sides]
    assert abs(drawn[0]["code | long"] - drawn[1]["code | long"]) < 0.15


def test_names_cannot_break_out_of_the_card(data: AnnotatedSet, tmp_path: Path) -> None:
    licences = Licences(HOSTILE, {HOSTILE: HOSTILE})
    head, body, _ = written(data, tmp_path / "out", title=HOSTILE, licences=licences)
    assert head["license"] == "other"
    assert re.fullmatch(r"[a-z0-9.-]+", head["license_name"])
    assert "\n" not in head["pretty_name"]
    markdown_it = pytest.importorskip("markdown_it")
    shown = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert not re.search(r"<(script|a|img|em|strong)\b", shown)
    assert len(re.findall(r"<h\d>", shown)) == 10
    assert "evil](http://x) &lt;script&gt;alert(1)&lt;/script&gt; | `code`" in shown
    assert "secret" not in body
    assert "arena.csv" in body


def test_the_card_names_prompts_parameters_and_terms(data: AnnotatedSet, tmp_path: Path) -> None:
    licences = Licences("CC-BY-4.0", {"arena.csv": "arena terms"})
    head, body, _ = written(data, tmp_path / "out", licences=licences)
    assert head["license"] == "cc-by-4.0"
    assert "Of arena.csv: arena terms" in body
    assert "annotated" in body
    assert data.annotations["prompt_digest"].iloc[0] in body
    assert "temperature" in body
    assert "terms of their own" in body
    assert "| 20 | 33.3% |" in body
    assert "| figure | 1 |" in body


def test_large_sets_are_several_files(
    data: AnnotatedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_CHUNK", 25)
    written(data, tmp_path / "out", shard_bytes=1)
    files = sorted((tmp_path / "out" / "annotations").iterdir())
    assert [file.name for file in files] == [f"train-{n:05d}-of-00005.parquet" for n in range(5)]
    found = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    assert found["id"].tolist() == data.annotations["id"].tolist()


def test_battles_without_a_label_are_left_out_with_their_records(
    data: AnnotatedSet, tmp_path: Path
) -> None:
    rows = data.annotations["id"] == "b0"
    for name in [c for c in data.annotations.columns if re.search(r"_(A|B|AB|NA)$", c)]:
        data.annotations.loc[rows, name] = np.nan
    data.annotations.loc[rows, [*CRITERIA, "verdict"]] = None
    _, body, counts = written(data, tmp_path / "out")
    assert counts == {"battles": {"train": 59}, "annotations": {"train": 118}}
    assert "- 1 battle that nobody could judge" in body
    said = yaml.safe_load((tmp_path / "out" / "export.yaml").read_text())
    assert said["left_out"][0]["such_as"] == ["b0"]


@pytest.mark.parametrize(
    "plan", [None, 5, {"seed": 1, "from": 3, "strata": [], "writers": "x", "held_out": [{}]}]
)
def test_a_manifest_by_hand_breaks_nothing(data: AnnotatedSet, tmp_path: Path, plan: Any) -> None:
    odd = AnnotatedSet(data.name, data.battles, data.annotations, {"plan": plan})
    _, body, _ = written(odd, tmp_path / "out")
    assert "| arena.csv | 40 | - |" in body


def test_a_set_of_votes_alone_has_a_card_too(
    said: Make, make_set: Make, battles_called: Make, tmp_path: Path
) -> None:
    full = make_set([said("b", "A", reasons=None)], battles_called(["b"]).drop(columns="model_a"))
    votes = full.annotations[["id", "judge", "order", "sample", *CRITERIA]]
    data = AnnotatedSet("votes", full.battles, votes)
    head, body, _ = written(data, tmp_path / "out")
    assert "prompts the annotators were asked is not known" in body
    assert "How the battles were drawn is not known" in body
    assert head["configs"][0]["default"] is True


def test_figures_are_those_of_check(data: AnnotatedSet) -> None:
    found = checked(data)
    assert not found.filtered
    figures = dict(found.figures)
    assert figures["the same verdict in both orders"] == "100.0%"
    assert figures["of these unreadable"] == "0"
    assert "the label is people's choice" not in figures
    assert found.verdict


def test_a_filtered_set_tells_what_was_found_before(data: AnnotatedSet, tmp_path: Path) -> None:
    said = {
        "figures": {"halo": 0.25, "people": {"battles": 30, "kappa": None}, "entropy": "<b>"},
        "verdict": "Worth training on, with care.",
        "findings": ["warning: something <script>", 5],
        "dropped": {"order-flip": 7, "else": 1},
    }
    data = AnnotatedSet(data.name, data.battles, data.annotations, {"check": said})
    found = checked(data)
    assert found.filtered
    assert found.figures == (
        ("ballots whose five votes are all the same", "25.0%"),
        ("battles that people have labelled", "30"),
    )
    _, body, _ = written(data, tmp_path / "out", checked=found)
    assert "| the other response wins when they change places | 7 |" in body
    assert "Worth training on, with care." in body
    assert "<script>" not in body.replace("\\<script", "")
    assert in_words({"figures": [], "dropped": None}, filtered=True).figures == ()


def test_the_hub_library_loads_it(data: AnnotatedSet, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets: arena-judge[finetune]")
    written(data, tmp_path / "out", test_share=0.2)
    for config, columns in (("battles", "winner_model_a"), ("annotations", "relevance_AB")):
        found = datasets.load_dataset(
            str(tmp_path / "out"), config, cache_dir=str(tmp_path / "cache")
        )
        assert set(found) == {"train", "test"}
        assert columns in found["train"].column_names
    battles = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    row = battles["train"][0]
    assert isinstance(row["prompt"], list)
    assert sum(row[name] for name in ("winner_model_a", "winner_model_b", "winner_tie")) == 1
