"""The statistical judge: text features under five criteria, no model download, no key, no GPU.

The strength d of response A over response B is the sum of five criterion strengths; each is the sum
of

- a linear part: the difference of the responses' features, scaled and bounded;
- a lexical part: weights of the n-grams that only one of the responses has;
- a forest on the same differences and on the setting (what is asked, how alike the responses are),
  read in both orders and halved, which makes it antisymmetric.

The tie strength t is linear in the setting and in how far apart the responses are. What an empty
response and a repeated one are worth is learned from battles that have them. d and t give
probabilities in the Davidson form (`judge.davidson`), so swapping the responses swaps P(A) and P(B)
exactly. `scripts/train_statistical.py` makes the weights that ship, and `arena-judge finetune
statistical` those of one's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.ballots import CRITERIA, VOTES, ballot_table
from judge.davidson import probabilities
from judge.errors import InputError
from judge.features.batches import small_batches
from judge.features.extraction import Extract, extract
from judge.features.grams import PROMPT, A, B, Family, Grams
from judge.judges.base import Judge, Judgments
from judge.judges.statistical_weights import Weights, read_weights
from judge.trees import Forest

Floats = npt.NDArray[np.float64]

# Which criterion an n-gram speaks on, by its family; one that the prompt has too speaks on
# relevance.
_SPEAKS_ON = {
    Family.MARK: "clarity",
    Family.PAIR_MARK: "clarity",
    Family.TRIPLE_MARK: "clarity",
    Family.LINE: "logical_flow",
    Family.PAIR_LINE: "logical_flow",
    Family.TRIPLE_LINE: "logical_flow",
    Family.OPENING: "responsiveness",
}
_CRITERION_OF = np.array([CRITERIA.index(_SPEAKS_ON.get(f, "accuracy")) for f in Family])


@dataclass(frozen=True)
class Strengths:
    """What the judge makes of N battles before it speaks in probabilities.

    Attributes:
        criteria: (N, 5) strength of A over B by criterion, in log-odds, in the order of `CRITERIA`.
        tie: (N,) tie strength.
        silent: (N,) whether neither response says anything.
    """

    criteria: Floats
    tie: Floats
    silent: npt.NDArray[np.bool_]

    @property
    def total(self) -> Floats:
        """(N,) the strength d, the sum over the criteria."""
        return np.asarray(self.criteria.sum(axis=1))


BOUND = 4.0


def scaled_differences(found: Extract, scale: Floats) -> dict[str, Floats]:
    """For each criterion (N, k) differences A less B over their scale, bounded at 4."""
    cuts = np.cumsum([len(names) for names in found.names.values()])[:-1]
    scales = dict(zip(found.names, np.split(scale, cuts), strict=True))
    return {
        criterion: np.clip((values[0] - values[1]) / scales[criterion], -BOUND, BOUND)
        for criterion, values in found.responses.items()
    }


def buckets(hashes: npt.NDArray[np.uint64], size: int) -> npt.NDArray[np.int64]:
    """The places of n-grams in a table of `size`, a power of two: the first bits of their hash."""
    return (hashes >> np.uint64(65 - size.bit_length())).astype(np.int64)


def lexical_strengths(grams: Grams, weights: npt.NDArray[np.float32]) -> Floats:
    """(N, 5) sums of the weights of the n-grams that only one of the responses has."""
    sign = (grams.roles & A > 0).astype(np.float64) - (grams.roles & B > 0)
    one_sided = np.flatnonzero(sign)
    value = sign[one_sided] * weights[buckets(grams.hashes[one_sided], len(weights))]
    criterion = _CRITERION_OF[grams.families[one_sided]]
    criterion[grams.roles[one_sided] & PROMPT > 0] = CRITERIA.index("relevance")
    cell = grams.battle[one_sided] * len(CRITERIA) + criterion
    sums = np.bincount(cell, value, minlength=grams.battles * len(CRITERIA))
    return sums.astype(np.float64).reshape(grams.battles, len(CRITERIA))


def forest_strengths(forest: Forest, differences: Floats, context: Floats) -> Floats:
    """(N,) the forest's word on the battles less its word on the same battles swapped, halved."""
    rows = len(context)
    orders = [np.concatenate([sign * differences, context], axis=1) for sign in (1.0, -1.0)]
    read = forest.predict(np.concatenate(orders))
    return (read[:rows] - read[rows:]) / 2.0


def odd_battles(found: Extract) -> tuple[Floats, Floats]:
    """(N,) 1 where only response B is empty, -1 where only A is; and (N,) 1 where both are the
    same."""
    empty = found.responses["responsiveness"][..., found.names["responsiveness"].index("empty")]
    return empty[1] - empty[0], found.context[:, found.context_names.index("identical")]


def tie_strengths(weights: Weights, context: Floats, strength: Floats) -> Floats:
    """(N,) tie strengths from the setting (N, m) and the strength d."""
    standard = (context - weights.context_mean) / weights.context_scale
    setting = (np.clip(standard, -BOUND, BOUND) * weights.context_weight).sum(axis=1)
    return np.asarray(
        weights.tie[0] + setting + weights.tie[1] * np.sqrt(1.0 + np.square(strength))
    )


class StatisticalJudge(Judge):
    """The judge that ships with the package.

    Args:
        weights: what it has learned.
        name: how it is called in tables and ballots.
    """

    def __init__(self, weights: Weights, name: str = "statistical") -> None:
        self.weights = weights
        self.name = name

    @classmethod
    def load(cls, folder: Path) -> StatisticalJudge:
        """The judge whose `weights.npz` lies in `folder`, under the name that its recipe says.

        Raises:
            InputError: the weights are missing, damaged or of another version's features.
        """
        from judge.judges.recipes import FILE, read_recipe

        weights = read_weights(folder / "weights.npz")
        return cls(weights, read_recipe(folder / FILE).name("statistical"))

    def strengths(self, battles: pd.DataFrame) -> Strengths:
        """Criterion strengths and tie strengths of a battle table."""
        parts = [self._strengths(extract(*texts)) for texts in small_batches(battles)]
        if not parts:
            return Strengths(np.zeros((0, len(CRITERIA))), np.zeros(0), np.zeros(0, dtype=bool))
        return Strengths(
            np.concatenate([part.criteria for part in parts]),
            np.concatenate([part.tie for part in parts]),
            np.concatenate([part.silent for part in parts]),
        )

    def _strengths(self, found: Extract) -> Strengths:
        w = self.weights
        differences = scaled_differences(found, w.scale)
        cuts = np.cumsum([part.shape[1] for part in differences.values()])[:-1]
        criteria = lexical_strengths(found.grams, w.lexical)
        for place, (criterion, linear) in enumerate(
            zip(CRITERIA, np.split(w.linear, cuts), strict=True)
        ):
            criteria[:, place] += (differences[criterion] * linear).sum(axis=1)
            criteria[:, place] += forest_strengths(
                w.forests[criterion], differences[criterion], found.context
            )
        tie = tie_strengths(w, found.context, criteria.sum(axis=1))
        there, identical = odd_battles(found)
        criteria[:, CRITERIA.index("responsiveness")] += w.odd[0] * there
        tie += w.odd[1] * np.abs(there) + w.odd[2] * identical
        silent = found.context[:, found.context_names.index("both_empty")] > 0
        return Strengths(criteria, tie, silent)

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Probabilities, and on demand a ballot a battle. No battle is left unjudged."""
        found = self.strengths(battles)
        table = None
        if ballots:
            table = ballot_table(battles["id"].tolist(), self.name, self._votes(found))
        return Judgments(probabilities(found.total, found.tie), ballots=table)

    def _votes(self, found: Strengths) -> Floats:
        """(N, 5, 4) votes: what the verdict would be if the criterion spoke for all five, and NA
        where neither response says anything."""
        strength = found.criteria * self.weights.vote_scale
        tie = np.broadcast_to(found.tie[:, None], strength.shape)
        votes = np.zeros((*strength.shape, len(VOTES)))
        votes[..., :3] = probabilities(strength, tie)
        votes[found.silent] = np.eye(len(VOTES))[VOTES.index("NA")]
        return votes

    def combined_preference_score(self, battles: pd.DataFrame, human_weight: float = 0.5) -> Floats:
        """(N,) how far response A is to be preferred, from -1 (B) to 1 (A): a mix of a logical
        score, from relevance, accuracy and logical flow, and a human-preference score, from clarity
        and responsiveness, where length, style and tone speak.

        Args:
            battles: a battle table.
            human_weight: the human-preference score's share, from 0 to 1; at one half the mix
                weighs the strengths as the judge itself does.

        Raises:
            InputError: a weight outside 0 to 1.
        """
        if not 0.0 <= human_weight <= 1.0:
            raise InputError(f"human_weight is {human_weight}", mend="give a number from 0 to 1")
        logical, human = self._two_sides(battles)
        mixed = 2.0 * ((1.0 - human_weight) * logical + human_weight * human)
        return np.tanh(mixed / 2.0)

    def compare_with_human_bias(self, battles: pd.DataFrame) -> pd.DataFrame:
        """How much of each verdict is style: a table with `id`, the preference on the logical
        criteria alone (`logical`, from -1 for B to 1 for A), the preference on clarity and
        responsiveness alone (`human`), their mix (`combined`), whether both point the same way
        (`agree`), and `bias`, what the human side moves the preference by."""
        logical, human = self._two_sides(battles)
        alone, both = np.tanh(logical / 2.0), np.tanh((logical + human) / 2.0)
        return pd.DataFrame(
            {
                "id": battles["id"].tolist(),
                "logical": alone,
                "human": np.tanh(human / 2.0),
                "combined": both,
                "agree": np.sign(logical) == np.sign(human),
                "bias": both - alone,
            }
        )

    def _two_sides(self, battles: pd.DataFrame) -> tuple[Floats, Floats]:
        criteria = self.strengths(battles).criteria
        logical = [CRITERIA.index(c) for c in ("relevance", "accuracy", "logical_flow")]
        human = [CRITERIA.index(c) for c in ("clarity", "responsiveness")]
        return criteria[:, logical].sum(axis=1), criteria[:, human].sum(axis=1)
