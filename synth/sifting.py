"""Which battles are not to be annotated, and why: each is listed, none goes in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.battles import iter_battles
from judge.comparing.marks import Hashes, Marks, battle_marks, joined
from judge.comparing.near import Kind, duplicates, find
from judge.parallel import ordered_map
from synth.surveying import Survey

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Reason(Enum):
    """Why a battle is not in a plan, in the order in which that is looked for."""

    WORDLESS = "no text"
    ALIKE = "responses alike"
    HELD_OUT = "held out"
    NEARLY_HELD_OUT = "nearly held out"
    PROMPT_HELD_OUT = "prompt held out"
    COPY = "duplicate"
    NEAR = "near-duplicate"
    PROMPT = "prompt again"


KEEP = {"no-text": Reason.WORDLESS, "alike": Reason.ALIKE, "near": Reason.NEAR}
"""What may be kept if the user says so."""

_HELD_OUT = (Reason.HELD_OUT, Reason.NEARLY_HELD_OUT, Reason.PROMPT_HELD_OUT)


@dataclass(frozen=True)
class HeldOut:
    """Battles that no plan may have.

    Attributes:
        marks: of each.
        names: what each is called, `FILE:ID`.
    """

    marks: Marks
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Sifted:
    """What became of N battles.

    Attributes:
        reasons: (N,) a `Reason` or None.
        kin: (N,) the battle that it is a copy of or has its prompt from, `FILE:ID`; "" for none.
    """

    reasons: npt.NDArray[np.object_]
    kin: npt.NDArray[np.object_]

    @property
    def left(self) -> Ints:
        """The places of those that may be drawn."""
        return np.flatnonzero(self.reasons == None)  # noqa: E711 of each cell

    @property
    def counts(self) -> dict[Reason, int]:
        """How many went for which reason."""
        counts = Counter(reason for reason in self.reasons.tolist() if reason is not None)
        return {reason: counts[reason] for reason in Reason if counts[reason]}

    def table(self, survey: Survey) -> pd.DataFrame:
        """A row a battle that is not in the plan: `source`, its `id` and its number there from 1
        (`battle`), the `reason`, and the `kin`."""
        gone = np.flatnonzero(self.reasons != None)  # noqa: E711 of each cell
        return pd.DataFrame(
            {
                "source": [survey.names[place] for place in survey.origins[gone].tolist()],
                "id": [survey.ids[place] for place in gone.tolist()],
                "battle": survey.rows[gone] + 1,
                "reason": [reason.value for reason in self.reasons[gone].tolist()],
                "kin": self.kin[gone].tolist(),
            }
        )


def held_out(file: str, *, chunk_rows: int = 1024, workers: int = 1) -> HeldOut:
    """The battles of a file, to be kept out of a plan.

    Raises:
        InputError: it cannot be read.
    """
    with closing(iter_battles(file, chunk_rows=chunk_rows, labels=False)) as batches:  # type: ignore[type-var]
        found = list(ordered_map(partial(_held, Path(file).name), batches, workers))
    return HeldOut(
        joined([marks for marks, _ in found]), tuple(name for _, names in found for name in names)
    )


def together(parts: Sequence[HeldOut]) -> HeldOut:
    """All of them as one."""
    names = tuple(name for part in parts for name in part.names)
    return HeldOut(joined([part.marks for part in parts]), names)


def _held(file: str, battles: pd.DataFrame) -> tuple[Marks, list[str]]:
    return battle_marks(battles), [f"{file}:{name}" for name in battles["id"]]


def sift(
    survey: Survey,
    keys: Hashes,
    hold: HeldOut,
    *,
    per_prompt: int | None = None,
    keep: Collection[Reason] = (),
) -> Sifted:
    """Says of each battle whether it may be drawn.

    Of battles that are copies of one another the first one stays; of those that share a prompt, the
    ones with the least keys.

    Args:
        survey: of N battles.
        keys: (N,) chance, see `synth.drawing.keys`.
        hold: battles that none may be, nearly be, or share the prompt of.
        per_prompt: how many may have one prompt; None for any number.
        keep: reasons that are none, of `KEEP`.
    """
    reasons = np.full(len(survey), None, dtype=object)
    kin = np.full(len(survey), "", dtype=object)
    if Reason.ALIKE not in keep:
        reasons[survey.alike] = Reason.ALIKE
    if Reason.WORDLESS not in keep:
        reasons[survey.wordless] = Reason.WORDLESS
    sifted = Sifted(reasons, kin)
    rest = sifted.left
    found = find(survey.marks.take(rest), hold.marks)
    for kind, reason in zip((Kind.EXACT, Kind.NEAR, Kind.PROMPT), _HELD_OUT, strict=True):
        at = np.flatnonzero(found.kinds == kind)
        reasons[rest[at]] = reason
        kin[rest[at]] = [hold.names[place] for place in found.places[at].tolist()]
    rest = sifted.left
    found = duplicates(survey.marks.take(rest))
    for kind, reason in ((Kind.EXACT, Reason.COPY), (Kind.NEAR, Reason.NEAR)):
        if reason not in keep:
            at = np.flatnonzero(found.kinds == kind)
            reasons[rest[at]] = reason
            kin[rest[at]] = [_name(survey, place) for place in rest[found.places[at]].tolist()]
    if per_prompt is not None:
        rest = sifted.left
        before, first = prompt_ranks(survey.marks.prompts[rest], keys[rest])
        at = np.flatnonzero(before >= per_prompt)
        reasons[rest[at]] = Reason.PROMPT
        kin[rest[at]] = [_name(survey, place) for place in rest[first[at]].tolist()]
    return sifted


def prompt_ranks(prompts: Hashes, keys: Hashes) -> tuple[Ints, Ints]:
    """How many battles with the same prompt have lesser keys.

    Args:
        prompts: (N,) equal where prompts are.
        keys: (N,) chance.

    Returns:
        (N,) the numbers, from 0; (N,) the place of the battle with the prompt's least key.
    """
    order = np.lexsort((keys, prompts))
    ordered = prompts[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    start = np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    ranks, first = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - start
    first[order] = order[start]
    return ranks, first


def _name(survey: Survey, place: int) -> str:
    return f"{survey.names[int(survey.origins[place])]}:{survey.ids[place]}"
