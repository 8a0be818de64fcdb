"""Battles that don't exist yet: from several models' responses to the same prompts, or from prompts
and the models that are to answer them.

    for battles in iter_pairs("prompts.jsonl", {"llama": "llama.jsonl", "qwen": "qwen.jsonl"}):
        ...

Files are read once, their texts wait in temporary files, and only who has a response to what is in
memory; so a table is all that is held at a time. Draws hang on the prompts' words and the order in
which models are named: not on ids, on the order of rows, or on what models are called. Ids are the
prompt's with the battle's number: `q17:0`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.errors import ArenaJudgeError, InputError
from judge.files.turns import Prompt, Turns
from synth.pair_drawing import Ints, draw_meetings
from synth.response_matching import Matched, read_matched

_MEND = "see that the files speak of the same prompts"


@dataclass(frozen=True)
class Pairing:
    """What became of the files.

    Attributes:
        models: in the order they were named.
        prompts: how many there are.
        unpaired: how many of them have fewer than two responses, and no battle.
        battles: how many there are.
        missing: of each model, the prompts that it has no response to, or an empty one.
        unasked: of each model, the responses to prompts that are not among the prompts.
        others: of each model, the responses beside the first to a prompt, which are not taken.
    """

    models: tuple[str, ...]
    prompts: int
    unpaired: int
    battles: int
    missing: Mapping[str, int]
    unasked: Mapping[str, int]
    others: Mapping[str, int]

    def lines(self) -> list[str]:
        """For people: what was left out. None where nothing was."""
        found = []
        if self.unpaired:
            found.append(f"{self.unpaired:,} of {self.prompts:,} prompts have no two responses")
        for counts, what in (
            (self.missing, "prompts without a response"),
            (self.unasked, "responses to prompts that are not among the prompts, left out"),
            (self.others, "responses beside the first to a prompt, left out"),
        ):
            found += [f"{model}: {what}: {count:,}" for model, count in counts.items() if count]
        return found


def iter_pairs(
    prompts: str | None,
    responses: Mapping[str, str],
    *,
    pairs: int | None = None,
    seed: int = 0,
    chunk_rows: int = 256,
    told: Callable[[Pairing], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """Battles of models that have answered the same prompts, in tables of at most `chunk_rows`.

    Rows belong together by their id where every file has ids, else by the prompt; a prompt that a
    file has several times is as many prompts. Other columns of the file of prompts are kept.

    Args:
        prompts: the file of prompts; None where the files of responses have them.
        responses: a file for each model, by the model's name; see `synth.response_files`.
        pairs: how many battles a prompt has at most; None for all pairs of its models.
        seed: of the draws.
        chunk_rows: the longest table.
        told: is told what was left out, before the first table.

    Raises:
        InputError: a file cannot be read, an id stands twice in one, a response is to another
            prompt than its id says, or no prompt has two responses.
    """
    _check(pairs, chunk_rows)
    _check_models(list(responses), least=2)
    twice = [name for name in responses.values() if list(responses.values()).count(name) > 1]
    if twice:
        raise InputError("is named for two models", file=twice[0], mend="name each model's own")
    with closing(Matched(list(responses))) as matched:
        read_matched(matched, prompts, list(responses.values()))
        present = matched.present()
        met = _met(matched, present, pairs, seed)
        if not len(met):
            what = "no prompt has the responses of two models"
            raise InputError(what, file=", ".join(responses.values()), mend=_MEND)
        if told is not None:
            told(_pairing(matched, present, met))
        yield from _tables(matched, matched.models, met, chunk_rows)


def iter_to_write(
    prompts: str,
    models: Sequence[str],
    *,
    pairs: int | None = None,
    seed: int = 0,
    chunk_rows: int = 256,
) -> Iterator[pd.DataFrame]:
    """Battles whose responses models are to write: `write` is "ab", and `model_a` and `model_b` say
    who. A single model meets itself, once a prompt: two samples of it.

    A prompt that comes with the answers to its earlier turns has them in both responses; only turns
    that are empty are to be written.

    Args:
        prompts: the file; see `synth.response_files`. Its other columns are kept.
        models: as `synth.writing.write_responses` knows them, such as `endpoint:NAME`.
        pairs: how many battles a prompt has at most; None for all pairs of the models.
        seed: of the draws.
        chunk_rows: the longest table.

    Raises:
        InputError: the file cannot be read, an id stands twice in it, or a prompt is empty.
    """
    _check(pairs, chunk_rows)
    _check_models(models, least=1)
    with closing(Matched()) as matched:
        read_matched(matched, prompts, ())
        met = np.zeros((len(matched), 3), dtype=np.int64)
        met[:, 0] = np.arange(len(matched))
        if len(models) > 1:
            present = np.ones((len(matched), len(models)), dtype=np.bool_)
            met = _met(matched, present, pairs, seed)
        yield from _tables(matched, models, met, chunk_rows)


def _check(pairs: int | None, chunk_rows: int) -> None:
    if pairs is not None and pairs < 1:
        raise ArenaJudgeError(f"a prompt has one pair or more, not {pairs}")
    if chunk_rows < 1:
        raise ValueError("chunk_rows must be at least 1")


def _check_models(models: Sequence[str], least: int) -> None:
    if len(models) < least:
        raise ArenaJudgeError("a battle takes two models; name another with its responses")
    blank = [model for model in models if not model.strip()]
    if blank:
        raise ArenaJudgeError("a model has no name; give it one")
    again = [model for at, model in enumerate(models) if model in models[:at]]
    if again:
        raise ArenaJudgeError(f"{again[0]} is named twice; a model meets itself if it is the only")


def _met(matched: Matched, present: npt.NDArray[np.bool_], pairs: int | None, seed: int) -> Ints:
    """(B, 3) prompt, model A, model B. Prompts draw in the order of hashes of their words."""
    key = str(seed).encode()
    drawn = [blake2b(known, digest_size=8, key=key).digest() for known in matched.digests]
    order = sorted(range(len(drawn)), key=lambda place: (drawn[place], place))
    return draw_meetings(present, order, pairs, np.random.default_rng(seed))


def _pairing(matched: Matched, present: npt.NDArray[np.bool_], met: Ints) -> Pairing:
    missing = (~present).sum(axis=0).tolist()
    return Pairing(
        models=matched.models,
        prompts=len(matched),
        unpaired=int((present.sum(axis=1) < 2).sum()),
        battles=len(met),
        missing=dict(zip(matched.models, missing, strict=True)),
        unasked=matched.unasked,
        others=matched.others,
    )


def _tables(
    matched: Matched, models: Sequence[str], met: Ints, chunk_rows: int
) -> Iterator[pd.DataFrame]:
    """The battles in tables; where no responses were read, they are to be written."""
    within = np.arange(len(met)) - np.searchsorted(met[:, 0], met[:, 0])
    for first in range(0, len(met), chunk_rows):
        chosen = slice(first, first + chunk_rows)
        rows = np.column_stack([met[chosen], within[chosen]]).tolist()
        battles = [_battle(matched, models, *row) for row in rows]
        index = pd.RangeIndex(first, first + len(battles))
        yield pd.DataFrame(
            {
                name: pd.Series([battle.get(name) for battle in battles], index, dtype=object)
                for name in {**battles[0], **matched.columns}
            }
        )


def _battle(
    matched: Matched, models: Sequence[str], place: int, a: int, b: int, number: int
) -> dict[str, object]:
    prompt, more = matched.prompt(place)
    asked = {"id": f"{matched.ids[place]}:{number}", "prompt": prompt.turns}
    meet = {"model_a": models[a], "model_b": models[b]}
    if matched.models:
        said = {
            name: _whole(prompt, matched.response(model, place))
            for name, model in (("response_a", a), ("response_b", b))
        }
        return {**asked, **said, **meet, **more}
    blank = prompt.history + ("",) * (len(prompt.turns) - len(prompt.history))
    return {**asked, "response_a": blank, "response_b": blank, **meet, "write": "ab", **more}


def _whole(prompt: Prompt, response: Turns) -> Turns:
    """A response with the answers before it that the prompt brings along."""
    missing = len(prompt.turns) - len(response)
    return prompt.history[:missing] + response
