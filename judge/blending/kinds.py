"""A blend: a pool, and perhaps something done afterwards; and how a judge.yaml says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from judge.blending.afterwards import SelfEnsemble, TiesMoved
from judge.blending.pools import LinearPool, LogPool, Pool, Ranking
from judge.errors import ArenaJudgeError, InputError

Floats = npt.NDArray[np.float64]

SELF_ENSEMBLE, MOVE_TIES = "self-ensemble", "move-ties"


@dataclass(frozen=True)
class Blend:
    """How several judges' probabilities become one's.

    Attributes:
        method: how it was learned.
        pool: what is done with the members' probabilities.
        then: what is done to the result.
    """

    method: str
    pool: Pool
    then: SelfEnsemble | TiesMoved | None = None

    @property
    def members(self) -> int:
        """How many judges it takes."""
        return self.pool.members

    def apply(self, said: Floats) -> Floats:
        """(N, 3) from (M, N, 3) probabilities; NaN where no member judged."""
        proba = self.pool.apply(said)
        return proba if self.then is None else self.then.apply(proba)

    def settings(self) -> dict[str, object]:
        """For a judge.yaml; `blend_from_settings` reads it back to the last digit."""
        found = {"method": self.method} | self.pool.settings()
        if self.then is not None:
            name = SELF_ENSEMBLE if isinstance(self.then, SelfEnsemble) else MOVE_TIES
            found["then"] = {"option": name} | self.then.settings()
        return found


def blend_from_settings(settings: object, *, file: str | Path | None = None) -> Blend:
    """The blend that a judge.yaml has under `blend`.

    Raises:
        InputError: a name or number that cannot be.
    """
    if not isinstance(settings, Mapping):
        raise InputError("blend is no list of names and numbers", file=file)
    values = dict(settings)
    method, then = str(values.pop("method", "")), values.pop("then", None)
    try:
        pool = _made(_POOLS, values, "pool")
        return Blend(method, pool, None if then is None else _made(_OPTIONS, dict(then), "option"))
    except ArenaJudgeError as error:
        raise InputError(str(error), file=file) from None
    except (TypeError, ValueError) as error:
        raise InputError(f"blend cannot be read ({error})", file=file) from None


_Made = dict[str, tuple[Callable[..., Any], tuple[str, ...]]]
_POOLS: _Made = {
    "linear": (LinearPool, ("weights",)),
    "log": (LogPool, ("strength", "tie", "shift")),
    "ranking": (Ranking, ("order",)),
}
_OPTIONS: _Made = {
    SELF_ENSEMBLE: (SelfEnsemble, ("edges", "pull", "share")),
    MOVE_TIES: (TiesMoved, ("share",)),
}


def _made(kinds: _Made, values: dict[str, Any], key: str) -> Any:
    kind = values.pop(key, None)
    if kind not in kinds:
        raise ArenaJudgeError(f"blend: {key} is {kind!r}, not one of {', '.join(kinds)}")
    make, names = kinds[kind]
    if set(values) != set(names):
        raise ArenaJudgeError(f"blend: {kind} has {', '.join(names)} and nothing else")
    return make(**{name: _number(value, name) for name, value in values.items()})


def _number(value: Any, name: str) -> Any:
    cast = int if name == "order" else float
    return tuple(map(cast, value)) if isinstance(value, list) else cast(value)
