"""What the cells of a file mean: turns, messages, ids, models; and what swaps with the sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.battles import iter_battles, labels, read_battles, swap
from judge.errors import InputError

REAL = [
    "arena_dev.csv",
    "arena_train.parquet",
    "autoj_pairwise.parquet",
    "fgrlhf_qa_dev.parquet",
    "hh_rlhf_test.parquet",
    "judgebench.parquet",
    "llmbar.parquet",
    "llmfao_crowd.parquet",
    "pandalm_testset.parquet",
    "sandcastles_imp.parquet",
]


def _jsonl(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "battles.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _csv(folder: Path, text: str) -> Path:
    path = folder / "battles.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def _row(prompt: object, a: object, b: object, **more: object) -> dict[str, object]:
    return {"prompt": prompt, "response_a": a, "response_b": b, **more}


def _one(folder: Path, prompt: object, a: object, b: object) -> list[tuple[str, ...]]:
    """The turns of a file of one battle."""
    row = read_battles(_jsonl(folder, _row(prompt, a, b))).iloc[0]
    return [row["prompt"], row["response_a"], row["response_b"]]


# --- turns ----------------------------------------------------------------------------------------


def test_json_lists_of_turns(tmp_path: Path) -> None:
    text = 'prompt,response_a,response_b\n"[""hi"",""more""]","[""a"",null]","[""b\\n"",""""]"\n'
    battles = read_battles(_csv(tmp_path, text))
    assert battles["prompt"][0] == ("hi", "more")
    assert battles["response_a"][0] == ("a", "")
    assert battles["response_b"][0] == ("b\n", "")


@pytest.mark.parametrize(
    ("cell", "turn"),
    [
        (r'["cut \ud83d"]', "cut \ufffd"),
        (r'["\ude00 cut"]', "\ufffd cut"),
        (r'["\uD83D\uDE00 whole"]', "😀 whole"),
        (r'["\ud83d\ud83d\ude00"]', "\ufffd😀"),
        ('["raw\ttab and \\u0000"]', "raw\ttab and \0"),
        ('["escaped \\\\ud83d stays"]', "escaped \\ud83d stays"),
    ],
)
def test_escapes_become_whole_characters_or_the_replacement_character(
    tmp_path: Path, cell: str, turn: str
) -> None:
    assert _one(tmp_path, '["hi"]', cell, '["b"]')[1] == (turn,)
    turn.encode("utf-8")


def test_surrogates_in_json_lines_themselves(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text(
        r'{"prompt":"\ud83d","response_a":["\ud83d\ude00"],"response_b":"x","n":"\udc00"}'
    )
    battle = read_battles(path).iloc[0]
    assert battle["prompt"] == ("\ufffd",)
    assert battle["response_a"] == ("😀",)
    assert battle["n"] == "\ufffd"


def test_plain_text_that_looks_like_a_list_stays_text(tmp_path: Path) -> None:
    rows = [
        _row("Count to three", "[1, 2, 3]", '["one", "two"]'),
        _row("[sic] Go", '["a"]', "no list"),
        _row("{}", "plain", '["x"]'),
    ]
    battles = read_battles(_jsonl(tmp_path, *rows))
    for name in ("prompt", "response_a", "response_b"):
        assert battles[name].tolist() == [(str(row[name]),) for row in rows]


def test_beside_a_plain_prompt_a_list_of_several_strings_is_one_answer(tmp_path: Path) -> None:
    assert _one(tmp_path, "Two letters, as JSON", '["a", "b"]', '["x", "y"]') == [
        ("Two letters, as JSON",),
        ('["a", "b"]',),
        ('["x", "y"]',),
    ]


def test_each_column_has_its_own_shape(tmp_path: Path) -> None:
    turns = _one(tmp_path, "plain", '["a"]', '[{"role": "assistant", "content": "b"}]')
    assert turns == [("plain",), ("a",), ("b",)]


def test_a_broken_list_among_many_is_an_error_and_not_text(tmp_path: Path) -> None:
    rows = [_row('["q"]', '["a"]', '["b"]') for _ in range(40)]
    rows[29]["response_b"] = '["b'
    with pytest.raises(
        InputError, match=r"row 30, column response_b: is not a JSON list"
    ) as caught:
        read_battles(_jsonl(tmp_path, *rows))
    assert caught.value.row == 30


def test_a_cell_far_down_must_be_as_the_first_ones(tmp_path: Path) -> None:
    rows = [_row('["q"]', '["a"]', '["b"]') for _ in range(3000)]
    rows[2500]["prompt"] = "no list"
    with pytest.raises(InputError, match=r"row 2501, column prompt") as caught:
        read_battles(_jsonl(tmp_path, *rows))
    assert "no list" in str(caught.value)


@pytest.mark.parametrize("empty", ["", None, [], "[]", "[null]", [None], '[""]', "null"])
def test_an_empty_response_is_one_empty_turn(tmp_path: Path, empty: object) -> None:
    rows = [_row('["q"]', empty, '["b"]'), _row('["q"]', '["a"]', '["b"]')]
    assert read_battles(_jsonl(tmp_path, *rows))["response_a"].tolist() == [("",), ("a",)]


def test_a_column_with_nothing_in_it(tmp_path: Path) -> None:
    text = "prompt,response_a,response_b\nhi,,\n"
    battle = read_battles(_csv(tmp_path, text)).iloc[0]
    assert (battle["response_a"], battle["response_b"]) == (("",), ("",))


def test_lists_in_json_lines_are_turns_whatever_the_strings_are(tmp_path: Path) -> None:
    rows = [_row(["u1", "u2"], ["a1", None], ["b1", "b2"]), _row("u", "a", "[b]")]
    battles = read_battles(_jsonl(tmp_path, *rows))
    assert battles["prompt"].tolist() == [("u1", "u2"), ("u",)]
    assert battles["response_a"].tolist() == [("a1", ""), ("a",)]
    assert battles["response_b"].tolist() == [("b1", "b2"), ("[b]",)]


@pytest.mark.parametrize("as_text", [False, True])
def test_messages(tmp_path: Path, as_text: bool) -> None:
    def messages(*pairs: tuple[str, object]) -> object:
        value = [{"role": role, "content": content} for role, content in pairs]
        return json.dumps(value) if as_text else value

    parts = [{"type": "text", "text": "b1"}, {"type": "text", "text": "and"}]
    turns = _one(
        tmp_path,
        messages(("system", "Be kind."), ("user", "u1"), ("user", "u2")),
        messages(("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", None)),
        messages(("assistant", parts), ("assistant", "b2")),
    )
    assert turns == [("Be kind.\n\nu1", "u2"), ("a1", ""), ("b1\nand", "b2")]


def test_answers_inside_the_prompt_are_the_history_of_both(tmp_path: Path) -> None:
    asked = [
        {"role": "user", "content": "u1"},
        {"role": "assistant", "content": "h1"},
        {"role": "user", "content": "u2"},
    ]
    whole = [*asked, {"role": "assistant", "content": "b2"}]
    assert _one(tmp_path, asked, "a2", whole) == [("u1", "u2"), ("h1", "a2"), ("h1", "b2")]


def test_history_before_an_empty_response(tmp_path: Path) -> None:
    asked = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    assert _one(tmp_path, asked, None, "")[1:] == [("assistant", "")] * 2


def test_messages_from_parquet_structs(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "prompt": [[{"role": "user", "content": "u"}]],
            "response_a": [[{"role": "assistant", "content": [{"type": "text", "text": "a"}]}]],
            "response_b": [["b"]],
        }
    )
    table.to_parquet(tmp_path / "b.parquet")
    battle = read_battles(tmp_path / "b.parquet").iloc[0]
    assert (battle["prompt"], battle["response_a"], battle["response_b"]) == (
        ("u",),
        ("a",),
        ("b",),
    )


@pytest.mark.parametrize(
    ("prompt", "response", "column", "what"),
    [
        (["u1", "u2"], ["a1"], "response_a", "has 1 turn where the prompt has 2 turns"),
        (["u1", "u2"], "", "response_a", "has 1 turn where"),
        (["u1", "u2"], [], "response_a", "has 0 turns where"),
        ("u", ["a1", "a2"], "response_a", "has 2 turns where the prompt has 1 turn"),
        (7, "a", "prompt", "is 7, not text"),
        (["u", 7], ["a", "b"], "prompt", "has a turn that is 7"),
        ([["u"]], "a", "prompt", "has a turn that is ['u']"),
        ({"role": "user"}, "a", "prompt", "not text"),
        ("u", True, "response_a", "is True, not text"),
        ([{"role": "tool", "content": "x"}], "a", "prompt", "with role 'tool'"),
        ([{"role": "user", "content": "x"}, "y"], "a", "prompt", "with 'y' for one"),
        ([{"role": "system", "content": "x"}], "a", "prompt", "has no user message"),
        ("u", [{"role": "user", "content": "x"}], "response_a", "has no assistant message"),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
            "a",
            "prompt",
            "ends with an assistant message",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "a",
            "prompt",
            "content that is no text",
        ),
    ],
)
def test_cells_that_hold_no_turns(
    tmp_path: Path, prompt: object, response: object, column: str, what: str
) -> None:
    path = _jsonl(tmp_path, _row("u", "a", "b"), _row(prompt, response, response))
    with pytest.raises(InputError) as caught:
        read_battles(path)
    assert (caught.value.row, caught.value.column) == (2, column)
    assert what in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.mend
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", ["[" * 100_000, '["a' * 1000, "[" + "9" * 10_000 + "]"])
def test_hostile_json_in_a_plain_column_is_text(tmp_path: Path, cell: str) -> None:
    assert _one(tmp_path, cell, cell, "b")[:2] == [(cell,), (cell,)]


def test_hostile_json_in_a_column_of_lists_is_one_short_line(tmp_path: Path) -> None:
    rows = [_row('["q"]', '["a"]', '["b"]') for _ in range(40)]
    rows[7]["response_a"] = "[" * 100_000 + "\n\x1b[2J"
    with pytest.raises(InputError, match="row 8, column response_a") as caught:
        read_battles(_jsonl(tmp_path, *rows))
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


# --- columns --------------------------------------------------------------------------------------


def test_ids_are_text_and_may_repeat(tmp_path: Path) -> None:
    rows = [_row("q", "a", "b", id=id_) for id_ in (12, 12, 12.0, "007", 1.5, None, 2**60)]
    ids = read_battles(_jsonl(tmp_path, *rows))["id"].tolist()
    assert ids == ["12", "12", "12", "007", "1.5", "5", str(2**60)]


def test_without_ids_the_rows_are_counted_from_0(tmp_path: Path) -> None:
    path = _jsonl(tmp_path, *[_row("q", "a", "b")] * 5)
    chunks = list(iter_battles(path, chunk_rows=2))
    assert [chunk["id"].tolist() for chunk in chunks] == [["0", "1"], ["2", "3"], ["4"]]
    assert [chunk.index.tolist() for chunk in chunks] == [[0, 1], [2, 3], [4]]


def test_models_and_other_columns(tmp_path: Path) -> None:
    text = "lang,response_b,response_a,prompt,model_a,model_b,turn\nen,b,a,q,gpt,,01\n"
    battles = read_battles(_csv(tmp_path, text))
    expected = ["id", "prompt", "response_a", "response_b", "model_a", "model_b", "lang", "turn"]
    assert list(battles.columns) == expected
    assert battles.iloc[0][["model_a", "model_b", "lang", "turn"]].tolist() == [
        "gpt",
        None,
        "en",
        "01",
    ]


def test_fields_that_json_lines_name_late(tmp_path: Path) -> None:
    rows = [_row("q", "a", "b")] * 2 + [_row("q", "a", "b", model_a="m", winner="tie", n=1)]
    path = _jsonl(tmp_path, *rows)
    battles = read_battles(path)
    assert battles["model_a"].tolist() == [None, None, "m"]
    assert battles["n"].tolist() == [None, None, 1]
    assert np.isnan(battles["label_tie"].to_numpy()[:2]).all()
    assert battles["label_tie"][2] == 1.0
    assert [len(swap(chunk)) for chunk in iter_battles(path, chunk_rows=1)] == [1, 1, 1]


# --- swap -----------------------------------------------------------------------------------------


def test_swap_exchanges_all_that_has_a_side(tmp_path: Path) -> None:
    header = "id,prompt,response_a,response_b,model_a,model_b,winner,note_a"
    battles = read_battles(_csv(tmp_path, f"{header}\n1,q,x,y,m,n,a,z\n"))
    swapped = swap(battles)
    assert list(swapped.columns) == list(battles.columns)
    row = swapped.iloc[0]
    assert (row["response_a"], row["response_b"]) == (("y",), ("x",))
    assert (row["model_a"], row["model_b"], row["note_a"]) == ("n", "m", "z")
    assert (row["label_a"], row["label_b"], row["label_tie"]) == (0.0, 1.0, 0.0)
    pd.testing.assert_frame_equal(swap(swapped), battles)


# --- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared_data: Path, name: str) -> None:
    path = shared_data / name
    raw = pd.read_csv(path, dtype=str) if path.suffix == ".csv" else pd.read_parquet(path)
    battles = read_battles(path)
    assert len(battles) == len(raw)
    assert battles["id"].tolist() == raw["id"].tolist()
    for column in ("prompt", "response_a", "response_b"):
        expected = [tuple(turn or "" for turn in json.loads(cell)) for cell in raw[column]]
        assert battles[column].tolist() == expected
    found = labels(battles)
    assert found is not None
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    if "winner" in raw and "votes_a" not in raw:
        outcomes = np.array(["a", "b", "tie"])
        assert outcomes[found.argmax(axis=1)].tolist() == raw["winner"].tolist()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.data())
def test_any_lists_of_turns_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    def conversation(turns: int) -> st.SearchStrategy[tuple[list[str], list[str], list[str]]]:
        side = st.lists(TEXT, min_size=turns, max_size=turns)
        return st.tuples(side, side, side)

    drawn = data.draw(st.lists(st.integers(1, 3).flatmap(conversation), min_size=1, max_size=5))
    ascii_only = data.draw(st.booleans())
    columns = ("prompt", "response_a", "response_b")
    table = pd.DataFrame(
        [[json.dumps(cell, ensure_ascii=ascii_only) for cell in row] for row in drawn],
        columns=columns,
    )
    path = tmp_path_factory.mktemp("turns") / "b.csv"
    table.to_csv(path, index=False)
    battles = read_battles(path)
    for place, name in enumerate(columns):
        assert battles[name].tolist() == [tuple(row[place]) for row in drawn]
