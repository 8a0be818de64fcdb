"""How many tokens there are to work through: of a file of battles, or of as many as usual."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from judge.classifier.sizing.runs import Run

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

# Characters of prompts and of responses of battles as people have them: quantiles of 9,109 battles
# of chatbot arenas, at 0, 10, ... 90, 95 and 99 in a hundred.
_AT = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_USUAL = (30, 560, 1050, 1560, 2070, 2540, 3080, 3670, 4380, 5640, 6960, 11100)
_PROMPT = 0.13  # share of a battle's characters that is the prompt
_CHARACTERS = 4.2  # of a token, where no tokenizer is at hand
_WORDS = 24  # tokens of the template
_SAMPLE = 400_000


@dataclass(frozen=True)
class Lengths:
    """Battles, and how long they are.

    Attributes:
        battles: how many.
        prompts, responses: (N,) characters, of all or of some that are like all.
        token: characters of a token.
        source: where they are from: a file, or `usual`.
    """

    battles: int
    prompts: Floats
    responses: Floats
    token: float
    source: str

    def tokens(self, run: Run) -> float:
        """Tokens of the battles as one order shows them, cut to `max_length`."""
        if not len(self.prompts):
            return 0.0
        return float(self._each(run).sum(axis=1).mean() * self.battles)

    def looks(self, run: Run) -> float:
        """How many tokens of its sequence a token is among, on average over tokens."""
        each = self._each(run)
        return float((each**2).sum() / max(each.sum(), 1.0))

    def cut(self, run: Run) -> float:
        """Share of the battles that are cut."""
        if not len(self.prompts):
            return 0.0
        return float((self._whole(run) > run.max_length).any(axis=1).mean())

    def _whole(self, run: Run) -> Floats:
        """(N, sequences) tokens of each before anything is cut."""
        if run.form == "single":
            one = (self.prompts + self.responses / 2) / self.token + _WORDS
            return np.stack([one, one], axis=1)
        return np.asarray((self.prompts + self.responses) / self.token + _WORDS)[:, None]

    def _each(self, run: Run) -> Floats:
        return np.minimum(self._whole(run), run.max_length)


def usual(battles: int, token: float = _CHARACTERS) -> Lengths:
    """Battles as people have them."""
    places = (np.arange(200) + 0.5) / 200
    characters = np.interp(places, _AT, _USUAL)
    return Lengths(battles, _PROMPT * characters, (1 - _PROMPT) * characters, token, "usual")


def measured(file: str, tokenizer: Path | None = None) -> Lengths:
    """The battles of a file.

    Args:
        file: of battles.
        tokenizer: a tokenizer.json, which some of the text is put through to see how many
            characters a token has.

    Raises:
        InputError: the file cannot be read.
    """
    from judge.battles import iter_battles

    prompts: list[Floats] = []
    responses: list[Floats] = []
    sample: list[str] = []
    room = _SAMPLE
    for battles in iter_battles(file, labels=False):
        prompts.append(_characters(battles["prompt"]))
        responses.append(_characters(battles["response_a"]) + _characters(battles["response_b"]))
        if room > 0:
            for turns in battles["response_a"]:
                text = "\n".join(turns)[:room]
                sample.append(text)
                room -= len(text)
                if room <= 0:
                    break
    token = _CHARACTERS if tokenizer is None else _token(sample, tokenizer)
    joined = [np.concatenate(part) if part else np.zeros(0) for part in (prompts, responses)]
    return Lengths(len(joined[0]), joined[0], joined[1], token, file)


def _characters(texts: pd.Series[Any]) -> Floats:
    """(N,) characters of texts that are lists of turns."""
    return np.array([sum(map(len, turns)) for turns in texts], dtype=np.float64)


def _token(texts: list[str], tokenizer: Path) -> float:
    """Characters of a token; as usual where the tokenizer cannot be used."""
    try:
        from tokenizers import Tokenizer

        found = Tokenizer.from_file(str(tokenizer))
        found.no_truncation()
        found.no_padding()
        counts = sum(len(one.ids) for one in found.encode_batch_fast(texts))
    except Exception:  # it has no kind of its own; the tokenizer's own check says what is wrong
        return _CHARACTERS
    characters = sum(map(len, texts))
    return characters / counts if counts and characters else _CHARACTERS
