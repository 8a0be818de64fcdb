"""Commands with fine-tuned judges: what is said of how they are run is done, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result

pytest.importorskip("torch")
pytest.importorskip("transformers")

from judge.battles import read_battles
from judge.judges import load_judge
from judge.judges.calibrated import CalibratedJudge
from judge.judges.classifier_settings import ClassifierSettings
from judge.predictions import read_predictions
from tests.finetune.tiny import tiny_model
from tests.judge.judges.tiny_judge import SIAMESE, tiny_judge

Run = Callable[..., Result]
Write = Callable[..., str]
Floats = np.ndarray[Any, Any]

EXAMPLES = str(Path(__file__).parents[3] / "examples" / "battles.csv")
EXACT = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A causal judge that sees battles in both orders."""
    return str(tiny_judge(tmp_path_factory.mktemp("pair"), "llama", form="pair", head="plain"))


@pytest.fixture(scope="module")
def siamese(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder that sees each response by itself."""
    return str(tiny_judge(tmp_path_factory.mktemp("single"), "bert", **SIAMESE))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that came from elsewhere."""
    return f"hf:{tiny_model('bert', tmp_path_factory.mktemp('foreign'), labels=3)}"


def expected(spec: str, file: str, **running: Any) -> Floats:
    settings = ClassifierSettings(**{"device": ("cpu",), "dtype": "float32", **running})
    return load_judge(spec, running=settings).predict_proba(read_battles(file))


def predicted(file: str = "predictions.csv") -> Floats:
    return read_predictions(file).iloc[:, 1:].to_numpy(dtype=float)


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(
    ("options", "running"),
    [
        ((), {}),
        (("--lengths", "64,96"), {"lengths": (64, 96)}),
        (("--order", "ab"), {"orders": ("AB",)}),
        (("--order", "ba", "--lengths", "80"), {"orders": ("BA",), "lengths": (80,)}),
        (("--fit-context", "recent", "--lengths", "96"), {"policy": "recent", "lengths": (96,)}),
        (("--batch-tokens", "90", "--attention", "padded", "--no-share-prompt"), {}),
        (("--dtype", "bfloat16"), {"dtype": "bfloat16"}),
    ],
)
def test_what_is_said_is_done(
    run: Run, pair: str, options: tuple[str, ...], running: dict[str, Any]
) -> None:
    done(run("score", EXAMPLES, "--judge", pair, *EXACT, *options))
    near = 1e-4 if "dtype" not in running else 1e-2
    np.testing.assert_allclose(predicted(), expected(pair, EXAMPLES, **running), atol=near)
    if {"lengths", "orders"} & running.keys():
        assert np.abs(predicted() - expected(pair, EXAMPLES)).max() > 1e-3


def test_a_checkpoint_from_elsewhere_is_put_as_is_said(run: Run, foreign: str) -> None:
    done(run("score", EXAMPLES, "--judge", foreign, *EXACT, "--template", "interleaved"))
    wanted = expected(foreign, EXAMPLES, template="interleaved")
    np.testing.assert_allclose(predicted(), wanted, atol=1e-5)
    # Some of the battles have several turns.
    assert np.abs(wanted - expected(foreign, EXAMPLES)).max() > 1e-4


def test_two_devices_write_the_same_file(run: Run, pair: str) -> None:
    written = []
    for devices in (["cpu"], ["cpu", "cpu"]):
        several = [word for device in devices for word in ("--device", device)]
        options = (*several, "--dtype", "float32", "--batch-tokens", "200")
        done(run("score", EXAMPLES, "--judge", pair, *options))
        written.append(Path("predictions.csv").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--order", "ab"), "--order says nothing to made, which is the same in either order"),
        (("--template", "single"), "--template says nothing to made, which keeps the one"),
        (("--share-prompt",), "--share-prompt says nothing to made, whose model"),
        (("--fit-context", "chunks"), "--fit-context says nothing to made, which reads a battle"),
        (("--gpus", "0,1"), "--gpus says nothing to made, which takes --device"),
        (("--samples", "2"), "--samples is for judges that ask a model (endpoint:MODEL, vllm:"),
        (("--dry-run",), "--dry-run is for judges that ask a model"),
        (("--ballots", "b.csv"), "made is fine-tuned and fills in no ballots"),
        (("--device", "gpu"), "'gpu' is no device"),
        (("--lengths", "1"), "raise it to"),
        (("--lengths", "600"), "reads 512 tokens at most"),
    ],
)
def test_what_it_cannot_heed_is_refused(
    run: Run, battle_file: Write, siamese: str, options: tuple[str, ...], said: str
) -> None:
    file = battle_file()
    result = run("score", file, "--judge", siamese, "--dtype", "float32", *options)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert [one.name for one in Path().iterdir()] == [file]


def test_a_template_for_single_responses_is_none_for_a_checkpoint_from_elsewhere(
    run: Run, battle_file: Write, foreign: str
) -> None:
    result = run("score", battle_file(), "--judge", foreign, "--template", "single")
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "template single shows one response; take " in result.stderr


def test_one_of_several_that_heeds_is_enough(run: Run, pair: str, siamese: str) -> None:
    options = (*EXACT, "--order", "ab", "--lengths", "64")
    done(run("compare", EXAMPLES, "statistical", f"p={pair}", f"s={siamese}", *options))


def test_votes_cannot_be_fitted(run: Run, battle_file: Write, siamese: str) -> None:
    result = run("fit", battle_file(), "--judge", siamese, *EXACT, "-o", "made")
    assert result.exit_code == 2
    assert "fills in no ballots" in result.stderr
    assert not Path("made").exists()


def test_a_judge_made_of_it_is_run_as_it_was(run: Run, siamese: str) -> None:
    file, plain = EXAMPLES, expected(siamese, EXAMPLES)
    options = (*EXACT, "--lengths", "60", "--batch-tokens", "500")
    method = ("--method", "temperature", "--holdout-share", "0")
    done(run("calibrate", file, "--judge", siamese, *options, *method, "-o", "calibrated"))
    both = ("blend", file, siamese, "statistical", *options, "--method", "mean", "-o", "blended")
    done(run(*both))
    done(run("cascade", file, "statistical", siamese, *options, "-o", "cascade.yaml"))
    for recipe in ("calibrated/judge.yaml", "blended/judge.yaml", "cascade.yaml"):
        kept = yaml.safe_load(Path(recipe).read_text())
        assert kept["running"] == {"lengths": [60]}
        assert "asking" not in kept
    battles = read_battles(file)
    running = ClassifierSettings(device=("cpu",), dtype="float32")
    made = load_judge("calibrated", running=running)
    assert isinstance(made, CalibratedJudge)
    wanted = expected(siamese, file, lengths=(60,))
    assert np.array_equal(made.inner.predict_proba(battles), wanted)
    assert np.abs(wanted - plain).max() > 1e-3
    done(run("score", file, "--judge", "cascade.yaml", *EXACT))


def test_other_commands_take_it(run: Run, siamese: str) -> None:
    file = EXAMPLES
    done(run("leaderboard", file, "--judge", siamese, *EXACT))
    plan = ("synth", "plan", file, "--size", "5", "--by", "closeness", "--keep", "near")
    done(run(*plan, "--judge", siamese, *EXACT))
    done(
        run("score", file, "--judge", siamese, *EXACT, "--coverage", "0.8", "--coverage-from", file)
    )


@pytest.mark.parametrize(
    "command",
    [
        ("score", "{file}", "--judge", "{judge}"),
        ("compare", "{file}", "statistical", "{judge}"),
        ("leaderboard", "{file}", "--judge", "{judge}"),
        ("synth", "plan", "{file}", "--size", "5", "--keep", "near", "--judge", "{judge}"),
    ],
)
def test_progress_moves_within_a_batch(
    run: Run, pair: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("judge.cli.console.LOG_SECONDS", 0.0)
    words = [word.format(file=EXAMPLES, judge=pair) for word in command]
    said = done(run(*words, *EXACT, "--batch-tokens", "150")).stderr
    lines = [line for line in said.splitlines() if " left" in line and " of " in line]
    counts = [int(line.split(": ")[1].split(" battle")[0]) for line in lines]
    assert counts == sorted(counts)
    assert len(set(counts)) > 3
    assert counts[-1] == 24
