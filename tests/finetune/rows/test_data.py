"""What is trained on: each battle once, the main file first, nothing that is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.rows.data import Extra, TrainingSet, parse_extra, read_training, seen_of
from finetune.rows.sources import read_pool
from judge.errors import InputError
from tests.finetune.files import battle, say, write


def _labels(*rows: tuple[float, float, float]) -> list[list[float]]:
    return [list(row) for row in rows]


def _ids(training: TrainingSet) -> list[str]:
    return list(training.battles["id"])


def _swapped(row: dict[str, Any]) -> dict[str, Any]:
    winner = {"a": "b", "b": "a"}.get(row["winner"], row["winner"])
    return row | {
        "response_a": row["response_b"],
        "response_b": row["response_a"],
        "winner": winner,
    }


# --- labels ---------------------------------------------------------------------------------------


def test_winners_probabilities_and_votes_are_labels_and_the_unlabelled_are_counted(
    tmp_path: Path,
) -> None:
    words = write(tmp_path / "words.jsonl", [battle(1, "a"), battle(2, "tie"), battle(3, "")])
    keys = ("winner_model_a", "winner_model_b", "winner_tie")
    soft = write(
        tmp_path / "soft.jsonl",
        [battle(number, **dict(zip(keys, (0.5, 0.25, 0.25), strict=True))) for number in (4, 5)],
    )
    votes = dict(zip(("votes_a", "votes_b", "votes_tie"), (3, 1, 0), strict=True))
    voted = write(tmp_path / "voted.jsonl", [battle(6, **votes)])
    training = read_training(words)
    assert training.labels.tolist() == _labels((1, 0, 0), (0, 0, 1))
    assert training.counts[0].left_out == {"no label": 1}
    assert training.counts[0].battles == 3
    assert training.dropped.to_dict("records") == [
        {"source": "words.jsonl", "id": "n3", "battle": 3, "reason": "no label"}
    ]
    assert read_training(soft).labels.tolist() == _labels(*[(0.5, 0.25, 0.25)] * 2)
    assert read_training(voted).labels.tolist() == _labels((0.75, 0.25, 0))


def test_empty_texts_are_kept(tmp_path: Path) -> None:
    rows = [
        battle(1, "b", response_a=""),
        battle(2, "a", prompt=""),
        battle(3, "tie", response_a="", response_b=""),
        battle(4, "b", prompt="  "),
    ]
    training = read_training(write(tmp_path / "a.jsonl", rows))
    assert _ids(training) == ["n1", "n2", "n3", "n4"]
    # Prompts that say nothing are not the same prompt.
    assert len(set(training.prompts.tolist())) == 4


def test_a_file_without_labels_or_with_none_but_empty_ones(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.jsonl", [battle(1)])
    with pytest.raises(InputError, match=r"bare.jsonl: has no labels"):
        read_training(bare)
    empty = write(tmp_path / "empty.jsonl", [battle(1, ""), battle(2, "")])
    with pytest.raises(InputError, match=r"leaves no battle to train on \(2 no label"):
        read_training(empty)
    main = write(tmp_path / "main.jsonl", [battle(3, "a")])
    with pytest.raises(InputError, match="bare"):
        read_training(main, [Extra(bare)])


# --- extras ---------------------------------------------------------------------------------------


def test_extras_have_weights_and_chance_decides_which_response_is_a(tmp_path: Path) -> None:
    main = write(tmp_path / "main.jsonl", [battle(number, "a") for number in range(20)])
    rows = [battle(number, "a") for number in range(100, 300)]
    extra = write(tmp_path / "extra.jsonl", rows)
    training = read_training(main, [Extra(extra, 0.25)])
    assert training.names == ("main.jsonl", "extra.jsonl")
    assert set(training.weights[training.source == 0]) == {1.0}
    assert set(training.weights[training.source == 1]) == {0.25}
    # All of them were won by A, as they stood.
    shares = training.labels[training.source == 1].mean(axis=0)
    assert 0.4 < shares[0] < 0.6
    assert shares[2] == 0
    assert training.counts[1].turned == (training.labels[training.source == 1][:, 1]).sum()
    winners = np.where(
        training.labels[:, 0] > 0, training.battles["response_a"], training.battles["response_b"]
    )
    expected = [row["response_a"] for row in [*map(battle, range(20)), *rows]]
    assert [turns[0] for turns in winners] == expected
    # The main file stays as it is.
    assert training.counts[0].turned == 0
    assert (training.labels[training.source == 0] == [1, 0, 0]).all()


def test_which_way_round_hangs_on_the_texts_and_the_seed_alone(tmp_path: Path) -> None:
    main = write(tmp_path / "main.jsonl", [battle(1, "a")])
    rows = [battle(number, "a") for number in range(100, 200)]
    mixed = [_swapped(row) if place % 3 else row for place, row in enumerate(rows[::-1])]
    one = read_training(main, [Extra(write(tmp_path / "one.jsonl", rows))])
    other = read_training(main, [Extra(write(tmp_path / "other.jsonl", mixed))])
    columns = ["id", "prompt", "response_a", "response_b"]

    def content(training: TrainingSet) -> set[Any]:
        rows = training.battles[columns].itertuples(index=False)
        return set(zip(rows, map(tuple, training.labels.tolist()), strict=True))

    assert content(one) == content(other)
    again = read_training(main, [Extra(str(tmp_path / "one.jsonl"))], seed=1)
    assert content(again) != content(one)


def test_extras_as_they_are_written_on_the_command_line(tmp_path: Path) -> None:
    assert parse_extra("more.csv") == Extra("more.csv")
    assert parse_extra("0.5*folder/more.csv") == Extra("folder/more.csv", 0.5)
    assert parse_extra("2e-1*a*b.csv") == Extra("a*b.csv", 0.2)
    odd = tmp_path / "2*odd.csv"
    odd.write_text("")
    assert parse_extra(str(odd)) == Extra(str(odd))
    for wrong in ("0*x.csv", "-1*x.csv", "nan*x.csv", "inf*x.csv", "half*x.csv", "*x.csv"):
        with pytest.raises(InputError, match=r"x.csv.*0.5\*"):
            parse_extra(wrong)


def test_a_file_that_is_named_twice(tmp_path: Path) -> None:
    main = write(tmp_path / "main.jsonl", [battle(1, "a")])
    with pytest.raises(InputError, match="named twice"):
        read_training(main, [Extra(str(tmp_path / "." / "main.jsonl"))])


def test_files_that_are_called_alike_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    main = write(tmp_path / "a.jsonl", [battle(1, "a")])
    extra = write(tmp_path / "more" / "a.jsonl", [battle(2, "a")])
    assert read_training(main, [Extra(extra)]).names == (main, extra)


# --- what stands there twice ----------------------------------------------------------------------


def test_the_main_file_wins_by_prompt_or_by_battle(tmp_path: Path) -> None:
    main = write(tmp_path / "main.jsonl", [battle(1, "a"), battle(2, "b")])
    other = battle(1, "b", id="other", response_a=say(900), response_b=say(901))
    first = [_swapped(battle(1, "a", id="same")), other, battle(7, "tie"), battle(7, "a", id="7b")]
    one = write(tmp_path / "one.jsonl", first)
    two = write(tmp_path / "two.jsonl", [battle(7, "a", id="late"), battle(8, "a")])
    extras = [Extra(one), Extra(two)]

    by_prompt = read_training(main, extras)
    assert _ids(by_prompt) == ["n1", "n2", "n7", "n8"]
    assert by_prompt.counts[1].left_out == {"same battle": 2, "prompt of another file": 1}
    assert by_prompt.counts[2].left_out == {"same battle": 1}

    by_battle = read_training(main, extras, dedupe="battle")
    assert _ids(by_battle) == ["n1", "n2", "other", "n7", "n8"]
    assert by_battle.prompts.tolist() == [0, 1, 0, 2, 3]

    everything = read_training(main, extras, dedupe="none")
    assert len(everything) == 8
    assert len(everything.dropped) == 0
    with pytest.raises(ValueError, match="prompt, battle, none"):
        read_training(main, dedupe="all")


def test_labels_of_the_same_battle_in_a_file_are_pooled_whichever_way_it_stands(
    tmp_path: Path,
) -> None:
    rows = [
        battle(1, "a"),
        _swapped(battle(1, "a", id="again")),
        battle(1, "tie", id="once more"),
        battle(2, "b"),
        _swapped(battle(1, "b", id="and again")),
    ]
    training = read_training(write(tmp_path / "main.jsonl", rows))
    assert training.labels.tolist() == _labels((0.5, 0.25, 0.25), (0, 1, 0))
    assert training.counts[0].pooled == 1
    assert training.counts[0].left_out == {"same battle": 3}
    # The same battle has the same label whichever of them is the first.
    turned = read_training(write(tmp_path / "turned.jsonl", rows[1:]))
    labels = dict(zip(turned.battles["response_a"], turned.labels.tolist(), strict=True))
    assert labels[(battle(1)["response_b"],)] == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_what_an_extra_says_of_a_battle_of_the_main_file_is_not_pooled(tmp_path: Path) -> None:
    main = write(tmp_path / "main.jsonl", [battle(1, "a")])
    extra = write(tmp_path / "extra.jsonl", [battle(1, "b", id="x"), battle(5, "a")])
    training = read_training(main, [Extra(extra)])
    assert training.labels[0].tolist() == [1, 0, 0]
    assert training.counts[0].pooled == 0


def test_near_copies_go_when_that_is_asked_for_and_share_a_number_anyway(tmp_path: Path) -> None:
    row = battle(1, "a")
    near = row | {"id": "near", "response_a": row["response_a"] + " indeed"}
    near |= {"prompt": row["prompt"] + " please"}
    file = write(tmp_path / "main.jsonl", [row, battle(2, "b"), near])
    kept = read_training(file)
    assert kept.prompts.tolist() == [0, 1, 0]
    gone = read_training(file, near=True)
    assert _ids(gone) == ["n1", "n2"]
    assert gone.counts[0].left_out == {"near-duplicate": 1}


# --- what is held out -----------------------------------------------------------------------------


def test_nothing_held_out_is_trained_on(tmp_path: Path) -> None:
    held = write(tmp_path / "held.jsonl", [battle(1), battle(2), battle(3)])
    near = battle(2, "a", id="near", response_b=battle(2)["response_b"] + " indeed")
    prompt = battle(3, "a", id="prompt", response_a=say(70), response_b=say(71))
    rows = [_swapped(battle(1, "a")), near, prompt, battle(4, "b")]
    main = write(tmp_path / "main.jsonl", rows)
    extra = write(tmp_path / "extra.jsonl", [battle(1, "a"), battle(9, "b")])
    training = read_training(main, [Extra(extra)], held_out=[held])
    assert _ids(training) == ["n4", "n9"]
    assert training.counts[0].left_out == {
        "held out": 1,
        "nearly held out": 1,
        "prompt held out": 1,
    }
    assert training.counts[1].left_out == {"held out": 1}
    assert sorted(training.dropped["reason"]) == [
        "held out",
        "held out",
        "nearly held out",
        "prompt held out",
    ]
    with pytest.raises(InputError, match="leaves no battle"):
        read_training(main, held_out=[main])


def test_what_was_learned_from_is_known_again(tmp_path: Path) -> None:
    main = write(tmp_path / "main.jsonl", [battle(n, "a") for n in range(6)])
    training = read_training(main)
    seen = seen_of(training.take([0, 2]), training.take([2, 4]))
    assert len(seen) == 3
    assert seen.names == ("main.jsonl",)


# --- tables ---------------------------------------------------------------------------------------


def test_chosen_rows(tmp_path: Path) -> None:
    training = read_training(write(tmp_path / "a.jsonl", [battle(n, "a") for n in range(5)]))
    some = training.take(np.array([3, 1]))
    assert _ids(some) == ["n3", "n1"]
    assert some.battles.index.tolist() == [0, 1]
    assert some.prompts.tolist() == [3, 1]
    assert len(some.labels) == len(some.weights) == len(some.source) == len(some.seen) == 2
    assert some.counts == training.counts


def test_threads_change_nothing(tmp_path: Path) -> None:
    main = write(tmp_path / "main.jsonl", [battle(n, "ab"[n % 2]) for n in range(60)])
    one, two = (read_pool([main], chunk_rows=7, workers=workers) for workers in (1, 3))
    assert one.battles.equals(two.battles)
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.marks.sketches, two.marks.sketches)
    assert np.array_equal(one.rows, np.arange(60))


def test_real_battles_are_never_among_those_held_out(shared_data: Path) -> None:
    held = str(shared_data / "pandalm_testset.parquet")
    main = str(shared_data / "autoj_pairwise.parquet")
    training = read_training(main, [Extra(held, 0.5)], held_out=[held], near=True)
    assert set(training.source.tolist()) == {0}
    assert training.counts[1].used == 0
    assert len(training) == training.counts[0].used
    assert sum(training.counts[0].left_out.values()) + len(training) == 1379
