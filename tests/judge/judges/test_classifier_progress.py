"""What a fine-tuned judge tells while it judges, how it is stopped, and that neither, nor the
number of devices, changes a bit of what it says."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from judge.battles import read_battles  # noqa: E402
from judge.errors import ArenaJudgeError  # noqa: E402
from judge.judges import load_judge  # noqa: E402
from judge.judges.classifier import ClassifierJudge, _Meter  # noqa: E402
from judge.judges.classifier_settings import ClassifierSettings, as_run, to_keep  # noqa: E402
from tests.judge.judges.tiny_judge import SIAMESE, tiny_judge  # noqa: E402

EXAMPLES = Path(__file__).parents[3] / "examples" / "battles.csv"
EXACT: dict[str, Any] = {"device": ("cpu",), "dtype": "float32"}


@pytest.fixture(scope="module")
def battles() -> pd.DataFrame:
    return read_battles(EXAMPLES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("pair"), "llama", form="pair", head="plain")


@pytest.fixture(scope="module")
def siamese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("single"), "bert", **SIAMESE)


def _load(folder: Path, **running: Any) -> ClassifierJudge:
    judge = load_judge(folder, running=ClassifierSettings(**{**EXACT, **running}))
    assert isinstance(judge, ClassifierJudge)
    return judge


# --- what it tells --------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [{}, {"lengths": (64, 96)}, {"device": ("cpu", "cpu")}])
def test_it_tells_of_every_battle_once_and_on_the_way(
    folder: Path, battles: pd.DataFrame, running: dict[str, Any]
) -> None:
    judge = _load(folder, batch_tokens=200, **running)
    told: list[int] = []
    judge.tick = told.append
    proba = judge.predict_proba(battles)
    assert sum(told) == len(battles)
    assert len(told) > 3
    assert min(told) > 0
    judge.tick = None
    assert np.array_equal(judge.predict_proba(battles), proba)


def test_battles_that_say_the_same_are_told_of_too(folder: Path, battles: pd.DataFrame) -> None:
    judge = _load(folder)
    told: list[int] = []
    judge.tick = told.append
    judge.predict_proba(pd.concat([battles.iloc[:3]] * 5, ignore_index=True))
    judge.predict_proba(battles.iloc[:0])
    assert sum(told) == 15


@pytest.mark.parametrize("batches", [1, 3, 7, 1000])
@pytest.mark.parametrize("rounds", [1, 3])
def test_shares_make_whole_battles(batches: int, rounds: int) -> None:
    told: list[int] = []
    meter = _Meter(1024, rounds, told.append)
    shares = np.random.default_rng(0).dirichlet(np.ones(batches), rounds).ravel()
    for place, share in enumerate(shares.tolist(), 1):
        meter.advance(share)
        assert sum(told) <= 1024 * shares[:place].sum() / rounds + 0.01
    assert sum(told) == 1024
    assert min(told) >= 0


# --- how it is stopped ----------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [1, 2])
def test_stopped_it_ends_at_the_next_batch_in_all_threads(
    folder: Path, battles: pd.DataFrame, devices: int
) -> None:
    judge = _load(folder, batch_tokens=1, device=("cpu",) * devices)
    seen = []

    def tick(number: int) -> None:
        seen.append(number)
        judge.stop()

    judge.tick = tick
    errors: list[Exception] = []

    def ask() -> None:
        try:
            judge.predict_proba(battles)
        except ArenaJudgeError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 3
    assert all("was stopped while it judged" in str(error) for error in errors)
    assert sum(seen) < len(battles)


# --- what it heeds --------------------------------------------------------------------------------


def test_settings_that_make_no_difference_are_known(folder: Path, siamese: Path) -> None:
    pair, single = _load(folder), _load(siamese)
    for setting in ("device", "dtype", "lengths", "policy", "batch_tokens", "attention"):
        assert pair.heeds(setting)
        assert single.heeds(setting)
    for setting in ("orders", "share_prompt"):
        assert pair.heeds(setting)
        assert not single.heeds(setting)
    assert not pair.heeds("template")


def test_what_is_said_goes_before_even_where_it_is_the_default(tmp_path: Path) -> None:
    kept = {"orders": ["AB"], "dtype": "float32", "quantize": "4bit", "lengths": [64]}
    names = frozenset({"orders", "dtype", "quantize"})
    file = tmp_path / "judge.yaml"
    said = as_run(ClassifierSettings(said=names), kept, file)
    assert (said.orders, said.dtype, said.quantize) == (("AB", "BA"), "auto", None)
    assert said.lengths == (64,)
    plain = as_run(ClassifierSettings(), kept, file)
    assert (plain.orders, plain.dtype, plain.quantize) == (("AB",), "float32", "4bit")


def test_what_is_kept_for_a_judge_that_is_made_of_it(tmp_path: Path) -> None:
    settings = ClassifierSettings(
        device=("cpu",), dtype="float32", lengths=(64, 96), batch_tokens=3, policy="recent"
    )
    kept = to_keep(settings)
    assert kept == {"lengths": [64, 96], "policy": "recent"}
    again = as_run(ClassifierSettings(), kept, tmp_path / "judge.yaml")
    assert (again.lengths, again.policy, again.device) == ((64, 96), "recent", ())
    assert to_keep(ClassifierSettings(said=frozenset({"orders"}))) == {"orders": ["AB", "BA"]}
    assert to_keep(ClassifierSettings()) == {}


# --- several devices ------------------------------------------------------------------------------

_TWICE = """
import sys
import numpy as np
from judge.battles import read_battles
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
battles = read_battles(sys.argv[1]).iloc[:12]
for folder in sys.argv[2:]:
    for dtype in ("float32", "bfloat16"):
        said = []
        for devices in (1, 2):
            running = ClassifierSettings(device=("cpu",) * devices, dtype=dtype, batch_tokens=400)
            said.append(load_judge(folder, running=running).predict_proba(battles))
        assert np.array_equal(said[0], said[1]), folder
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_several_devices_say_the_same_to_the_last_bit(
    folder: Path, siamese: Path, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # the machine may be busy
    command = [sys.executable, "-c", _TWICE, str(EXAMPLES), str(folder), str(siamese)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
