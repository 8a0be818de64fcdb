"""Texts to calibrate by: battles as a judge reads them, of all lengths.

    ids = judged_texts(encoder, pool, 128, seed=0)       # as a classifier reads them
    ids = asked_texts("default", tokenizer, pool, 128, seed=0)   # as one that writes is asked

Of each battle one text is drawn: one of both orders, or one of both responses. Battles are sorted
by the length of their texts and parted into as many groups as texts are wanted, and of each group
one is drawn. The order of the file and what battles are called change nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from judge.errors import InputError

if TYPE_CHECKING:
    from finetune.rows.sources import Pool
    from judge.classifier.tokens import BattleEncoder

Ids = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

# So many battles for each text are looked at.
_LOOKED_AT = 16
# Tokens of what a judge that writes is asked, in calibration.
_MOST = 2048


def judged_texts(encoder: BattleEncoder, pool: Pool, count: int, *, seed: int) -> list[Ids]:
    """Texts as a classifier reads them.

    Raises:
        InputError: there are no battles.
    """
    rng = np.random.default_rng(seed)
    some = _some(pool, count, rng)
    orders = ("AB", "BA") if encoder.template.form == "pair" else ("AB",)
    encoded = encoder.encode(some.battles, orders)
    # Both texts of a battle stand side by side.
    chosen = 2 * np.arange(len(some)) + rng.integers(2, size=len(some))
    rows = chosen[stratified(encoded.lengths[chosen], count, rng)]
    return [encoded.ids[row] for row in rows.tolist()]


def asked_texts(prompt: str, tokenizer: Any, pool: Pool, count: int, *, seed: int) -> list[Ids]:
    """What a judge that writes ballots is asked, in the words of its model's chat template.

    Raises:
        InputError: there are no battles, or the model has no such template.
    """
    from judge.classifier.loading import explained
    from judge.encoding import BattleText
    from judge.prompt_files import load_prompt

    if not getattr(tokenizer, "chat_template", None):
        raise InputError("the model has no chat template, so it cannot be asked")
    rng = np.random.default_rng(seed)
    some, words = _some(pool, count, rng), load_prompt(prompt)
    texts = []
    columns = (some.battles[name] for name in ("prompt", "response_a", "response_b"))
    for prompts, first, second in zip(*columns, strict=True):
        order = ("AB", "BA")[int(rng.integers(2))]
        criterion = words.questions[int(rng.integers(len(words.questions)))]
        battle = BattleText(tuple(prompts), tuple(first), tuple(second))
        messages = [
            {"role": one.role, "content": one.content}
            for one in words.render(battle, order, criterion)
        ]
        with explained("the model", "its chat template"):
            said = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        ids = tokenizer(said, add_special_tokens=False)["input_ids"][:_MOST]
        texts.append(np.array(ids, dtype=np.int32))
    rows = stratified(np.array([len(one) for one in texts]), count, rng)
    return [texts[row] for row in rows.tolist()]


def stratified(lengths: npt.ArrayLike, count: int, rng: np.random.Generator) -> Ints:
    """Which of N texts to take, at most `count`, one of each group of neighbours in length."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    groups = np.array_split(order, min(count, len(order)))
    return np.array([group[rng.integers(len(group))] for group in groups], dtype=np.int64)


def _some(pool: Pool, count: int, rng: np.random.Generator) -> Pool:
    """Battles to draw from, in an order that hangs on their texts alone."""
    if not len(pool):
        raise InputError("has no battles to calibrate by", file=", ".join(pool.names))
    order = np.argsort(pool.marks.battles, kind="stable")
    most = _LOOKED_AT * count
    if len(order) > most:
        order = order[np.sort(rng.choice(len(order), most, replace=False))]
    return pool.take(order)
