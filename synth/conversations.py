"""Conversations that models have yet to write their part of, and engines that write it.

A conversation is the user's turns and one model's answers. Turn by turn it is asked for with the
answers written so far; the next turn of one goes out while others wait for their first, so nothing
stands still for the longest. Engines work side by side, each in a thread.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, cast

from judge.engines.base import BUDGET, Engine, Message, Parameters, Reply, Request
from judge.files.turns import Turns
from judge.prompting import spaced
from synth.writing_prompts import WritingPrompt

if TYPE_CHECKING:
    from collections.abc import Generator

CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
"""What servers say of a reply that reached max_tokens."""

# What reasoning models think aloud stands before their answer. Some chat templates open it in the
# prompt, so that only its end is in the reply, on a line of its own.
_THINKING = re.compile(
    r"\s*(?:<(?P<tag>think|thinking|thought|reasoning)>.*?</(?P=tag)>|\[THINK\].*?\[/THINK\])",
    re.DOTALL,
)
_OPENED = re.compile(r"\s*(?:<(?:think|thinking|thought|reasoning)>|\[THINK\])")
_ENDED = re.compile(r"^[^\S\n]*</think(?:ing)?>[^\S\n]*$", re.MULTILINE)


class Said(NamedTuple):
    """What came of one turn: its number from 0, the reply, and what of it is the answer."""

    turn: int
    reply: Reply
    text: str


@dataclass(eq=False)
class Conversation:
    """One model's part in a conversation, while it is written.

    Attributes:
        engine, parameters: who writes, and how.
        turns: the user's.
        given: the answers that are there, one a turn; those that are empty are to be written.
        sample: another number asks for another draw.
        uses: where it goes: the battle's place and the column.
        answers: one a turn, so far.
        said: what was asked for, turn by turn.
        error: why it came to no end.
    """

    engine: Engine
    parameters: Parameters
    turns: Turns
    given: Turns
    sample: int = 0
    uses: list[tuple[int, str]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    error: str | None = None

    def __post_init__(self) -> None:
        self.answers = list(self.given)
        for turn in self.open:
            if not self.turns[turn].strip():
                self.error = self._of(turn, "the prompt is empty")

    @property
    def open(self) -> list[int]:
        """The turns that are to be written."""
        return [turn for turn, answer in enumerate(self.answers) if not answer.strip()]

    @property
    def done(self) -> bool:
        """Whether every turn has its answer."""
        return self.error is None and not self.open

    def request(
        self, prompt: WritingPrompt, turn: int | None = None, answers: Sequence[str] | None = None
    ) -> Request:
        """What asks for a turn.

        Args:
            prompt: how the model is asked.
            turn: which; the first open one by default.
            answers: taken for those of the turns before; those that were written by default.
        """
        turn = self.open[0] if turn is None else turn
        answers = self.answers if answers is None else answers
        messages = [Message("system", prompt.system)] if prompt.system else []
        for asked, answer in zip(self.turns[:turn], answers[:turn], strict=True):
            messages += [Message("user", spaced(asked)), Message("assistant", spaced(answer))]
        messages.append(Message("user", spaced(self.turns[turn])))
        return Request(tuple(messages), self.parameters, self.sample, self._prefix(prompt))

    def take(self, reply: Reply) -> bool:
        """Takes the reply to the first open turn; whether there is another to ask for."""
        turn = self.open[0]
        if reply.error is not None:
            why = "not asked: the budget was spent" if reply.error == BUDGET else reply.error
            self.error = self._of(turn, why)
            return False
        text = answer_in(reply.text)
        self.said.append(Said(turn, reply, text))
        if not text.strip():
            self.error = self._of(turn, _why_empty(reply))
            return False
        self.answers[turn] = text
        return bool(self.open)

    def _of(self, turn: int, why: str) -> str:
        return why if len(self.turns) == 1 else f"turn {turn + 1}: {why}"

    def _prefix(self, prompt: WritingPrompt) -> str:
        """The same for all that begins with this prompt, so for all turns of it."""
        drawn = blake2b(self.turns[0].encode("utf-8", "surrogatepass"), digest_size=8)
        return f"{prompt.name}-{prompt.version}-{drawn.hexdigest()}"


def answer_in(text: str) -> str:
    """A reply without what a reasoning model thought aloud before it; nothing where it never came
    to an answer."""
    thinking = _THINKING.match(text)
    if thinking is not None:
        return text[thinking.end() :].strip()
    if _OPENED.match(text):
        return ""
    ended = _ENDED.search(text)
    if ended is None or "<think" in text[: ended.start()]:
        return text
    return text[ended.end() :].strip()


def converse(
    conversations: Iterable[Conversation],
    prompt: WritingPrompt,
    tick: Callable[[], None] | None = None,
) -> None:
    """Has conversations written to their end, or to where they fail.

    Args:
        conversations: those that have failed already are left as they are.
        prompt: how models are asked.
        tick: called after each reply, in any thread.

    Raises:
        ArenaJudgeError: no call of an engine can succeed.
    """
    by_engine: dict[int, deque[Conversation]] = {}
    for one in conversations:
        if one.error is None and one.open:
            by_engine.setdefault(id(one.engine), deque()).append(one)
    queues = list(by_engine.values())
    if len(queues) == 1:
        _talk(queues[0], prompt, threading.Event(), tick)
    elif queues:
        _talk_together(queues, prompt, tick)


def _talk_together(
    queues: list[deque[Conversation]], prompt: WritingPrompt, tick: Callable[[], None] | None
) -> None:
    stop = threading.Event()
    pool = ThreadPoolExecutor(len(queues), "arena-judge-writer")
    try:
        futures = [pool.submit(_talk, queue, prompt, stop, tick) for queue in queues]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except BaseException:
        # The others end with their next reply, or when their engine is closed.
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _talk(
    ready: deque[Conversation],
    prompt: WritingPrompt,
    stop: threading.Event,
    tick: Callable[[], None] | None,
) -> None:
    """Asks for turns while there are any: a conversation comes back to the front of the queue with
    its next one, as long as the server remembers it."""
    while ready:
        asked: list[Conversation] = []
        requests = _requests(ready, asked, prompt)
        answers = cast("Generator[tuple[int, Reply], None, None]", ready[0].engine.answer(requests))
        with closing(answers) as replies:
            for number, reply in replies:
                if stop.is_set():
                    return
                if asked[number].take(reply):
                    ready.appendleft(asked[number])
                if tick is not None:
                    tick()


def _requests(
    ready: deque[Conversation], asked: list[Conversation], prompt: WritingPrompt
) -> Iterator[Request]:
    while ready:
        asked.append(ready.popleft())
        yield asked[-1].request(prompt)


def _why_empty(reply: Reply) -> str:
    thought = "the model thought, and wrote nothing" if reply.text.strip() else "the reply is empty"
    if reply.finish in CUT:
        return f"{thought}: it was cut at max_tokens"
    why = re.sub(r"\W+", " ", reply.finish)[:40].strip()
    return thought if why in ("stop", "") else f"{thought} ({why})"
