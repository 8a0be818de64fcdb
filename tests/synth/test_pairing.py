"""Battles out of files of responses, and out of prompts that models are yet to answer."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.battles import read_battles
from judge.errors import ArenaJudgeError, InputError
from synth.pairing import Pairing, iter_pairs, iter_to_write
from synth.tables import table_writer

Row = dict[str, Any]
Write = Callable[..., str]


def to_file(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows to a file and gives its name."""
    return lambda name, rows: to_file(tmp_path / name, rows)


def paired(prompts: str | None, responses: Mapping[str, str], **options: Any) -> pd.DataFrame:
    return pd.concat(iter_pairs(prompts, responses, **options))


def prompts(number: int = 3) -> list[Row]:
    return [{"id": f"q{n}", "prompt": f"question {n}"} for n in range(number)]


def answers(model: str, numbers: Sequence[int] = (0, 1, 2), column: str = "response") -> list[Row]:
    return [{"id": f"q{n}", column: f"{model} on {n}"} for n in numbers]


def says(battles: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Who said what, side by side, in an order of its own."""
    columns = ["prompt", "model_a", "response_a", "model_b", "response_b"]
    return sorted(map(tuple, battles[columns].to_numpy().tolist()))


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("column", ["response", "output", "completion", "answer"])
def test_responses_meet_by_id_whatever_the_file(write: Write, ending: str, column: str) -> None:
    files = {
        "one": write(f"one.{ending}", answers("one", column=column)),
        "two": write(f"two.{ending}", answers("two", (2, 0, 1), column)),
    }
    battles = paired(write(f"prompts.{ending}", prompts()), files)
    assert battles["id"].tolist() == ["q0:0", "q1:0", "q2:0"]
    for row in battles.itertuples():
        number = row.prompt[0].split()[-1]
        assert row.response_a == (f"{row.model_a} on {number}",)
        assert row.response_b == (f"{row.model_b} on {number}",)
        assert {row.model_a, row.model_b} == {"one", "two"}


def test_prompts_may_stand_beside_the_responses(write: Write) -> None:
    rows = {
        model: [{"instruction": f"Do {n}", "output": f"{model} did {n}"} for n in (2, 0, 1)]
        for model in ("one", "two")
    }
    battles = paired(None, {model: write(f"{model}.jsonl", rows[model]) for model in rows})
    assert battles["id"].tolist() == ["0:0", "1:0", "2:0"]
    assert battles["prompt"].tolist() == [("Do 2",), ("Do 0",), ("Do 1",)]
    assert all(
        row.response_a == (f"{row.model_a} did {row.prompt[0][-1]}",)
        for row in battles.itertuples()
    )


def test_an_instruction_keeps_what_it_speaks_of(write: Write) -> None:
    rows = [
        {"instruction": "Translate", "input": "chat", "output": "cat"},
        {"instruction": "Translate", "input": "", "output": "what?"},
    ]
    files = {model: write(f"{model}.jsonl", rows) for model in ("one", "two")}
    assert paired(None, files)["prompt"].tolist() == [("Translate\n\nchat",), ("Translate",)]


def test_mt_bench_files_as_they_are(write: Write) -> None:
    questions = [
        {"question_id": 81, "category": "writing", "turns": ["Compose.", "Rewrite."]},
        {"question_id": 82, "category": "math", "turns": ["1+1?", "2+2?"], "reference": ["2", "4"]},
    ]
    files = {}
    for model in ("one", "two"):
        said = [
            {
                "question_id": question["question_id"],
                "model_id": model,
                "choices": [
                    {"index": 0, "turns": [f"{model} 1", f"{model} 2"]},
                    {"index": 1, "turns": ["another", "sample"]},
                ],
            }
            for question in reversed(questions)
        ]
        files[model] = write(f"{model}.jsonl", said)
    found: list[Pairing] = []
    battles = paired(write("question.jsonl", questions), files, told=found.append)
    assert battles["id"].tolist() == ["81:0", "82:0"]
    assert battles["prompt"].tolist() == [("Compose.", "Rewrite."), ("1+1?", "2+2?")]
    assert battles["response_a"].tolist() == [(f"{m} 1", f"{m} 2") for m in battles["model_a"]]
    assert battles["category"].tolist() == ["writing", "math"]
    assert battles["reference"].tolist() == [None, ["2", "4"]]
    assert found[0].others == {"one": 2, "two": 2}
    assert "one: responses beside the first to a prompt, left out: 2" in found[0].lines()


def test_arena_hard_files_as_they_are(write: Write) -> None:
    first = write("q1.jsonl", [{"question_id": "a", "turns": [{"content": "Why?"}]}])
    files = {
        model: write(
            f"{model}1.jsonl",
            [{"question_id": "a", "choices": [{"turns": [{"content": model, "token_len": 1}]}]}],
        )
        for model in ("one", "two")
    }
    (battle,) = paired(first, files).itertuples()
    assert (battle.prompt, battle.response_a) == (("Why?",), (battle.model_a,))
    second = write("q2.jsonl", [{"uid": "b", "prompt": "Why?"}])
    for model in files:
        talk = [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": {"answer": f"{model}!"}},
        ]
        files[model] = write(f"{model}2.jsonl", [{"uid": "b", "model": model, "messages": talk}])
    (battle,) = paired(second, files).itertuples()
    assert (battle.id, battle.response_b) == ("b:0", (f"{battle.model_b}!",))


def test_whole_conversations_meet_by_what_the_user_said(write: Write) -> None:
    def talk(model: str) -> list[Row]:
        return [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": f"{model} 1"},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": f"{model} 2"},
        ]

    files = {m: write(f"{m}.jsonl", [{"messages": talk(m)}]) for m in ("one", "two")}
    (battle,) = paired(None, files).itertuples()
    assert battle.prompt == ("Be short.\n\nHi", "And?")
    assert battle.response_a == (f"{battle.model_a} 1", f"{battle.model_a} 2")


def test_answers_that_come_with_a_prompt_stand_in_both_responses(write: Write) -> None:
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"},
    ]
    asked = write("prompts.jsonl", [{"id": 1, "prompt": talk}])
    files = {m: write(f"{m}.jsonl", [{"id": 1, "response": m}]) for m in ("one", "two")}
    (battle,) = paired(asked, files).itertuples()
    assert battle.response_a == ("Hello", battle.model_a)
    (blank,) = pd.concat(iter_to_write(asked, ["m"])).itertuples()
    assert blank.response_a == blank.response_b == ("Hello", "")


def test_lists_as_text_are_turns_only_where_prompts_are(write: Write) -> None:
    rows = [{"id": "1", "response": '["a", "b"]'}]
    files = {m: write(f"{m}.csv", rows) for m in ("one", "two")}
    (plain,) = paired(write("p1.csv", [{"id": "1", "prompt": "List two"}]), files).itertuples()
    assert plain.response_a == ('["a", "b"]',)
    (turns,) = paired(write("p2.csv", [{"id": "1", "prompt": '["q", "r"]'}]), files).itertuples()
    assert (turns.prompt, turns.response_a) == (("q", "r"), ("a", "b"))
    (asked,) = paired(write("p3.jsonl", [{"id": "1", "turns": ["q", "r"]}]), files).itertuples()
    assert asked.response_a == ("a", "b")


def test_what_is_left_out_is_told(write: Write) -> None:
    files = {
        "one": write("one.jsonl", answers("one", (0, 1, 2))),
        "two": write("two.jsonl", [*answers("two", (0, 7, 8)), {"id": "q1", "response": None}]),
        "three": write("three.jsonl", [*answers("three", (0,)), {"id": "q2", "response": " "}]),
    }
    found: list[Pairing] = []
    battles = paired(write("prompts.jsonl", prompts()), files, told=found.append)
    assert len(battles) == 3
    (pairing,) = found
    assert (pairing.prompts, pairing.unpaired, pairing.battles) == (3, 2, 3)
    assert pairing.missing == {"one": 0, "two": 2, "three": 2}
    assert pairing.unasked == {"one": 0, "two": 2, "three": 0}
    assert pairing.lines() == [
        "2 of 3 prompts have no two responses",
        "two: prompts without a response: 2",
        "three: prompts without a response: 2",
        "two: responses to prompts that are not among the prompts, left out: 2",
    ]


def test_a_prompt_that_stands_there_twice_is_two_prompts(write: Write) -> None:
    rows = [{"prompt": "again", "response": f"{n}"} for n in range(2)]
    files = {m: write(f"{m}.jsonl", rows) for m in ("one", "two")}
    battles = paired(None, files)
    assert battles["id"].tolist() == ["0:0", "1:0"]
    assert battles["response_a"].tolist() == battles["response_b"].tolist() == [("0",), ("1",)]


def test_ids_of_the_prompts_stay_where_responses_have_none(write: Write) -> None:
    rows = [{"prompt": "question 1 ", "response": "yes"}]
    files = {m: write(f"{m}.jsonl", rows) for m in ("one", "two")}
    assert paired(write("prompts.jsonl", prompts()), files)["id"].tolist() == ["q1:0"]


def test_all_pairs_or_as_many_as_were_asked_for(write: Write) -> None:
    models = ("one", "two", "three", "four")
    files = {m: write(f"{m}.jsonl", answers(m, range(12))) for m in models}
    asked = write("prompts.jsonl", prompts(12))
    battles = paired(asked, files, pairs=2, chunk_rows=5)
    assert len(battles) == 24
    assert battles["id"].tolist() == [f"q{n}:{k}" for n in range(12) for k in range(2)]
    assert battles.index.tolist() == list(range(24))
    every = paired(asked, files)
    assert (len(every), every["id"].nunique()) == (72, 72)
    met = Counter(map(frozenset, battles[["model_a", "model_b"]].to_numpy().tolist()))
    assert set(met.values()) == {4}


@given(data=st.data())
def test_names_ids_and_the_order_of_rows_draw_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    pairs, seed = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 9))

    def drawn(names: Sequence[str], order: Sequence[int], mark: str) -> list[tuple[Any, ...]]:
        asked = [{"id": f"{mark}{n}", "prompt": f"question {n}"} for n in order]
        files = {
            name: to_file(
                folder / f"{mark}{number}.jsonl",
                [{"id": f"{mark}{n}", "response": f"{number} on {n}"} for n in sorted(order)],
            )
            for number, name in enumerate(names)
        }
        named = to_file(folder / f"{mark}.jsonl", asked)
        found = says(paired(named, files, pairs=pairs, seed=seed))
        return [(row[0], row[2], row[4]) for row in found]

    order = data.draw(st.permutations(range(6)))
    plain = sorted(drawn(["a", "b", "c"], range(6), "x"))
    assert plain == sorted(drawn(["zeta", "alpha", "mid"], order, "other-"))


def test_battles_to_be_written(write: Write) -> None:
    asked = [*prompts(4), {"id": "long", "prompt": ["first", "second"]}]
    file = write("prompts.jsonl", [{**row, "category": "c", "winner": "a"} for row in asked])
    models = ["endpoint:one", "endpoint:two", "vllm:three"]
    battles = pd.concat(iter_to_write(file, models, pairs=1, chunk_rows=2))
    assert set(battles["write"]) == {"ab"}
    assert battles["response_a"].tolist() == [("",)] * 4 + [("", "")]
    assert set(battles["category"]) == {"c"}
    assert "winner" not in battles
    assert set(battles["model_a"]) | set(battles["model_b"]) == set(models)
    assert (battles["model_a"] != battles["model_b"]).all()
    assert len(pd.concat(iter_to_write(file, models))) == 15


def test_a_single_model_meets_itself_once_a_prompt(write: Write) -> None:
    battles = pd.concat(iter_to_write(write("prompts.csv", prompts()), ["endpoint:m"], pairs=5))
    assert battles["id"].tolist() == ["q0:0", "q1:0", "q2:0"]
    assert (battles["model_a"] == battles["model_b"]).all()


def test_battles_are_written_and_read_as_a_plan_does(write: Write, tmp_path: Path) -> None:
    asked = write("prompts.jsonl", [{"id": 1, "prompt": ["a", "b"], "tags": ["x"]}])
    with table_writer(tmp_path / "battles.parquet") as table:
        for battles in iter_to_write(asked, ["one", "two"]):
            table.append(battles)
    (battle,) = read_battles(tmp_path / "battles.parquet").itertuples()
    assert (battle.id, battle.prompt, battle.response_a, battle.write) == (
        "1:0",
        ("a", "b"),
        ("", ""),
        "ab",
    )


ONE_ROW = [{"id": "q0", "prompt": "question 0"}]
FAULTS: list[tuple[list[Row], list[Row], list[str]]] = [
    (prompts(), [*answers("x", (0,)), *answers("x", (0,))], ["x.jsonl", "row 2", "'q0'"]),
    ([*ONE_ROW, *ONE_ROW], answers("x"), ["prompts.jsonl", "row 2", "'q0'"]),
    (prompts(), [{"id": None, "response": "a"}], ["x.jsonl", "row 1", "column id"]),
    (prompts(), [{"id": "q0", "text": "a"}], ["x.jsonl", "no column of responses", "'text'"]),
    ([{"id": "q0", "words": "a"}], answers("x"), ["prompts.jsonl", "no column of prompts"]),
    ([{"id": "q0", "prompt": "  "}], answers("x"), ["prompts.jsonl", "row 1", "column prompt"]),
    (prompts(), [{"id": "q0", "response": ["a", "b"]}], ["x.jsonl", "row 1", "2 turns"]),
    (prompts(), [{"id": "q0", "response": {"a": 1}}], ["x.jsonl", "row 1", "column response"]),
    (prompts(), [{"id": "q0", "choices": "nonsense"}], ["x.jsonl", "row 1", "column choices"]),
    (
        prompts(),
        [{"id": "q0", "prompt": "something else", "response": "a"}],
        ["x.jsonl", "row 1", "another prompt", "'q0'"],
    ),
    (prompts(), [{"response": "a"}], ["x.jsonl", "no prompts to be matched by"]),
    (prompts(), answers("x", (5, 6)), ["no prompt has the responses of two models"]),
]


@pytest.mark.parametrize(("asked", "said", "words"), FAULTS)
def test_faults_say_where_they_are(
    write: Write, asked: list[Row], said: list[Row], words: list[str]
) -> None:
    files = {"good": write("good.jsonl", answers("good")), "x": write("x.jsonl", said)}
    with pytest.raises(InputError) as fault:
        paired(write("prompts.jsonl", asked), files)
    message = str(fault.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_no_prompts_anywhere(write: Write) -> None:
    files = {m: write(f"{m}.jsonl", answers(m)) for m in ("one", "two")}
    with pytest.raises(InputError, match="no column of prompts"):
        paired(None, files)


def test_prompts_of_one_file_serve_those_that_have_ids_alone(write: Write) -> None:
    files = {
        "one": write("one.jsonl", answers("one")),
        "two": write("two.jsonl", [{**row, "response": "two"} for row in prompts()]),
    }
    assert paired(None, files)["prompt"].tolist() == [(f"question {n}",) for n in range(3)]


def test_models_that_make_no_battle(write: Write) -> None:
    file = write("one.jsonl", answers("one"))
    asked = write("prompts.jsonl", prompts())
    with pytest.raises(ArenaJudgeError, match="two models"):
        paired(asked, {"one": file})
    with pytest.raises(InputError, match="named for two models"):
        paired(asked, {"one": file, "two": file})
    with pytest.raises(ArenaJudgeError, match="named twice"):
        list(iter_to_write(asked, ["m", "n", "m"]))
    with pytest.raises(ArenaJudgeError, match="no name"):
        list(iter_to_write(asked, [" "]))
    with pytest.raises(ArenaJudgeError, match="two models"):
        list(iter_to_write(asked, []))
    with pytest.raises(ArenaJudgeError, match="one pair or more"):
        list(iter_to_write(asked, ["m"], pairs=0))


def test_hostile_text_comes_through_to_the_letter(write: Write) -> None:
    text = "'\"<|im_end|>\u2028{{ 7 * 7 }}\0\U0001f600 \\ud800 <script>"
    rows = [{"id": text, "prompt": text, "response": text}]
    files = {m: write(f"{m}.jsonl", rows) for m in ("one", "two")}
    (battle,) = paired(None, files).itertuples()
    assert battle.id == f"{text}:0"
    assert battle.prompt == battle.response_a == battle.response_b == (text,)
