"""Battles to sequences of token ids, exact to the token.

    encoder = BattleEncoder(tokenizer, load_template("interleaved"), 512, "head-tail")
    encoded = encoder.encode(battles, ("AB", "BA"))
    encoded.ids, encoded.battles, encoded.sides, encoded.cut, encoded.shared

Each text is tokenised once, whatever the number of orders, and by itself: so ids can be cut and put
together without a look at the text, and the length of a sequence is a sum. For several lengths:

    tokens = encoder.read(battles)
    for length in (256, 512):
        encoder.at(length).assemble(tokens)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.classifier.templates import Template
from judge.classifier.tokenizing import Ids, Ints, TextTokenizer
from judge.classifier.truncation import Texts, cut_to, load_planned
from judge.errors import ArenaJudgeError
from judge.files.turns import TEXTS

ORDERS = ("AB", "BA")

# The fewest tokens of a battle's text that can be judged by.
LEAST = 8


@dataclass(frozen=True)
class Encoded:
    """Battles as a model reads them, S sequences; those of a battle stand side by side.

    Attributes:
        ids: S sequences, special tokens included.
        battles: (S,) which row of the table each is about.
        sides: (S,) pair form: 0 for order AB, 1 for BA; single form: 0 for response A, 1 for B.
        cut: (S,) tokens of the battle's text that are not in the sequence.
        shared: (S,) how many first ids are those of the battle's other sequence too; at least one
            of either is its own. 0 without another.
    """

    ids: list[Ids]
    battles: Ints
    sides: npt.NDArray[np.int8]
    cut: Ints
    shared: Ints

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Ints:
        """(S,) tokens of each sequence."""
        return np.fromiter(map(len, self.ids), dtype=np.int64, count=len(self.ids))


@dataclass(frozen=True)
class BattleTokens:
    """The texts of N battles as token ids; U different texts in R rounds.

    Attributes:
        ids: all ids of all texts.
        starts: (U + 1,) where each text begins in them.
        texts: (R, 3) which text is the prompt, response A and response B of a round.
        rounds: (N + 1,) where the rounds of each battle begin.
    """

    ids: Ids
    starts: Ints
    texts: Ints
    rounds: Ints

    def __len__(self) -> int:
        return len(self.rounds) - 1

    @property
    def lengths(self) -> Ints:
        """(N, 3) tokens of prompt, A and B, all turns together."""
        before = np.zeros((len(self.texts) + 1, 3), dtype=np.int64)
        np.cumsum(np.diff(self.starts)[self.texts], axis=0, out=before[1:])
        return before[self.rounds[1:]] - before[self.rounds[:-1]]

    def of(self, battle: int) -> list[Texts]:
        """The rounds of a battle."""
        ids, starts = self.ids, self.starts
        found = []
        for p, a, b in self.texts[self.rounds[battle] : self.rounds[battle + 1]].tolist():
            found.append(
                (
                    ids[starts[p] : starts[p + 1]],
                    ids[starts[a] : starts[a + 1]],
                    ids[starts[b] : starts[b + 1]],
                )
            )
        return found


@dataclass(frozen=True)
class _Words:
    """The ids around a battle's texts; `first` is the prompt's where nothing stands before it."""

    first: Ids
    prompt: Ids
    responses: tuple[Ids, Ids]
    cut: Ids
    closing: Ids


class BattleEncoder:
    """Puts battles before a model.

    Args:
        tokenizer: the model's: a fast one of `transformers`, one of the `tokenizers` package, or
            a `TextTokenizer`.
        template: the words around a battle.
        max_length: how many ids a sequence may have; one that fits loses nothing.
        policy: what stays of longer battles, one of `judge.classifier.truncation.POLICIES`.

    Raises:
        ArenaJudgeError: a slow tokenizer, an unknown policy, or a length without room for text.
    """

    def __init__(
        self, tokenizer: Any, template: Template, max_length: int, policy: str = "proportional"
    ) -> None:
        known = isinstance(tokenizer, TextTokenizer)
        self.tokenizer: TextTokenizer = tokenizer if known else TextTokenizer(tokenizer)
        self.template, self.max_length, self.policy = template, max_length, policy
        self._planned = load_planned(policy)
        self._words = _words(self.tokenizer, template)
        words = self._words
        self._shown = 2 if template.form == "pair" else 1
        self._turn_overhead = len(words.prompt) + sum(map(len, words.responses[: self._shown]))
        ends = len(self.tokenizer.before) + len(self.tokenizer.after)
        self._overhead = ends + len(words.closing) + len(words.first) - len(words.prompt)
        room = max_length - self._overhead - self._turn_overhead
        if room < LEAST:
            raise ArenaJudgeError(
                f"a length of {max_length} leaves {max(room, 0)} tokens for a battle's text, and "
                f"{LEAST} are the least; raise it to {max_length + LEAST - room} or more"
            )

    def at(self, max_length: int) -> BattleEncoder:
        """The same for another length; what this one reads it can put together."""
        return BattleEncoder(self.tokenizer, self.template, max_length, self.policy)

    def encode(self, battles: pd.DataFrame, orders: Sequence[str] = ("AB",)) -> Encoded:
        """The sequences of N battles; see `Encoded`.

        Args:
            battles: a battle table (see `judge.battles`).
            orders: which to make, in pair form; the sequences of single form have none.
        """
        return self.assemble(self.read(battles), orders)

    def read(self, battles: pd.DataFrame) -> BattleTokens:
        """Tokenises battles, each different text once."""
        places: dict[str, int] = {}
        rounds, texts = [0], []
        for turns in zip(*(battles[name] for name in TEXTS), strict=True):
            for turn in zip(*turns, strict=True):
                texts += [places.setdefault(text, len(places)) for text in turn]
            rounds.append(len(texts) // 3)
        ids, starts = self.tokenizer.encode(list(places))
        table = np.array(texts, dtype=np.int64).reshape(-1, 3)
        return BattleTokens(ids, starts, table, np.array(rounds, dtype=np.int64))

    def whole_lengths(self, tokens: BattleTokens) -> Ints:
        """(N, 2) ids that sequences would have if nothing was cut: of orders AB and BA, or of
        response A and B."""
        asked, answers = tokens.lengths[:, 0], tokens.lengths[:, 1:]
        if self.template.form == "pair":
            answers = np.repeat(answers.sum(axis=1)[:, None], 2, axis=1)
        around = self._overhead + self._turn_overhead * np.diff(tokens.rounds)
        return np.asarray(answers + (asked + around)[:, None])

    def assemble(self, tokens: BattleTokens, orders: Sequence[str] = ("AB",)) -> Encoded:
        """The sequences of battles that were read; see `encode`."""
        pair = self.template.form == "pair"
        if not orders or len(set(orders)) < len(orders) or not set(orders) <= set(ORDERS):
            raise ValueError(f"orders are AB, BA or both, and not {tuple(orders)}")
        sides = [ORDERS.index(order) for order in orders] if pair else [0, 1]
        too_long = (self.whole_lengths(tokens) > self.max_length).tolist()
        ids: list[Ids] = []
        cut = np.zeros((len(tokens), len(sides)), dtype=np.int64)
        shared = np.zeros_like(cut)
        for battle in range(len(tokens)):
            texts = tokens.of(battle)
            made = (
                self._pair(texts, too_long[battle][0], sides)
                if pair
                else [self._single(texts, too_long[battle][side], side) for side in sides]
            )
            cut[battle] = [left for _, left in made]
            ids += [sequence for sequence, _ in made]
            if len(made) == 2:
                shared[battle] = _shared(ids[-2], ids[-1])
        return Encoded(
            ids,
            np.repeat(np.arange(len(tokens)), len(sides)),
            np.tile(np.array(sides, dtype=np.int8), len(tokens)),
            cut.ravel(),
            shared.ravel(),
        )

    def _pair(
        self, texts: list[Texts], too_long: bool, sides: Sequence[int]
    ) -> list[tuple[Ids, int]]:
        texts, left = self._fitted(texts, too_long)
        turned = [(prompt, b, a) for prompt, a, b in texts]
        return [(self._sequence(turned if side else texts), left) for side in sides]

    def _single(self, texts: list[Texts], too_long: bool, side: int) -> tuple[Ids, int]:
        alone: list[Texts] = [(turn[0], turn[1 + side], turn[0][:0]) for turn in texts]
        alone, left = self._fitted(alone, too_long)
        return self._sequence(alone), left

    def _fitted(self, texts: list[Texts], too_long: bool) -> tuple[list[Texts], int]:
        if not too_long:
            return texts, 0
        room = self.max_length - self._overhead
        return cut_to(texts, self._planned, room, self._turn_overhead, self._words.cut)

    def _sequence(self, texts: Sequence[Texts]) -> Ids:
        words = self._words
        parts = [self.tokenizer.before]
        mark = words.first
        later: list[Ids] = []
        together = later if self.template.turns == "a-then-b" else parts
        for prompt, one, other in texts:
            parts += (mark, prompt, words.responses[0], one)
            if self._shown == 2:
                together += (words.responses[1], other)
            mark = words.prompt
        return np.concatenate([*parts, *later, words.closing, self.tokenizer.after])


def _words(tokenizer: TextTokenizer, template: Template) -> _Words:
    def section(text: str) -> Ids:
        if tokenizer.separator is None:
            return tokenizer.words(template.between + text)
        between = np.array([tokenizer.separator], dtype=np.int32)
        return np.concatenate([between, tokenizer.words(text)])

    return _Words(
        tokenizer.words(template.prompt),
        section(template.prompt),
        (section(template.responses[0]), section(template.responses[1])),
        tokenizer.words(template.cut),
        section(template.closing),
    )


def _shared(one: Ids, other: Ids) -> int:
    """How many first ids two sequences have in common, one less than the shorter has at most."""
    most = max(0, min(len(one), len(other)) - 1)
    differ = np.flatnonzero(one[:most] != other[:most])
    return int(differ[0]) if len(differ) else most
