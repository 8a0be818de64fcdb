"""Chat messages: whoever gets the assistant's message reads the target votes, in both orders."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.ballots import CRITERIA, VOTES
from judge.engines.base import Engine, Reply
from judge.errors import InputError
from judge.judges.asking import Asking
from judge.judges.prompted import PromptedJudge
from judge.prompt_files import load_prompt, own_prompts
from judge.prompting import CRITIQUES, Prompt
from judge.replies import Texts, read_texts
from judge.voting import fill_ballot
from synth.data import AnnotatedSet
from synth.exporting.chat import Chats, chat_rows, write_chats
from synth.exporting.replies import write_reply

Make = Callable[..., Any]
UNREFERENCED = [name for name in own_prompts() if not load_prompt(name).reference]
TURN = {"A": "B", "B": "A", "AB": "AB", "NA": "NA"}

votes = st.tuples(*[st.sampled_from(VOTES)] * 5)
verdicts = st.sampled_from(["A", "B", "AB"])
texts = st.text(min_size=1, max_size=40).filter(lambda text: text.strip()) | st.sampled_from(
    ['"verdict": "B"}', "{relevance: B}", "relevance: A\nverdict: B", "</think> B", "```json", "\\"]
)


def rows_of(data: AnnotatedSet, prompt: str | Prompt, **options: Any) -> list[dict[str, Any]]:
    asked = load_prompt(prompt) if isinstance(prompt, str) else prompt
    return list(chat_rows(data, Chats(asked, **options)))


def read(row: dict[str, Any], prompt: Prompt) -> tuple[list[str], str]:
    """The votes and the verdict that a judge reads from a row, of the battle in the file."""
    reply = Reply(row["messages"][-1]["content"])
    ballot = fill_ballot(reply, prompt, row["criterion"], row["order"])
    whole = "" if ballot.verdict is None else VOTES[int(ballot.verdict.argmax())]
    return list(ballot.said), whole


@settings(max_examples=40)
@given(
    five=votes,
    verdict=verdicts,
    reasons=st.tuples(*[texts] * 5),
    critiques=st.tuples(texts, texts),
    reason=texts,
    name=st.sampled_from(UNREFERENCED),
    target=st.sampled_from(["consensus", "reply"]),
)
def test_what_is_exported_is_read_back(
    said: Make,
    make_set: Make,
    five: tuple[str, ...],
    verdict: str,
    reasons: tuple[str, ...],
    critiques: tuple[str, str],
    reason: str,
    name: str,
    target: str,
) -> None:
    more = {"verdict": verdict, "reasons": reasons, "critiques": critiques, "reason": reason}
    data = make_set([said("b", five, order=order, **more) for order in ("AB", "BA")])
    prompt = load_prompt(name)
    chats = Chats(prompt, target)
    rows = list(chat_rows(data, chats))
    assert len(rows) == 2 * len(prompt.questions), chats.tally.left_out
    for row in rows:
        found, whole = read(row, prompt)
        asked = CRITERIA if row["criterion"] is None else (row["criterion"],)
        assert [found[CRITERIA.index(one)] for one in asked] == [
            five[CRITERIA.index(one)] for one in asked
        ]
        assert whole == (verdict if prompt.verdict else "")
        schema = prompt.schema()
        if schema is not None:
            assert list(json.loads(row["messages"][-1]["content"])) == schema["required"]
        written = read_texts(row["messages"][-1]["content"])
        if prompt.reasons:
            assert list(written.reasons.values()) == [one.strip() for one in reasons]
        if prompt.critique:
            shown = critiques[:: -1 if row["order"] == "BA" else 1]
            assert [written.critiques[side] for side in "AB"] == [one.strip() for one in shown]


class NoEngine(Engine):
    """Answers nothing: what would be asked is what is looked at."""

    def answer(self, requests: Any) -> Any:
        raise AssertionError("nothing is asked here")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", own_prompts())
def test_messages_are_those_of_the_prompted_judge(
    said: Make, make_set: Make, battles_called: Make, name: str
) -> None:
    ids = [f"b{n}" for n in range(4)]
    battles = battles_called(ids)
    battles["reference"] = pd.Series(
        ['["one", "two"]', "plain", ("a", "b"), ["<|im_end|>", "x"]], dtype=object
    )
    records = [
        said(one, "A", order=order, verdict="A", reason="So.", critiques=("Good.", "Bad."))
        for one, order in product(ids, ("AB", "BA"))
    ]
    prompt = load_prompt(name)
    rows = rows_of(make_set(records, battles), prompt)
    judge = PromptedJudge(NoEngine(), prompt, Asking("student"))
    wanted = [
        [{"role": one.role, "content": one.content} for one in request.messages]
        for request in judge.requests(battles)
    ]
    assert [row["messages"][:-1] for row in rows] == wanted
    assert {row["messages"][-1]["role"] for row in rows} == {"assistant"}


def test_the_consensus_is_the_same_verdict_in_both_orders(said: Make, make_set: Make) -> None:
    records = [
        *(said("b", "A", order="AB", sample=n) for n in range(3)),
        *(said("b", "AB", order="BA", sample=n) for n in range(2)),
        said("b", ["A", "B", "AB", "NA", "A"], order="BA", sample=2),
    ]
    rows = rows_of(make_set(records), "discriminator")
    assert [row["order"] for row in rows] == ["AB", "BA"]
    first, second = (json.loads(row["messages"][-1]["content"]) for row in rows)
    assert first == dict.fromkeys(CRITERIA, "A")
    assert second == dict.fromkeys(CRITERIA, "B")


def test_orders_weigh_the_same_however_many_samples_they_have(said: Make, make_set: Make) -> None:
    records = [said("b", "A", order="AB", sample=n) for n in range(9)]
    records.append(said("b", "B", order="BA"))
    (row, _) = rows_of(make_set(records), "discriminator")
    # As much for A as for B: neither gains by coming first, and it is AB.
    assert set(json.loads(row["messages"][-1]["content"]).values()) == {"AB"}


def test_reasons_are_of_a_reply_that_agrees_in_that_order(said: Make, make_set: Make) -> None:
    records = [
        said("b", "A", order="AB", verdict="A", sample=0, reasons="A is right."),
        said("b", "A", order="AB", verdict="A", sample=1, reasons="A, later."),
        said("b", "B", order="BA", verdict="B", sample=0, reasons="A is better."),
        said("b", "A", order="BA", verdict="A", sample=1, reasons="B is right."),
    ]
    rows = rows_of(make_set(records), "annotated")
    said_of = {row["order"]: json.loads(row["messages"][-1]["content"])["clarity"] for row in rows}
    assert said_of == {
        "AB": {"reason": "A is right.", "vote": "A"},
        "BA": {"reason": "B is right.", "vote": "B"},
    }


def test_a_reason_goes_with_the_vote_that_it_is_for(said: Make, make_set: Make) -> None:
    """No reply agrees on everything, so each criterion has the reason of one that agrees on it."""
    records = [
        said("b", ["A", "A", "A", "B", "B"], verdict="A", sample=0, reasons="A, by the first."),
        said("b", ["B", "A", "A", "A", "A"], verdict="A", sample=1, reasons="A, by the second."),
        said("b", ["A", "B", "A", "A", "A"], verdict="B", sample=2, reasons="A, by the third."),
    ]
    critiqued = [{**one, "critiques": (f"One {n}.", f"Two {n}.")} for n, one in enumerate(records)]
    (row,) = rows_of(make_set(critiqued), "critiqued", orders=("AB",))
    found = json.loads(row["messages"][-1]["content"])
    assert {found[name]["vote"] for name in CRITERIA} == {"A"}
    assert {name: found[name]["reason"].split()[-1] for name in CRITERIA} == {
        **dict.fromkeys(CRITERIA, "second."),
        "relevance": "first.",
    }
    # The third agrees as often as the second, but not on the verdict.
    assert [found[name] for name in CRITIQUES] == ["One 1.", "Two 1."]


def test_one_reason_for_all_needs_a_reply_that_agrees_on_all(said: Make, make_set: Make) -> None:
    records = [
        said("b", ["A", "A", "A", "A", "B"], sample=0, reason="Nearly.", reasons=None),
        said("b", ["B", "A", "A", "A", "A"], sample=1, reason="Nearly.", reasons=None),
        said("b", ["A", "B", "A", "A", "A"], sample=2, reason="Nearly.", reasons=None),
    ]
    assert rows_of(make_set(records), "reasoned") == []
    records.append(said("b", "A", sample=3, reason="Just so.", reasons=None))
    for row in rows_of(make_set(records), "reasoned"):
        assert json.loads(row["messages"][-1]["content"])["reason"] == "Just so."


@pytest.mark.parametrize(
    ("reason", "turns"),
    [
        ("It answers the question, the other does not.", True),
        ("Both are about as clear.", True),
        ("Response A is longer.", False),
        ("Nur Antwort B stimmt.", False),
        ("回答A更好", False),
        ("Ответ Б лучше", False),
        ("The first one is right.", False),
        ("the latter is clearer", False),
        ("Response 1 has code", False),
        ("前者更清楚", False),
    ],
)
def test_texts_are_turned_around_only_if_they_name_no_side(
    said: Make, make_set: Make, reason: str, turns: bool
) -> None:
    critiques = ("It is short.", "It is long.")
    more = {"verdict": "A", "reasons": reason, "critiques": critiques}
    data = make_set([said("b", "A", order="AB", **more)])
    chats = Chats(load_prompt("critiqued"))
    rows = {row["order"]: row for row in chat_rows(data, chats)}
    assert ("BA" in rows) is turns
    if turns:
        found = json.loads(rows["BA"]["messages"][-1]["content"])
        assert [found[name] for name in CRITIQUES] == ["It is long.", "It is short."]
        assert found["clarity"] == {"reason": reason, "vote": "B"}
    else:
        (entry,) = chats.tally.left_out
        assert (entry.number, entry.ids) == (1, ["b"])
        assert "no replies agree" in entry.words


def test_texts_come_from_columns_where_there_is_no_reply(said: Make, make_set: Make) -> None:
    more = {"verdict": "A", "critiques": ("Of the one.", "Of the other.")}
    data = make_set([said("b", "A", order="BA", **more)])
    data.annotations["reply"] = None
    for row in rows_of(data, "critiqued"):
        found = json.loads(row["messages"][-1]["content"])
        side = "critique_b" if row["order"] == "BA" else "critique_a"
        assert found[side] == "Of the one."


def test_every_reply_is_a_row_of_its_own_order(said: Make, make_set: Make) -> None:
    records = [
        said("b", "A", order="AB", judge="one"),
        said("b", "B", order="AB", judge="two", sample=3),
        said("b", "NA", order="BA", judge="one"),
    ]
    rows = rows_of(make_set(records), "discriminator", target="reply")
    assert [(row["order"], row["judge"], row["sample"]) for row in rows] == [
        ("AB", "one", 0),
        ("BA", "one", 0),
        ("AB", "two", 3),
    ]
    assert [read(row, load_prompt("discriminator"))[0][0] for row in rows] == ["A", "NA", "B"]


def test_what_has_no_ballot_is_counted(said: Make, make_set: Make, battles_called: Make) -> None:
    data = make_set(
        [
            said("whole", "A", verdict="A"),
            said("silent", "A", verdict="A"),
            said("mute", "A"),
            said("partial", "A", verdict="B"),
        ],
        battles_called(["whole", "silent", "mute", "partial", "unasked"]),
    )
    for vote in ("A", "B", "AB", "NA"):
        data.annotations.loc[1, [f"{name}_{vote}" for name in CRITERIA]] = np.nan
        data.annotations.loc[3, f"clarity_{vote}"] = np.nan
    chats = Chats(load_prompt("annotated"))
    assert {row["id"] for row in chat_rows(data, chats)} == {"whole"}
    assert {entry.words: entry.ids for entry in chats.tally.left_out} == {
        "2 battles without votes": ["silent", "unasked"],
        "1 battle without a verdict": ["mute"],
        "1 battle without a vote on every criterion": ["partial"],
    }


def test_a_criterion_without_votes_leaves_the_others(said: Make, make_set: Make) -> None:
    data = make_set([said("b", "A", order=order) for order in ("AB", "BA")])
    for vote in VOTES:
        data.annotations[f"accuracy_{vote}"] = np.nan
    chats = Chats(load_prompt("criterion"))
    rows = list(chat_rows(data, chats))
    assert len(rows) == 8
    assert "accuracy" not in {row["criterion"] for row in rows}
    assert [entry.number for entry in chats.tally.left_out] == [2]


def test_parts_of_a_conversation_vote_but_are_no_reply(said: Make, make_set: Make) -> None:
    records = [said("b", "A"), said("b", "AB"), said("b", "A", sample=1, reasons="It fits.")]
    data = make_set([{**one, "verdict": "A"} for one in records])
    data.annotations["part"] = [0, 1, 0]
    (row,) = rows_of(data, "annotated", orders=("AB",))
    found = json.loads(row["messages"][-1]["content"])
    assert found["clarity"] == {"reason": "It fits.", "vote": "A"}
    assert len(rows_of(data, "annotated", target="reply")) == 1


def test_a_reason_cannot_end_the_message(said: Make, make_set: Make) -> None:
    more = {"critiques": ("Says </s>.", "Says [INST]."), "reasons": "It says <|im_end|>."}
    (row,) = rows_of(make_set([said("b", "A", verdict="A", **more)]), "critiqued", orders=("AB",))
    found = json.loads(row["messages"][-1]["content"])
    assert found["clarity"]["reason"] == "It says < |im_end|>."
    assert [found[name] for name in CRITIQUES] == ["Says < /s>.", "Says [ INST]."]


def test_a_reply_too_long_to_be_read_is_left_out(said: Make, make_set: Make) -> None:
    data = make_set([said("b", "A", verdict="A", reasons="It is. " * 1000)])
    chats = Chats(load_prompt("annotated"), orders=("AB",))
    assert list(chat_rows(data, chats)) == []
    assert [entry.words for entry in chats.tally.left_out] == ["1 ballot too long to be read back"]


def test_ballots_of_unknown_order_make_a_consensus_and_no_reply(said: Make, make_set: Make) -> None:
    data = make_set([said("b", "A", order="AB", reasons=None)])
    data.annotations["order"] = ""
    assert len(rows_of(data, "discriminator")) == 2
    chats = Chats(load_prompt("discriminator"), "reply")
    assert list(chat_rows(data, chats)) == []
    assert [entry.noun for entry in chats.tally.left_out] == ["reply"]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_files_hold_the_rows(said: Make, make_set: Make, tmp_path: Path, ending: str) -> None:
    hostile = "line\nbreak \u2028 \x00 \U0001f600"
    records = [
        said(f"b{n}", "A", order=o, reasons=hostile) for n in range(300) for o in ("AB", "BA")
    ]
    data = make_set([{**one, "verdict": "A"} for one in records])
    path = tmp_path / f"chat{ending}"
    tally = write_chats(path, data, Chats(load_prompt("annotated")))
    assert (tally.rows, tally.battles) == (600, 300)
    if ending == ".jsonl":
        lines = path.read_bytes().decode("utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
    else:
        rows = pq.read_table(path).to_pylist()
    assert len(rows) == 600
    assert list(rows[0]) == ["id", "order", "messages"]
    assert [message["role"] for message in rows[0]["messages"]] == ["system", "user", "assistant"]
    assert "\U0001f600" in rows[-1]["messages"][-1]["content"]


def test_nothing_to_write_is_an_error_and_no_file(
    said: Make, make_set: Make, tmp_path: Path
) -> None:
    data = make_set([said("b", "A")])
    with pytest.raises(
        InputError, match="nothing to write in this form: 1 battle without a verdict"
    ):
        write_chats(tmp_path / "chat.jsonl", data, Chats(load_prompt("annotated")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", own_prompts())
def test_a_ballot_has_the_white_space_that_vllm_lets_be_written(name: str) -> None:
    """None between the members: there a judge that learned from it would leave what it has seen."""
    prompt = load_prompt(name)
    given = Texts("It is so.", dict.fromkeys(CRITERIA, "It is so."), dict.fromkeys("AB", "Fine."))
    for criterion in prompt.questions:
        reply = write_reply(prompt, [0] * 6, given, criterion)
        if prompt.choices is None:
            assert reply == json.dumps(json.loads(reply), separators=(",", ":"))
        else:
            assert reply in prompt.choices
