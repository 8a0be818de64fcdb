"""Fine-tuned judges as judges: from a folder to probabilities, in any order, length and number of
devices."""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from judge.battles import read_battles, swap  # noqa: E402
from judge.blending import Blend  # noqa: E402
from judge.blending.pools import LinearPool  # noqa: E402
from judge.cli.main import cli  # noqa: E402
from judge.errors import ArenaJudgeError, InputError  # noqa: E402
from judge.judges import load_judge  # noqa: E402
from judge.judges.classifier import ClassifierJudge, softmax  # noqa: E402
from judge.judges.classifier_settings import ClassifierSettings, as_run  # noqa: E402
from tests.judge.judges.tiny_judge import tiny_judge  # noqa: E402

EXAMPLES = Path(__file__).parents[3] / "examples" / "battles.csv"
EXACT = ClassifierSettings(device=("cpu",), dtype="float32")
KINDS = {
    "cross": ("llama", {"form": "pair", "head": "plain"}),
    "siamese": ("bert", {"form": "single", "head": "symmetric", "width": 4}),
    "both orders": ("gemma2", {"form": "pair", "head": "symmetric"}),
    "padded": ("deberta-v2", {"form": "pair", "head": "plain"}),
}


@pytest.fixture(scope="module")
def battles() -> pd.DataFrame:
    return read_battles(EXAMPLES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A judge folder of each kind."""
    return {
        name: tiny_judge(tmp_path_factory.mktemp("judge"), family, **options)
        for name, (family, options) in KINDS.items()
    }


def _said(folder: Path | str, battles: pd.DataFrame, **running: Any) -> Any:
    values = {"device": ("cpu",), "dtype": "float32", **running}
    judge = load_judge(folder, running=ClassifierSettings(**values))
    try:
        return judge.predict_proba(battles)
    finally:
        judge.close()


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities(kind: str, folders: dict[str, Path], battles: pd.DataFrame) -> None:
    proba = _said(folders[kind], battles)
    assert proba.shape == (len(battles), 3)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-9)
    assert proba.std(axis=0).min() > 1e-3
    assert np.array_equal(_said(folders[kind], battles), proba)


@pytest.mark.parametrize("kind", KINDS)
def test_exchanging_the_responses_exchanges_a_and_b_to_the_last_bit(
    kind: str, folders: dict[str, Path], battles: pd.DataFrame
) -> None:
    there = _said(folders[kind], battles)
    assert np.array_equal(_said(folders[kind], swap(battles))[:, [1, 0, 2]], there)
    some = battles.copy()
    every_third = np.arange(len(battles)) % 3 == 0
    some[every_third] = swap(battles)[every_third]
    back = _said(folders[kind], some)
    back[every_third] = back[every_third][:, [1, 0, 2]]
    assert np.array_equal(back, there)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_packing_and_sharing_change_nothing(
    kind: str, folders: dict[str, Path], battles: pd.DataFrame
) -> None:
    plain = _said(folders[kind], battles, batch_tokens=1, share_prompt=False, attention="padded")
    for running in (
        {},
        {"share_prompt": True},
        {"batch_tokens": 500},
        {"device": ("cpu", "cpu"), "batch_tokens": 200},
    ):
        np.testing.assert_allclose(_said(folders[kind], battles, **running), plain, atol=1e-4)


def test_rows_come_in_the_order_of_the_table(
    folders: dict[str, Path], battles: pd.DataFrame
) -> None:
    order = np.random.default_rng(0).permutation(len(battles))
    found = _said(folders["cross"], battles.iloc[order], batch_tokens=300)
    np.testing.assert_allclose(found, _said(folders["cross"], battles)[order], atol=1e-5)


def test_both_orders_are_averaged(folders: dict[str, Path], battles: pd.DataFrame) -> None:
    ab = _said(folders["cross"], battles, orders=("AB",))
    ba = _said(folders["cross"], battles, orders=("BA",))
    both = _said(folders["cross"], battles)
    np.testing.assert_allclose(both, (ab + ba) / 2, atol=1e-6)
    assert np.abs(ab - ba).max() > 0.01
    # BA is asked with the responses exchanged, and answered about the battle as it is.
    np.testing.assert_allclose(
        ba, _said(folders["cross"], swap(battles), orders=("AB",))[:, [1, 0, 2]], atol=1e-6
    )


def test_several_lengths_are_averaged(folders: dict[str, Path], battles: pd.DataFrame) -> None:
    for kind in ("cross", "siamese"):
        short, long = (_said(folders[kind], battles, lengths=(n,)) for n in (64, 200))
        both = _said(folders[kind], battles, lengths=(64, 200))
        np.testing.assert_allclose(both, (short + long) / 2, atol=1e-6)
        assert np.abs(short - long).max() > 1e-3


def test_a_symmetric_head_has_no_use_for_orders(
    folders: dict[str, Path], battles: pd.DataFrame
) -> None:
    assert np.array_equal(
        _said(folders["both orders"], battles, orders=("AB",)),
        _said(folders["both orders"], battles),
    )


def test_texts_without_a_word_and_very_long_ones(folders: dict[str, Path]) -> None:
    texts = ["", "ok", "\x00\ud800", "🙂" * 50, "word " * 20_000]
    rows = [((p,), (a,), (b,)) for p in texts for a in texts for b in texts]
    table = pd.DataFrame(rows, columns=["prompt", "response_a", "response_b"])
    table.insert(0, "id", [str(row) for row in range(len(table))])
    same = (table["response_a"] == table["response_b"]).to_numpy()
    for kind in ("cross", "siamese"):
        proba = _said(folders[kind], table, lengths=(96,))
        assert np.isfinite(proba).all()
        assert (proba[same, 0] == proba[same, 1]).all()  # nobody wins against itself


def test_tables_of_no_and_of_one_battle(folders: dict[str, Path], battles: pd.DataFrame) -> None:
    with_all = _said(folders["cross"], battles)
    assert _said(folders["cross"], battles.iloc[:0]).shape == (0, 3)
    one = _said(folders["cross"], battles.iloc[[5]])
    np.testing.assert_allclose(one, with_all[[5]], atol=1e-5)


def test_tables_longer_than_what_is_read_ahead(
    folders: dict[str, Path], battles: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = _said(folders["siamese"], battles)
    monkeypatch.setattr("judge.judges.classifier._BATTLES", 5)
    np.testing.assert_allclose(_said(folders["siamese"], battles), wanted, atol=1e-5)


def test_several_threads_may_ask(folders: dict[str, Path], battles: pd.DataFrame) -> None:
    judge = load_judge(folders["cross"], running=EXACT)
    wanted = judge.predict_proba(battles)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(judge.predict_proba(battles)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(one, wanted) for one in found)


def test_a_network_without_a_number_leaves_battles_unjudged(
    folders: dict[str, Path], battles: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = load_judge(folders["cross"], running=EXACT)
    assert isinstance(judge, ClassifierJudge)
    assert judge._runner is not None
    true = judge._runner.logits

    def logits(encoded: Any, tick: Any) -> Any:
        found = true(encoded, tick)
        found[4, 1], found[9, 0] = np.nan, np.inf
        return found

    monkeypatch.setattr(judge._runner, "logits", logits)
    said = judge.judge(battles)
    assert np.flatnonzero(np.isnan(said.proba).all(axis=1)).tolist() == [2, 4]
    assert np.isfinite(said.proba[[0, 1, 3]]).all()
    assert set(said.reasons) == {2, 4}


def test_softmax_is_of_the_davidson_form() -> None:
    logits = np.array([[900.0, -900.0, 0.0], [1.0, 2.0, 3.0], [np.nan, 0.0, 0.0]])
    found = softmax(logits)
    np.testing.assert_allclose(found[0], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(found[1].sum(), 1.0)
    assert np.isnan(found[2]).all()
    assert np.array_equal(softmax(logits[:, [1, 0, 2]])[:2, [1, 0, 2]], found[:2])


def test_a_closed_judge_judges_no_more(folders: dict[str, Path], battles: pd.DataFrame) -> None:
    judge = load_judge(folders["cross"], running=EXACT)
    judge.close()
    with pytest.raises(RuntimeError, match="closed"):
        judge.predict_proba(battles)


def test_loading_asks_no_server(
    folders: dict[str, Path], battles: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    for folder in folders.values():
        assert np.isfinite(_said(folder, battles.iloc[:2])).all()


# --- what a judge.yaml says -----------------------------------------------------------------------


def _with(folder: Path, place: Path, **settings: Any) -> Path:
    """A copy of a judge folder whose judge.yaml says more."""
    import shutil

    shutil.copytree(folder, place)
    said = yaml.safe_load((place / "judge.yaml").read_text(encoding="utf-8"))
    (place / "judge.yaml").write_text(yaml.safe_dump(said | settings), encoding="utf-8")
    return place


def test_a_judge_says_how_it_is_run_and_the_user_goes_before(
    folders: dict[str, Path], battles: pd.DataFrame, tmp_path: Path
) -> None:
    folder = _with(
        folders["cross"], tmp_path / "j", name="two lengths", running={"lengths": [64, 96]}
    )
    assert load_judge(folder, running=EXACT).name == "two lengths"
    assert np.array_equal(
        _said(folder, battles), _said(folders["cross"], battles, lengths=(64, 96))
    )
    assert np.array_equal(
        _said(folder, battles, lengths=(80,)), _said(folders["cross"], battles, lengths=(80,))
    )


@pytest.mark.parametrize(
    "running",
    [
        3,
        {"length": [64]},
        {"lengths": 64},
        {"lengths": ["64"]},
        {"lengths": [64, 64]},
        {"lengths": [True]},
        {"orders": ["AB", "CD"]},
        {"orders": []},
        {"dtype": 16},
        {"share_prompt": 1},
        {"batch_tokens": True},
        {"batch_tokens": 0},
    ],
)
def test_settings_that_cannot_be(running: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"judge\.yaml"):
        as_run(ClassifierSettings(), running, tmp_path / "judge.yaml")


def test_judges_made_of_fine_tuned_ones(
    folders: dict[str, Path], battles: pd.DataFrame, tmp_path: Path
) -> None:
    recipe = tmp_path / "both.yaml"
    members = [str(folders["cross"]), str(folders["siamese"])]
    blend = Blend("mean", LinearPool((0.5, 0.5))).settings()
    settings = {"kind": "blended", "judges": members, "blend": blend}
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
    judge = load_judge(recipe, running=ClassifierSettings(dtype="float32", lengths=(64,)))
    parts = [_said(folder, battles, lengths=(64,)) for folder in members]
    np.testing.assert_allclose(judge.predict_proba(battles), np.mean(parts, axis=0), atol=1e-6)


def test_a_recipe_that_names_a_judge_folder(
    folders: dict[str, Path], battles: pd.DataFrame, tmp_path: Path
) -> None:
    recipe = tmp_path / "short.yaml"
    settings = {
        "kind": "classifier",
        "model": str(folders["cross"]),
        "running": {"lengths": [64]},
    }
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert load_judge(recipe, running=EXACT).name == "short"
    assert np.array_equal(_said(recipe, battles), _said(folders["cross"], battles, lengths=(64,)))


# --- from the command line ------------------------------------------------------------------------


def test_score(folders: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "p.csv"
    arguments = ["score", str(EXAMPLES), "--judge", str(folders["siamese"]), "-o", str(output)]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["battles"] == 24
    found = pd.read_csv(output)
    assert list(found.columns) == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    np.testing.assert_allclose(found.iloc[:, 1:].sum(axis=1), 1.0, atol=1e-9)


def test_no_ballots(folders: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["score", str(EXAMPLES), "--judge", str(folders["siamese"])]
    files = ["-o", str(tmp_path / "p.csv"), "--ballots", str(tmp_path / "b.csv")]
    result = CliRunner().invoke(cli, [*arguments, *files])
    assert result.exit_code == 2
    assert "fills in no ballots" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_packages_one_line_says_what_to_install(
    missing: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    true = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *rest: None if name == missing else true(name, *rest)
    )
    for spec in (str(folders["cross"]), f"hf:{folders['cross'].parent / 'base'}"):
        with pytest.raises(ArenaJudgeError, match=r"pip install 'arena-judge\[finetune\]'"):
            load_judge(spec)


def test_asking_for_help_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys; import judge.judges; import judge.cli.main; import judge.cli.score;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
