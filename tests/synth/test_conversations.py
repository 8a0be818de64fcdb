"""Conversations with engines that answer by a script, in whatever order."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.engines.base import BUDGET, Engine, Parameters, Reply, Request
from judge.errors import ArenaJudgeError
from synth.conversations import Conversation, answer_in, converse
from synth.writing_prompts import WritingPrompt

PROMPT = WritingPrompt("p", "1", "d", "", 100, 50, 0.7)
PARAMETERS = Parameters("m", 0.7, 100)


class Scripted(Engine):
    """Answers by a function of the request, a few requests ahead, in an order drawn at random."""

    def __init__(self, script: Callable[[Request], Reply | str], ahead: int = 5, seed: int = 0):
        super().__init__(name="scripted")
        self.script, self.ahead = script, ahead
        self.asked: list[Request] = []
        self.draws = random.Random(seed)

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        window: list[tuple[int, Request]] = []
        source = enumerate(requests)
        more = True
        while more or window:
            while more and len(window) < self.ahead:
                item = next(source, None)
                more = item is not None
                if item is not None:
                    window.append(item)
            if window:
                number, request = window.pop(self.draws.randrange(len(window)))
                self.asked.append(request)
                said = self.script(request)
                yield number, Reply(said) if isinstance(said, str) else said

    def close(self) -> None: ...


def spoken(request: Request) -> str:
    """An answer that could only be given to this request."""
    return (
        f"{request.parameters.model}/{request.sample}("
        + "|".join(f"{message.role[0]}:{message.content}" for message in request.messages)
        + ")"
    )


def expected(turns: tuple[str, ...], given_answers: tuple[str, ...], sample: int) -> list[str]:
    """What `spoken` makes of a conversation that is held properly."""
    answers: list[str] = []
    for turn, answer in enumerate(given_answers):
        if answer:
            answers.append(answer)
            continue
        history = [
            part
            for asked, answered in zip(turns[:turn], answers, strict=True)
            for part in (f"u:{asked}", f"a:{answered}")
        ]
        answers.append(f"m/{sample}(" + "|".join([*history, f"u:{turns[turn]}"]) + ")")
    return answers


talks = st.lists(
    st.integers(1, 4).flatmap(
        lambda turns: st.tuples(
            st.lists(st.sampled_from("pqrs"), min_size=turns, max_size=turns).map(tuple),
            st.lists(st.sampled_from(["", "", "given"]), min_size=turns, max_size=turns).map(tuple),
            st.integers(0, 1),
        )
    ),
    max_size=12,
)


@given(talks, st.integers(1, 7), st.integers(0, 99))
def test_every_turn_is_asked_with_the_history_of_its_own_conversation(
    said: list[tuple[tuple[str, ...], tuple[str, ...], int]], ahead: int, seed: int
) -> None:
    engine = Scripted(spoken, ahead, seed)
    held = [Conversation(engine, PARAMETERS, *talk) for talk in said]
    converse(held, PROMPT)
    for one, talk in zip(held, said, strict=True):
        assert one.done
        assert one.answers == expected(*talk)
        assert [entry.turn for entry in one.said] == [
            turn for turn, answer in enumerate(talk[1]) if not answer
        ]
    assert len(engine.asked) == sum(answers.count("") for _, answers, _ in said)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20), st.integers(0, 99))
def test_engines_side_by_side_answer_their_own(whose: list[int], seed: int) -> None:
    engines = [Scripted(spoken, 3, seed + number) for number in range(3)]
    held = [
        Conversation(engines[one], replace(PARAMETERS, model=f"m{one}"), ("p", str(n)), ("", ""))
        for n, one in enumerate(whose)
    ]
    converse(held, PROMPT)
    for one, number in zip(held, whose, strict=True):
        assert one.answers[0].startswith(f"m{number}/0(")
        assert one.answers[1].startswith(f"m{number}/0(u:p|a:m{number}/0(u:p)|")
    assert [len(engine.asked) for engine in engines] == [2 * whose.count(n) for n in range(3)]


def test_a_conversation_ends_where_a_turn_cannot_be_had() -> None:
    def script(request: Request) -> Reply | str:
        last = request.messages[-1].content
        return Reply.failed(last) if last in (BUDGET, "boom") else last

    engine = Scripted(script)
    talks = [("a", "boom", "c"), ("boom",), (BUDGET,), ("a", "b")]
    held = [Conversation(engine, PARAMETERS, talk, ("",) * len(talk)) for talk in talks]
    converse(held, PROMPT)
    assert [one.error for one in held] == [
        "turn 2: boom",
        "boom",
        "not asked: the budget was spent",
        None,
    ]
    assert [len(one.said) for one in held] == [1, 0, 0, 2]
    assert len(engine.asked) == 6


def test_nothing_is_asked_of_a_prompt_that_asks_nothing() -> None:
    engine = Scripted(spoken)
    held = [
        Conversation(engine, PARAMETERS, ("a", " \n"), ("", "")),
        Conversation(engine, PARAMETERS, ("a", ""), ("", "given")),
    ]
    converse(held, PROMPT)
    assert held[0].error == "turn 2: the prompt is empty"
    assert held[1].done
    assert len(engine.asked) == 1


def test_an_engine_that_fails_ends_the_others() -> None:
    failed, raised, ended = threading.Event(), threading.Event(), threading.Event()

    def patient(request: Request) -> str:
        assert (raised if slow.asked[1:] else failed).wait(60)
        return "a"

    class Slow(Scripted):
        def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
            try:
                yield from super().answer(requests)
            finally:
                ended.set()

    class Broken(Scripted):
        def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
            failed.set()
            raise ArenaJudgeError("the key is refused")
            yield 0, Reply("")

    slow, broken = Slow(patient), Broken(spoken)
    held = [Conversation(slow, PARAMETERS, (str(n),), ("",)) for n in range(100)]
    held.append(Conversation(broken, PARAMETERS, ("a",), ("",)))
    with pytest.raises(ArenaJudgeError, match="the key is refused"):
        converse(held, PROMPT)
    raised.set()
    assert ended.wait(60)
    assert len(slow.asked) <= 2


def test_calls_that_begin_alike_have_one_prefix() -> None:
    engine = Scripted(spoken)
    one, again, other = (
        Conversation(engine, PARAMETERS, turns, ("", ""))
        for turns in (("a", "b"), ("a", "c"), "xy")
    )
    prefixes = {one.request(PROMPT).prefix, one.request(PROMPT, 1, ("x", "")).prefix}
    assert prefixes == {again.request(PROMPT).prefix}
    assert prefixes != {other.request(PROMPT).prefix}


def test_text_that_a_template_would_read_is_spaced_apart() -> None:
    engine = Scripted(lambda request: "said</s>")
    one = Conversation(engine, PARAMETERS, ("<|im_end|>", "b"), ("", ""))
    converse([one], replace(PROMPT, system="Be good."))
    assert [(m.role, m.content) for m in engine.asked[-1].messages] == [
        ("system", "Be good."),
        ("user", "< |im_end|>"),
        ("assistant", "said< /s>"),
        ("user", "b"),
    ]
    assert one.answers == ["said</s>"] * 2


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("plain", "plain"),
        ("  spaced \n", "  spaced \n"),
        ("<think>hm</think>\n\nyes ", "yes"),
        ("\n<thinking>\nhm\n</thinking>yes", "yes"),
        ("[THINK]hm[/THINK]yes", "yes"),
        ("hm, well\n</think>\n\nyes", "yes"),
        ("</think>\nyes", "yes"),
        ("<think></think>", ""),
        ("<think>hm, no end", ""),
        ("the tag is `</think>`", "the tag is `</think>`"),
        ("write\n<think>\nhm\n</think>\nso", "write\n<think>\nhm\n</think>\nso"),
        ("<think>a</think>b</think>c", "b</think>c"),
        ("", ""),
    ],
)
def test_what_was_thought_aloud_is_no_part_of_the_answer(reply: str, answer: str) -> None:
    assert answer_in(reply) == answer
