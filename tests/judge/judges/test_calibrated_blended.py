"""Judges made of judges by calibrating and blending: symmetry, reasons, ballots, what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml

from judge.ballots import ballot_table
from judge.battles import swap
from judge.blending import Blend
from judge.blending.pools import LinearPool, LogPool, Ranking, equal
from judge.calibration.context import Context, fit_context
from judge.calibration.covariates import NAMES, covariates_of
from judge.calibration.isotonic import fit_isotonic
from judge.calibration.kinds import Calibrator
from judge.calibration.scaling import Scaling
from judge.errors import ArenaJudgeError, InputError
from judge.judges import load_judge
from judge.judges.base import Judge, Judgments
from judge.judges.blended import BlendedJudge
from judge.judges.calibrated import CalibratedJudge

Floats = npt.NDArray[np.float64]

HARD = Scaling("dirichlet", 0.7, -0.4, 1.2, 0.3)


class Lengths(Judge):
    """The longer response wins, as far as `gain` says; prompts that hold a word are unjudged."""

    def __init__(self, name: str, gain: float = 0.3, without: str = "\0") -> None:
        self.name = name
        self.gain = gain
        self.without = without
        self.asked: list[int] = []
        self.closed = 0
        self.fails: Exception | None = None

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        if self.fails is not None:
            raise self.fails
        self.asked.append(len(battles))
        a, b = (battles[f"response_{s}"].map(lambda t: len("".join(t))).to_numpy() for s in "ab")
        win = 0.7 / (1 + np.exp(-self.gain * (a - b)))
        proba = np.column_stack(
            [win, 0.7 / (1 + np.exp(self.gain * (a - b))), np.full(len(a), 0.3)]
        )
        silent = [n for n, p in enumerate(battles["prompt"]) if self.without in " ".join(p)]
        proba[silent] = np.nan
        table = None
        if ballots:
            shares = np.full((len(battles), 5, 4), 0.25)
            table = ballot_table(battles["id"].tolist(), self.name, shares)
        return Judgments(proba, dict.fromkeys(silent, f"no {self.without}"), table)

    def close(self) -> None:
        self.closed += 1


def _battles(words: Sequence[str] = ("", "x", "y", "x y", "", "")) -> pd.DataFrame:
    rows = [
        (f"b{n}", (f"prompt {word}",), ("a" * (n + 1),), ("b" * (4 - n % 3),))
        for n, word in enumerate(words)
    ]
    return pd.DataFrame(rows, columns=["id", "prompt", "response_a", "response_b"])


def _isotonic() -> Calibrator:
    generator = np.random.default_rng(0)
    proba = generator.dirichlet([1.0, 1.0, 1.0], 80)
    return fit_isotonic(np.eye(3)[generator.integers(0, 3, 80)], proba)


def _context() -> Context:
    generator = np.random.default_rng(1)
    proba = generator.dirichlet([1.0, 1.0, 1.0], 80)
    seen = generator.normal(size=(80, len(NAMES)))
    return fit_context(np.eye(3)[generator.integers(0, 3, 80)], proba, seen)


@pytest.mark.parametrize("calibrator", [HARD, _isotonic(), _context()])
def test_a_calibrated_judge_is_as_symmetric_as_the_judge(calibrator: Calibrator) -> None:
    inner = Lengths("length", without="x")
    judge = CalibratedJudge(inner, calibrator)
    shown = judge.predict_proba(_battles())
    np.testing.assert_allclose(
        judge.predict_proba(swap(_battles())), shown[:, [1, 0, 2]], atol=1e-12
    )
    seen = covariates_of(_battles())
    np.testing.assert_array_equal(shown, calibrator.apply(inner.predict_proba(_battles()), seen))
    assert np.isnan(shown).any(axis=1).tolist() == [n in (1, 3) for n in range(6)]


def test_a_calibrated_judge_hands_on_reasons_and_ballots() -> None:
    judge = CalibratedJudge(Lengths("length", without="x"), HARD)
    found = judge.judge(_battles(), ballots=True)
    assert found.reasons == {1: "no x", 3: "no x"}
    assert np.isnan(found.proba).any(axis=1).tolist() == [n in (1, 3) for n in range(6)]
    assert found.ballots is not None
    assert set(found.ballots["judge"]) == {"length"}
    assert judge.judge(_battles()).ballots is None
    assert judge.name == "length, calibrated"


def test_the_prior_is_calibrated_too_where_there_is_one() -> None:
    inner = Lengths("length")
    judge = CalibratedJudge(inner, HARD)
    assert judge.prior is None
    inner.prior = np.array([0.4, 0.4, 0.2])  # type: ignore[attr-defined]
    assert judge.prior is not None
    np.testing.assert_allclose(judge.prior, HARD.apply(np.array([[0.4, 0.4, 0.2]]))[0])
    looks = _context()
    found = CalibratedJudge(inner, looks).prior
    assert found is not None
    # what it says of an average battle, whose covariates say nothing
    np.testing.assert_allclose(found, looks.scaling.apply(np.array([[0.4, 0.4, 0.2]]))[0])
    assert found[0] == found[1]


BLENDS = [
    Blend("mean", equal(2)),
    Blend("stacking", LogPool((0.9, 0.3), (0.2, 0.8), 0.4)),
    Blend("best", Ranking((1, 0))),
]


@pytest.mark.parametrize("blend", BLENDS)
def test_a_blended_judge_is_as_symmetric_as_its_members(blend: Blend) -> None:
    judge = BlendedJudge([Lengths("one", without="x"), Lengths("two", 0.1, without="y")], blend)
    shown = judge.predict_proba(_battles())
    np.testing.assert_allclose(
        judge.predict_proba(swap(_battles())), shown[:, [1, 0, 2]], atol=1e-12
    )
    assert np.isnan(shown).any(axis=1).tolist() == [n == 3 for n in range(6)]


@pytest.mark.parametrize("blend", BLENDS)
def test_what_no_member_judged_says_why_of_each(blend: Blend) -> None:
    judge = BlendedJudge([Lengths("one", without="x"), Lengths("two", without="y")], blend)
    found = judge.judge(_battles())
    assert found.reasons == {3: "one: no x; two: no y"}


def test_who_left_a_battle_unjudged_leaves_it_to_the_other() -> None:
    one, two = Lengths("one", without="x"), Lengths("two", 0.1)
    said = BlendedJudge([one, two], Blend("weights", LinearPool((0.8, 0.2))))
    proba, alone = said.predict_proba(_battles()), two.predict_proba(_battles())
    np.testing.assert_allclose(proba[[1, 3]], alone[[1, 3]])
    np.testing.assert_allclose(proba[0], 0.8 * one.predict_proba(_battles())[0] + 0.2 * alone[0])


def test_where_the_best_speaks_alone_the_others_are_not_asked_for_nothing() -> None:
    one, two, three = Lengths("one"), Lengths("two", without="x"), Lengths("three")
    judge = BlendedJudge([one, two, three], Blend("best", Ranking((1, 2, 0))))
    found = judge.judge(_battles(), ballots=True)
    assert (two.asked, three.asked, one.asked) == ([6], [2], [])
    assert not np.isnan(found.proba).any()
    assert found.ballots is not None
    assert sorted(found.ballots["id"]) == ["b0", "b1", "b1", "b2", "b3", "b3", "b4", "b5"]


def test_ballots_are_those_of_all_members() -> None:
    judge = BlendedJudge([Lengths("one"), Lengths("two")], BLENDS[0])
    found = judge.judge(_battles(), ballots=True).ballots
    assert found is not None
    assert found.groupby("judge")["id"].count().to_dict() == {"one": 6, "two": 6}
    assert judge.judge(_battles()).ballots is None


def test_a_member_that_fails_fails_the_whole_and_stops_the_rest() -> None:
    one, two = Lengths("one"), Lengths("two")
    two.fails = ArenaJudgeError("the budget is spent")
    judge = BlendedJudge([one, two], BLENDS[0])
    with pytest.raises(ArenaJudgeError, match="the budget is spent"):
        judge.judge(_battles())
    assert (one.closed, two.closed) == (1, 1)


def test_a_blend_wants_as_many_judges_as_it_was_made_for() -> None:
    with pytest.raises(ArenaJudgeError, match="made for 2 judges, and 1 are named"):
        BlendedJudge([Lengths("one")], BLENDS[0])


# --- folders --------------------------------------------------------------------------------------


def _write(folder: Path, **settings: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "judge.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(folder)


def test_a_calibrated_blend_of_calibrated_judges_is_a_folder(tmp_path: Path) -> None:
    battles = _battles()
    plain = load_judge("statistical").predict_proba(battles)
    _write(tmp_path / "inner", kind="calibrated", judge="statistical", calibrator=HARD.settings())
    blend = Blend("log-mean", LogPool((0.5, 0.5), (0.5, 0.5)))
    _write(
        tmp_path / "both",
        kind="blended",
        name="two",
        judges=["../inner", "statistical"],
        blend=blend.settings(),
    )
    whole = _write(
        tmp_path / "whole", kind="calibrated", judge="../both", calibrator=_isotonic().settings()
    )
    judge = load_judge(whole)
    assert judge.name == "two, calibrated"
    assert {source.name for source in judge.sources} >= {"arena_train.parquet"}
    wanted = _isotonic().apply(blend.apply(np.stack([HARD.apply(plain), plain])))
    np.testing.assert_array_equal(judge.predict_proba(battles), wanted)
    judge.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "calibrated"}, "has the method None"),
        ({"kind": "calibrated", "calibrator": {"method": "identity"}}, "names no judge"),
        (
            {"kind": "calibrated", "judge": ".", "calibrator": {"method": "identity"}},
            "names itself",
        ),
        ({"kind": "blended", "blend": BLENDS[0].settings()}, "lists no judges"),
        (
            {"kind": "blended", "judges": ["statistical"], "blend": BLENDS[0].settings()},
            "made for 2 judges, and 1 are named",
        ),
        ({"kind": "blended", "judges": ["statistical"] * 2, "blend": 3}, "is no list"),
        (
            {"kind": "blended", "judges": ["statistical", "gone"], "blend": BLENDS[0].settings()},
            "no such judge: 'gone'",
        ),
    ],
)
def test_a_damaged_folder_is_one_line(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_judge(_write(tmp_path / "bad", **settings))
    assert "\n" not in str(caught.value)
