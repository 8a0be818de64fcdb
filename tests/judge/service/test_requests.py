"""Bodies become battles as files do, or are refused by battle and field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from judge.battles import read_battles
from judge.errors import InputError
from judge.service.limits import Limits
from judge.service.refusals import Refused
from judge.service.requests import Asked, read_request

TEXTS = ("prompt", "response_a", "response_b")
BATTLE = {"prompt": "p", "response_a": "a", "response_b": "b"}


def read(value: object, **limits: int) -> Asked:
    return read_request(json.dumps(value).encode(), Limits(**limits))


def refusal(value: object, **limits: int) -> Refused:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(Refused) as raised:
        read_request(body, Limits(**limits))
    return raised.value


def read_or_refused(body: bytes, **limits: int) -> Asked | Refused:
    try:
        return read_request(body, Limits(**limits))
    except Refused as error:
        return error


def test_one_battle_and_many_are_read_alike() -> None:
    one, many = read(BATTLE), read({"battles": [BATTLE, {**BATTLE, "id": "x"}]})
    assert one.columns == {name: [(text,)] for name, text in BATTLE.items()}
    assert one.shown == ["0"]
    assert many.shown == ["0", "x"]
    assert many.ids == [None, "x"]
    assert not many.ballots
    assert read({**BATTLE, "ballots": True}).ballots
    assert read({"battles": [BATTLE], "ballots": True}).ballots


@pytest.mark.parametrize(
    ("sent", "turns"),
    [
        ({"prompt": "p", "response_a": "a", "response_b": "b"}, [("p",), ("a",), ("b",)]),
        (
            {"prompt": ["p", "q"], "response_a": ["a", None], "response_b": ["b", "c"]},
            [("p", "q"), ("a", ""), ("b", "c")],
        ),
        (
            {
                "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
                "response_a": [{"role": "assistant", "content": [{"text": "a"}, {"text": "b"}]}],
                "response_b": None,
            },
            [("s\n\np",), ("a\nb",), ("",)],
        ),
        # A string is that text, whatever it looks like.
        ({"prompt": "p", "response_a": '["a"]', "response_b": "b"}, [("p",), ('["a"]',), ("b",)]),
        ({"prompt": "p\0", "response_a": "\ud800", "response_b": ""}, [("p\0",), ("�",), ("",)]),
    ],
)
def test_texts_have_the_shapes_that_files_have(sent: dict[str, Any], turns: list[Any]) -> None:
    assert [read(sent).columns[name][0] for name in TEXTS] == turns


def test_strings_are_lists_of_turns_where_the_request_says_so() -> None:
    sent = {name: json.dumps([text, "more"]) for name, text in BATTLE.items()}
    assert read({**sent, "json_turns": True}).columns["prompt"] == [("p", "more")]
    assert read(sent).columns["prompt"] == [('["p", "more"]',)]
    error = refusal({"battles": [sent, {**sent, "response_b": "b"}], "json_turns": True})
    assert (error.status, error.battle, error.field) == (422, 1, "response_b")


turn = st.text(max_size=8)
pairs = st.integers(1, 3).flatmap(
    lambda turns: st.fixed_dictionaries(
        {name: st.lists(turn, min_size=turns, max_size=turns) for name in TEXTS}
    )
)


@given(st.lists(pairs, min_size=1, max_size=6))
def test_the_turns_are_those_of_the_same_battles_in_a_file(
    tmp_path_factory: pytest.TempPathFactory, battles: list[dict[str, list[str]]]
) -> None:
    file = tmp_path_factory.mktemp("battles") / "battles.jsonl"
    file.write_text("".join(json.dumps(battle) + "\n" for battle in battles), encoding="utf-8")
    table, asked = read_battles(file), read({"battles": battles})
    for name in TEXTS:
        assert list(asked.columns[name]) == table[name].tolist()


def test_ids_come_back_as_they_were_sent_and_are_known_as_files_know_them() -> None:
    sent: list[object] = ["x", 7, 7.0, 2.5, "", None, "\ud800", 10**30]
    asked = read({"battles": [{**BATTLE, "id": name} for name in sent]})
    assert asked.shown == ["x", 7, 7.0, 2.5, "", "5", "�", 10**30]
    assert asked.ids == ["x", "7", "7", "2.5", None, None, "�", str(10**30)]


@pytest.mark.parametrize("name", ["NaN", "Infinity", "1e999", "true", "[1]", '{"a": 1}'])
def test_what_is_no_id_is_refused(name: str) -> None:
    body = json.dumps({"battles": [BATTLE, BATTLE]}).replace("}]}", f', "id": {name}}}]}}')
    error = refusal(body.encode())
    assert (error.status, error.battle, error.field) == (422, 1, "id")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("prompt", 5, "is 5, not text"),
        ("prompt", float("nan"), "is nan, not text"),
        ("prompt", {"a": 1}, "not text"),
        ("response_a", [["a"]], "has a turn that is"),
        ("response_a", ["a", "b"], "has 2 turns where the prompt has 1 turn"),
        ("response_b", [{"role": "user", "content": "b"}], "has no assistant message"),
        ("prompt", [{"role": "robot", "content": "b"}], "has a message with role 'robot'"),
        ("reference", {"a": 1}, "no reference answer"),
    ],
)
def test_a_field_that_cannot_be_read_is_named_with_its_battle(
    field: str, value: object, said: str
) -> None:
    error = refusal({"battles": [BATTLE, {**BATTLE, field: value}]})
    assert (error.status, error.code) == (422, "invalid_battle")
    assert (error.battle, error.field) == (1, field)
    assert said in error.message
    assert error.mend


def test_what_is_missing_is_named_and_what_may_have_been_meant() -> None:
    sent = {"prompt": "p", "response_a": "a", "reponse_b": "b"}
    error = refusal({"battles": [BATTLE, BATTLE, sent]})
    assert (error.battle, error.field, error.message) == (2, "response_b", "is missing")
    assert error.mend == "rename 'reponse_b' to 'response_b'"


@pytest.mark.parametrize(
    ("body", "field", "mend"),
    [
        ([BATTLE], None, "battles"),
        ("text", None, "battles"),
        (None, None, "battles"),
        ({}, "battles", "texts"),
        ({"batles": [BATTLE]}, "battles", "texts"),
        ({"battles": []}, "battles", "list of objects"),
        ({"battles": BATTLE}, "battles", "list of objects"),
        ({"battles": [BATTLE], "ballot": True}, None, "did you mean ballots?"),
        ({"battles": [BATTLE], "ballots": 1}, "ballots", "false"),
        ({**BATTLE, "json_turns": "yes"}, "json_turns", "false"),
    ],
)
def test_a_request_without_battles_is_told_how_to_give_some(
    body: object, field: str | None, mend: str
) -> None:
    error = refusal(body)
    assert (error.status, error.code, error.field) == (422, "invalid_request", field)
    assert mend in str(error.mend)


def test_a_battle_that_is_none_is_counted() -> None:
    error = refusal({"battles": [BATTLE, 3]})
    assert (error.status, error.battle) == (422, 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"prompt": "p", "prompt": "q"}', "there twice"),
        (b"\xff\xfe{}", "not UTF-8 (byte 0)"),
        (b'{"prompt": "\xed\xa0\x80"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"1" * 5000, "not JSON"),
    ],
)
def test_what_is_no_json_is_a_bad_request(body: bytes, said: str) -> None:
    error = refusal(body)
    assert (error.status, error.code) == (400, "invalid_json")
    assert said in error.message
    assert len(error.message) < 300


def test_a_byte_order_mark_is_no_fault() -> None:
    assert len(read_request(b"\xef\xbb\xbf" + json.dumps(BATTLE).encode(), Limits())) == 1


@pytest.mark.parametrize("depth", [10, 100, 300, 500, 700, 800, 900, 950, 980, 990, 995, 999])
@pytest.mark.parametrize("field", ["prompt", "id", "anything", "reference"])
def test_no_depth_of_nesting_is_more_than_refused(depth: int, field: str) -> None:
    nested = "[" * depth + "]" * depth
    sent = json.dumps({**BATTLE, field: "?"}).replace('"?"', nested)
    found = read_or_refused(sent.encode())
    if isinstance(found, Refused):
        assert found.status in (400, 422)
    else:
        assert field == "anything"


def test_limits_are_kept_to_the_character() -> None:
    limits = {"characters": 10, "battles": 2}
    exact = {"prompt": "four", "response_a": ["abc"], "response_b": "xyz"}
    assert read({"battles": [exact, exact]}, **limits).characters == 20
    error = refusal({"battles": [exact, {**exact, "response_b": "wxyz"}]}, **limits)
    assert (error.status, error.code, error.battle) == (413, "battle_too_long", 1)
    error = refusal({"battles": [exact] * 3}, **limits)
    assert (error.status, error.code) == (413, "too_many_battles")


def test_empty_turns_have_a_size_too() -> None:
    turns = [""] * 100
    sent = {"prompt": turns, "response_a": turns, "response_b": turns}
    assert refusal(sent, characters=500).code == "battle_too_long"


def test_fields_that_no_judge_reads_are_not_kept() -> None:
    sent = {**BATTLE, "reference": ["r"], "model_a": "m", "winner": "a", "more": {"deep": [1]}}
    assert set(read(sent).columns) == {*TEXTS, "reference", "model_a"}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=10)
    | st.sampled_from(["user", "assistant", "prompt", '["a"]', "\ud800", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "prompt", "battles"]) | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
battle_like = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | st.text(max_size=5)
        for name in (*TEXTS, "id", "reference", "model_a", "ballots", "json_turns")
    },
)


@given(
    json_values
    | battle_like
    | st.fixed_dictionaries({"battles": st.lists(battle_like | json_values, max_size=3)})
)
@example({"battles": [{**BATTLE, "id": float("nan")}]})
def test_whatever_json_is_sent_is_read_or_refused(value: object) -> None:
    found = read_or_refused(json.dumps(value).encode(), characters=30)
    if isinstance(found, Refused):
        assert 400 <= found.status < 500
        assert json.loads(found.body())["error"]["message"]
    else:
        assert all(len(cells) == len(found) for cells in found.columns.values())
        assert found.characters <= 30 * len(found)


@given(st.binary(max_size=60))
def test_whatever_bytes_are_sent_are_read_or_refused(body: bytes) -> None:
    found = read_or_refused(body)
    assert isinstance(found, Refused)
    assert found.status in (400, 422)


def test_the_limits_agree_with_one_another() -> None:
    with pytest.raises(InputError, match="raise --queue"):
        Limits(battles=100, queue=99)
