"""The judge that ships with the package: symmetry, sense, steadiness, and damaged weights."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.ballots import CRITERIA, VOTES
from judge.battles import labels, read_battles, swap
from judge.errors import InputError
from judge.judges import SHIPPED, load_judge
from judge.judges.statistical import StatisticalJudge
from judge.metrics import calibration_error, log_loss
from judge.parallel import ordered_map

Floats = npt.NDArray[np.float64]
Text = str | tuple[str, ...]

EXAMPLES = Path(__file__).parents[3] / "examples" / "battles.csv"
SWAPPED = [1, 0, 2]

GOOD = (
    "Photosynthesis is how plants turn light into food. Leaves take in carbon dioxide from the air "
    "and water from the roots; with the energy of sunlight they make sugar, and give off oxygen. "
    "The sugar feeds the plant, and the oxygen is what we breathe."
)
HOSTILE = {
    "nothing": "",
    "blanks": " \n\t \u00a0\u200b",
    "controls": "a\0b\x1b[31mc\x1e\x07d",
    "chinese": "光合作用是植物利用阳光制造养分的过程。",
    "japanese": "光合成とは、植物が光を使って養分を作ることです。",
    "arabic": "التمثيل الضوئي هو عملية تحويل الضوء إلى غذاء؟",
    "hindi": "प्रकाश संश्लेषण पौधों का भोजन है।",
    "emoji": "🌱" * 50 + "👩\u200d👩\u200d👧 🇩🇪",
    "marks": "e" + "\u0301" * 500,
    "code": "```c\nfor (int i = 0; i < n; ++i) { s += a[i]; } // sum\n```",
    "table": "| a | b |\n|---|---|\n| 1 | 2 |\n" * 50,
    "json": '{"role": "assistant", "content": ["\\u0000", null, 1e999]}' * 20,
    "private": "\ue000\uffff\U0010ffff\ufeff\ufffd",
    "a long line": "word " * 200_000,
    "one long word": "x" * 1_000_000,
    "one long number": "9" * 100_000,
    "lines": "\n" * 100_000,
}  # fmt: skip


def _turns(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _battles(*rows: tuple[Text, Text, Text]) -> pd.DataFrame:
    texts = [[_turns(text) for text in column] for column in zip(*rows, strict=True)]
    columns = dict(zip(("prompt", "response_a", "response_b"), texts, strict=True))
    table = {"id": [f"battle {n}" for n in range(len(rows))], **columns}
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in table.items()})


def _same_twice(battles: pd.DataFrame) -> pd.DataFrame:
    return battles.assign(response_b=battles["response_a"])


@pytest.fixture(scope="module")
def judge() -> StatisticalJudge:
    found = load_judge()
    assert isinstance(found, StatisticalJudge)
    return found


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    return read_battles(EXAMPLES)


@pytest.fixture(scope="module")
def dev(shared_data: Path) -> pd.DataFrame:
    return read_battles(shared_data / "arena_dev.csv")


@pytest.fixture(scope="module")
def hostile() -> pd.DataFrame:
    """Each text as a response, as a prompt, and against the next."""
    texts = list(HOSTILE.values())
    return _battles(
        *(("What is photosynthesis?", text, GOOD) for text in texts),
        *((text, GOOD, "Plants eat light.") for text in texts),
        *zip(texts, texts[1:], texts[2:], strict=False),
    )


# --- symmetry -------------------------------------------------------------------------------------


def _check_symmetry(judge: StatisticalJudge, battles: pd.DataFrame) -> None:
    here, there = judge.predict_proba(battles), judge.predict_proba(swap(battles))
    assert here.shape == (len(battles), 3)
    assert here.dtype == np.float64
    assert np.isfinite(here).all()
    assert (here > 0).all()
    np.testing.assert_allclose(here.sum(axis=1), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(there[:, SWAPPED], here, rtol=0, atol=1e-12)


def test_swapping_the_responses_swaps_the_examples(
    judge: StatisticalJudge, examples: pd.DataFrame
) -> None:
    _check_symmetry(judge, examples)


def test_swapping_the_responses_swaps_every_real_battle(
    judge: StatisticalJudge, dev: pd.DataFrame
) -> None:
    _check_symmetry(judge, dev)


def test_swapping_the_responses_swaps_hostile_battles(
    judge: StatisticalJudge, hostile: pd.DataFrame
) -> None:
    _check_symmetry(judge, hostile)


def test_one_huge_cell(judge: StatisticalJudge) -> None:
    huge = "One more sentence of many, many words. " * 100_000
    _check_symmetry(judge, _battles(("Go on", huge, GOOD), (huge, GOOD, "Yes."), ("q", huge, huge)))


TEXT = st.text(max_size=40) | st.sampled_from(["list\n5", ". foo", "50", "words of", GOOD, "漢字"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4))
def test_swapping_the_responses_swaps_any_battles(
    judge: StatisticalJudge, rows: list[tuple[str, str, str]]
) -> None:
    _check_symmetry(judge, _battles(*rows))


# --- sense ----------------------------------------------------------------------------------------


def test_identical_responses_are_equally_good_and_likelier_a_tie(
    judge: StatisticalJudge, examples: pd.DataFrame
) -> None:
    proba, usual = judge.predict_proba(_same_twice(examples)), judge.predict_proba(examples)
    assert np.array_equal(proba[:, 0], proba[:, 1])
    different = (examples["response_a"] != examples["response_b"]).to_numpy()
    assert (proba[different, 2] > usual[different, 2]).all()
    assert (proba[:, 2] > 1 / 3).all()


def test_identical_responses_to_real_prompts(judge: StatisticalJudge, dev: pd.DataFrame) -> None:
    proba, known = judge.predict_proba(_same_twice(dev)), labels(dev)
    assert known is not None
    assert np.array_equal(proba[:, 0], proba[:, 1])
    assert proba[:, 2].mean() > known[:, 2].mean() + 0.1
    assert (proba[:, 2] > judge.predict_proba(dev)[:, 2]).mean() > 0.97


@pytest.mark.parametrize("empty", ["", " \n", "\u200b"])
@pytest.mark.parametrize("prompt", ["What is photosynthesis?", "Explain this in 50 words.", ""])
def test_a_real_answer_beats_an_empty_one(judge: StatisticalJudge, prompt: str, empty: str) -> None:
    ((a, b, _),) = judge.predict_proba(_battles((prompt, empty, GOOD)))
    assert b > 0.6
    assert b > 3 * a


def test_real_answers_beat_empty_ones(judge: StatisticalJudge, dev: pd.DataFrame) -> None:
    answered = dev[["".join(turns).strip() != "" for turns in dev["response_a"]]]
    empty = answered["response_b"].map(lambda turns: tuple("" for _ in turns))
    proba = judge.predict_proba(answered.assign(response_b=empty))
    assert (proba[:, 0] > proba[:, 1]).mean() > 0.95
    assert proba[:, 0].mean() > 3 * proba[:, 1].mean()


def test_a_needless_refusal_loses(judge: StatisticalJudge) -> None:
    refusal = "I'm sorry, but as an AI language model I cannot help with that."
    ((a, b, _),) = judge.predict_proba(_battles(("What is photosynthesis?", refusal, GOOD)))
    assert b > 1.5 * a


def test_only_the_texts_matter(judge: StatisticalJudge, examples: pd.DataFrame) -> None:
    bare = examples[["prompt", "response_a", "response_b"]].assign(id="same")
    named = examples.assign(model_a="gpt-4", model_b="llama", winner="model_a", comment=None)
    expected = judge.predict_proba(examples)
    assert np.array_equal(judge.predict_proba(bare), expected)
    assert np.array_equal(judge.predict_proba(named), expected)


def test_real_battles_are_judged_better_than_by_chance_and_honestly(
    judge: StatisticalJudge, dev: pd.DataFrame
) -> None:
    known, proba = labels(dev), judge.predict_proba(dev)
    assert known is not None
    # Its head has seen these battles: bounds that only a broken judge misses.
    assert log_loss(known, proba) < 1.03
    assert calibration_error(known, proba) < 0.05
    assert np.abs(proba.mean(axis=0) - known.mean(axis=0)).max() < 0.03


# --- steadiness -----------------------------------------------------------------------------------


def _in_pieces(judge: StatisticalJudge, battles: pd.DataFrame, rows: int, workers: int) -> Floats:
    pieces = [battles.iloc[start : start + rows] for start in range(0, len(battles), rows)]
    return np.concatenate(list(ordered_map(judge.predict_proba, pieces, workers)))


@pytest.mark.parametrize(("rows", "workers"), [(1, 1), (7, 1), (7, 4), (1000, 2)])
def test_battles_are_judged_alike_in_any_company(
    judge: StatisticalJudge, examples: pd.DataFrame, rows: int, workers: int
) -> None:
    battles = pd.concat([examples] * 12, ignore_index=True)  # more than the judge reads at once
    expected = np.tile(judge.predict_proba(examples), (12, 1))
    found = _in_pieces(judge, battles, rows, workers)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "workers"), [(64, 1), (64, 4), (301, 2)])
def test_real_battles_are_judged_alike_in_any_company(
    judge: StatisticalJudge, dev: pd.DataFrame, rows: int, workers: int
) -> None:
    expected = judge.predict_proba(dev)
    found = _in_pieces(judge, dev, rows, workers)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    order = np.random.default_rng(5).permutation(len(dev))
    shuffled = judge.predict_proba(dev.iloc[order])
    np.testing.assert_allclose(shuffled, expected[order], rtol=0, atol=1e-12)


def test_hostile_battles_do_not_spoil_their_neighbours(
    judge: StatisticalJudge, hostile: pd.DataFrame
) -> None:
    together = judge.predict_proba(hostile)
    for place in range(len(hostile)):
        alone = judge.predict_proba(hostile.iloc[[place]])
        np.testing.assert_allclose(alone[0], together[place], rtol=0, atol=1e-12)


def test_no_battles(judge: StatisticalJudge, examples: pd.DataFrame) -> None:
    found = judge.judge(examples.iloc[:0], ballots=True)
    assert found.proba.shape == (0, 3)
    assert found.ballots is not None
    assert len(found.ballots) == 0


def test_judging_leaves_the_table_as_it_was(
    judge: StatisticalJudge, examples: pd.DataFrame
) -> None:
    before = examples.copy(deep=True)
    judge.judge(examples, ballots=True)
    judge.combined_preference_score(examples)
    judge.compare_with_human_bias(examples)
    pd.testing.assert_frame_equal(examples, before)


# --- ballots --------------------------------------------------------------------------------------


def _ballots(judge: StatisticalJudge, battles: pd.DataFrame) -> pd.DataFrame:
    found = judge.judge(battles, ballots=True)
    assert np.array_equal(found.proba, judge.predict_proba(battles))
    assert found.ballots is not None
    return found.ballots


def _distributions(ballots: pd.DataFrame) -> Floats:
    """(N, 5, 4) over `VOTES`."""
    columns = [f"{criterion}_{vote}" for criterion in CRITERIA for vote in VOTES]
    return ballots[columns].to_numpy(dtype=np.float64).reshape(len(ballots), len(CRITERIA), 4)


def _check_ballots(judge: StatisticalJudge, battles: pd.DataFrame) -> None:
    here, there = _ballots(judge, battles), _ballots(judge, swap(battles))
    votes = _distributions(here)
    assert here["id"].tolist() == battles["id"].tolist()
    assert (votes >= 0).all()
    np.testing.assert_allclose(votes.sum(axis=2), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(_distributions(there)[..., [1, 0, 2, 3]], votes, atol=1e-12)
    exchanged = {"A": "B", "B": "A", "AB": "AB", "NA": "NA"}
    for place, criterion in enumerate(CRITERIA):
        chosen = [VOTES.index(vote) for vote in here[criterion]]
        own = votes[np.arange(len(votes)), place, chosen]
        split = votes[:, place, 0] == votes[:, place, 1]
        assert (split | (own == votes[:, place].max(axis=1))).all()
        assert here[criterion].map(exchanged).tolist() == there[criterion].tolist()


def test_ballots_on_the_examples(judge: StatisticalJudge, examples: pd.DataFrame) -> None:
    _check_ballots(judge, examples)
    assert set(_ballots(judge, examples)["judge"]) == {"statistical"}


def test_ballots_on_real_battles(judge: StatisticalJudge, dev: pd.DataFrame) -> None:
    _check_ballots(judge, dev)


def test_ballots_on_hostile_battles(judge: StatisticalJudge, hostile: pd.DataFrame) -> None:
    _check_ballots(judge, hostile)


def test_votes_cannot_be_cast_exactly_where_both_are_silent(judge: StatisticalJudge) -> None:
    silent, words = (" \n", ""), ("", "Yes.")
    turns = ("q", "q")
    table = _ballots(
        judge,
        _battles(
            (turns, silent, silent),
            (turns, words, silent),
            (turns, silent, words),
            (turns, words, words),
            (("", ""), words, silent),
        ),
    )
    unsaid = (table[list(CRITERIA)] == "NA").to_numpy()
    assert unsaid[0].all()
    assert not unsaid[1:].any()
    distributions = _distributions(table)
    assert (distributions[0] == [0, 0, 0, 1]).all()
    assert (distributions[1:, :, 3] == 0).all()


def test_identical_responses_get_no_vote_for_either(
    judge: StatisticalJudge, examples: pd.DataFrame
) -> None:
    table = _ballots(judge, _same_twice(examples))
    assert set(table[list(CRITERIA)].to_numpy().ravel()) <= {"AB", "NA"}


def test_ballots_are_made_on_demand(judge: StatisticalJudge, examples: pd.DataFrame) -> None:
    assert judge.judge(examples).ballots is None
    assert dict(judge.judge(examples).reasons) == {}


# --- the two readings -----------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0, 0.25, 0.5, 1])
def test_the_combined_score_lies_between_the_responses(
    judge: StatisticalJudge, examples: pd.DataFrame, weight: float
) -> None:
    score = judge.combined_preference_score(examples, human_weight=weight)
    assert score.shape == (len(examples),)
    assert (np.abs(score) <= 1).all()
    there = judge.combined_preference_score(swap(examples), human_weight=weight)
    np.testing.assert_allclose(there, -score, rtol=0, atol=1e-12)
    same = judge.combined_preference_score(_same_twice(examples), human_weight=weight)
    assert (same == 0).all()


def test_the_combined_score_at_one_half_goes_with_the_verdict(
    judge: StatisticalJudge, examples: pd.DataFrame
) -> None:
    proba = judge.predict_proba(examples)
    score = judge.combined_preference_score(examples)
    odds = (proba[:, 0] - proba[:, 1]) / (proba[:, 0] + proba[:, 1])
    np.testing.assert_allclose(score, odds, atol=1e-9)


def test_the_weight_moves_the_score_from_one_side_to_the_other(
    judge: StatisticalJudge, examples: pd.DataFrame
) -> None:
    sides = judge.compare_with_human_bias(examples)
    scores = {w: judge.combined_preference_score(examples, human_weight=w) for w in (0, 0.5, 1)}
    assert np.array_equal(np.sign(scores[0]), np.sign(sides["logical"]))
    assert np.array_equal(np.sign(scores[1]), np.sign(sides["human"]))
    low, high = np.minimum(scores[0], scores[1]), np.maximum(scores[0], scores[1])
    assert ((low - 1e-12 <= scores[0.5]) & (scores[0.5] <= high + 1e-12)).all()


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_weight_outside_0_to_1(
    judge: StatisticalJudge, examples: pd.DataFrame, weight: float
) -> None:
    with pytest.raises(InputError, match=r"^human_weight is \S+; give a number from 0 to 1$"):
        judge.combined_preference_score(examples, human_weight=weight)


def test_the_comparison_with_human_bias(judge: StatisticalJudge, examples: pd.DataFrame) -> None:
    table = judge.compare_with_human_bias(examples)
    assert list(table.columns) == ["id", "logical", "human", "combined", "agree", "bias"]
    assert table["id"].tolist() == examples["id"].tolist()
    sides = table[["logical", "human", "combined"]].to_numpy()
    assert (np.abs(sides) <= 1).all()
    combined = judge.combined_preference_score(examples)
    np.testing.assert_allclose(table["combined"], combined, rtol=0, atol=1e-12)
    np.testing.assert_allclose(table["bias"], table["combined"] - table["logical"], atol=1e-12)
    # Log-odds add up: artanh of half of one and half of the other is artanh of both.
    logical, human = np.arctanh(table["logical"]), np.arctanh(table["human"])
    np.testing.assert_allclose(np.tanh(logical + human), table["combined"], atol=1e-9)
    agree = np.sign(table["logical"]) == np.sign(table["human"])
    assert table["agree"].tolist() == agree.tolist()
    assert 0 < table["agree"].mean() < 1


def test_the_comparison_swaps_with_the_responses(
    judge: StatisticalJudge, examples: pd.DataFrame
) -> None:
    here, there = (judge.compare_with_human_bias(b) for b in (examples, swap(examples)))
    for name in ("logical", "human", "combined", "bias"):
        np.testing.assert_allclose(there[name], -here[name], rtol=0, atol=1e-12)
    assert there["agree"].tolist() == here["agree"].tolist()


# --- the folder -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped judge."""
    return Path(shutil.copytree(SHIPPED["statistical"], tmp_path / "mine"))


def _arrays(folder: Path) -> dict[str, npt.NDArray[np.generic]]:
    with np.load(folder / "weights.npz", allow_pickle=False) as stored:
        return dict(stored)


def _store(folder: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    np.savez(folder / "weights.npz", allow_pickle=False, **arrays)


def _refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_judge(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder / "weights.npz") in message
    assert "train_statistical.py" in message
    return message


def test_a_copy_judges_like_the_original(
    judge: StatisticalJudge, examples: pd.DataFrame, folder: Path
) -> None:
    expected = judge.predict_proba(examples)
    assert np.array_equal(load_judge(folder).predict_proba(examples), expected)
    _store(folder, _arrays(folder))
    assert np.array_equal(load_judge(str(folder)).predict_proba(examples), expected)


def test_weights_that_are_not_there(folder: Path) -> None:
    (folder / "weights.npz").unlink()
    assert "not found" in _refusal(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"not weights\nat all", b"PK\x03\x04", b"\x80\x04K\x01.", b"\x93NUMPY\x01\x00"],
)
def test_weights_that_are_something_else(folder: Path, content: bytes) -> None:
    (folder / "weights.npz").write_bytes(content)
    assert "no usable weights" in _refusal(folder)


def test_weights_that_are_a_single_array_or_a_folder(folder: Path) -> None:
    file = folder / "weights.npz"
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert "no usable weights" in _refusal(folder)
    file.unlink()
    file.mkdir()
    assert "no usable weights" in _refusal(folder)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_weights_that_break_off(folder: Path, share: float) -> None:
    file = folder / "weights.npz"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    _refusal(folder)


def test_weights_with_a_changed_byte(folder: Path) -> None:
    file = folder / "weights.npz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    _refusal(folder)


class _Malice:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.file,)


def test_pickled_weights_are_refused_unread(folder: Path, tmp_path: Path) -> None:
    harm, file = tmp_path / "harm", folder / "weights.npz"
    pickled = np.array([_Malice(harm)], dtype=object)
    np.savez(file, **(_arrays(folder) | {"names": pickled}))
    _refusal(folder)
    with file.open("wb") as stream:
        np.save(stream, pickled, allow_pickle=True)
    _refusal(folder)
    assert not harm.exists()


def test_weights_without_one_of_their_arrays(folder: Path) -> None:
    arrays = _arrays(folder)
    for name in arrays:
        _store(folder, {other: a for other, a in arrays.items() if other != name})
        _refusal(folder)


def test_weights_with_one_array_cut_short(folder: Path) -> None:
    arrays = _arrays(folder)
    for name, array in arrays.items():
        # A forest of fewer roots is a forest still.
        if array.ndim and len(array) and not name.endswith(".roots"):
            _store(folder, arrays | {name: array[:-1]})
            _refusal(folder)


def test_weights_for_other_features(folder: Path) -> None:
    arrays = _arrays(folder)
    names = arrays["names"].astype("U60")
    names[3] = "relevance.charm"
    _store(folder, arrays | {"names": names})
    message = _refusal(folder)
    assert "other features" in message
    assert "relevance.charm" in message


def test_a_hostile_name_in_the_file_stays_on_one_line(folder: Path) -> None:
    content = io.BytesIO((folder / "weights.npz").read_bytes())
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("a\nb\x1b[31m.npy", b"\x93NUMPY nothing")
    (folder / "weights.npz").write_bytes(content.getvalue())
    _refusal(folder)
