"""Ways to make one judgment of several.

Each takes (M, N, 3) probabilities of M members and gives (N, 3). A member that left a battle
unjudged, a NaN row, has no weight there and the others share its weight in proportion; where those
who judged have none, they count alike. What no member judged stays unjudged. All are symmetric: if
A and B are exchanged by every member, they are exchanged in the result.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from judge.davidson import probabilities
from judge.errors import ArenaJudgeError
from judge.loglinear import FLOOR, coordinates

Floats = npt.NDArray[np.float64]

_MOST = 20.0
_FULL = 1e-9
_NOTHING = 1e-9


def _weights(values: tuple[float, ...], what: str, most: float = _MOST) -> None:
    found = np.array(values, dtype=np.float64)
    if len(found) == 0 or not (np.isfinite(found) & (found >= 0) & (found <= most)).all():
        raise ArenaJudgeError(f"blend: {what} are no numbers from 0 to {most:g}, one a judge")


def shared(weights: npt.ArrayLike, said: Floats) -> Floats:
    """(M, N) the members' weights for each battle: nothing for those who left it unjudged, and
    what they would have had goes to the others in proportion."""
    given = np.asarray(weights, dtype=np.float64)[:, None]
    judged = ~np.isnan(said).any(axis=2)
    there = given * judged
    total, wanted = there.sum(axis=0), given.sum()
    alike = judged / np.maximum(judged.sum(axis=0), 1) * wanted
    some = total > _NOTHING * wanted
    scale = np.divide(wanted, total, where=some, out=np.zeros_like(total))
    return np.asarray(np.where(some, there * scale, alike))


def _total(weights: Floats, values: Floats) -> Floats:
    """(N,) weighted sums of (M, N) values over those who judged."""
    return np.asarray(np.where(weights > 0, weights * np.nan_to_num(values), 0.0).sum(axis=0))


def _silent(said: Floats) -> npt.NDArray[np.bool_]:
    """(N,) what no member judged."""
    return np.asarray(np.isnan(said).any(axis=2).all(axis=0))


@dataclass(frozen=True)
class LinearPool:
    """The weighted mean of the probabilities.

    Attributes:
        weights: (M,), 1 together.
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _weights(self.weights, "weights", 1.0)
        if abs(sum(self.weights) - 1.0) > _FULL:
            raise ArenaJudgeError(f"blend: weights sum to {sum(self.weights):.10g}, not to 1")

    @property
    def members(self) -> int:
        return len(self.weights)

    def apply(self, said: Floats) -> Floats:
        """(N, 3) from (M, N, 3)."""
        weights = shared(self.weights, said)
        known = np.maximum(said, FLOOR)  # what all call impossible is none the less not
        sums = np.stack([_total(weights, known[..., c]) for c in range(3)], axis=-1)
        total = (sums[:, 0] + sums[:, 1]) + sums[:, 2]
        found: Floats = sums / np.where(_silent(said), np.nan, total)[:, None]
        return found

    def settings(self) -> dict[str, object]:
        """For a judge.yaml."""
        return {"pool": "linear", "weights": list(self.weights)}


@dataclass(frozen=True)
class LogPool:
    """Sums in log-probability space: with d and s of each member as in `judge.loglinear`,

        d' = sum of strength d          s' = sum of tie s + shift

    so that the members' weights are not negative, need not sum to 1 (several judges that say the
    same make each other surer) and may differ between the sides and the tie.

    Attributes:
        strength, tie: (M,) weights.
        shift: what is added for the tie.
    """

    strength: tuple[float, ...]
    tie: tuple[float, ...]
    shift: float = 0.0

    def __post_init__(self) -> None:
        _weights(self.strength, "strength")
        _weights(self.tie, "tie")
        if len(self.strength) != len(self.tie) or not abs(self.shift) <= _MOST:
            raise ArenaJudgeError("blend: strength and tie have one number a judge, shift is small")

    @property
    def members(self) -> int:
        return len(self.strength)

    def apply(self, said: Floats) -> Floats:
        """(N, 3) from (M, N, 3)."""
        d, s = coordinates(said)
        strength = _total(shared(self.strength, said), d)
        tie = _total(shared(self.tie, said), s) + self.shift
        bound = _MOST**2  # nothing is made impossible
        proba = probabilities(np.clip(strength, -bound, bound), np.clip(tie, -bound, bound))
        return np.where(_silent(said)[:, None], np.nan, proba)

    def settings(self) -> dict[str, object]:
        """For a judge.yaml."""
        stated = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return {"pool": "log"} | stated


@dataclass(frozen=True)
class Ranking:
    """What the best member says; of what it left unjudged what the next best says.

    Attributes:
        order: the members' numbers, the best first.
    """

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))) or not self.order:
            raise ArenaJudgeError("blend: order does not name each judge once, by number from 0")

    @property
    def members(self) -> int:
        return len(self.order)

    def apply(self, said: Floats) -> Floats:
        """(N, 3) from (M, N, 3)."""
        found = np.full(said.shape[1:], np.nan)
        for member in self.order:
            missing = np.isnan(found).any(axis=1)
            found[missing] = said[member, missing]
        return found

    def settings(self) -> dict[str, object]:
        """For a judge.yaml."""
        return {"pool": "ranking", "order": list(self.order)}


Pool = LinearPool | LogPool | Ranking


def equal(members: int) -> LinearPool:
    """The plain mean of the probabilities."""
    return LinearPool((1.0 / members,) * members)


def equal_logs(members: int) -> LogPool:
    """The plain mean of the log-probabilities, scaled to sum to 1."""
    return LogPool((1.0 / members,) * members, (1.0 / members,) * members)
