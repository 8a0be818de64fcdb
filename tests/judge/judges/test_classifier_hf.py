"""Checkpoints that were fine-tuned elsewhere, as judges: `hf:MODEL_OR_FOLDER`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from judge.battles import read_battles, swap  # noqa: E402
from judge.classifier.borrowed import label_order  # noqa: E402
from judge.classifier.network import build  # noqa: E402
from judge.classifier.storing import save_network  # noqa: E402
from judge.classifier.templates import load_template  # noqa: E402
from judge.classifier.tokens import BattleEncoder  # noqa: E402
from judge.errors import ArenaJudgeError  # noqa: E402
from judge.judges import load_judge  # noqa: E402
from judge.judges.classifier_settings import ClassifierSettings  # noqa: E402
from tests.finetune.tiny import FAMILIES, tiny_model  # noqa: E402

EXAMPLES = Path(__file__).parents[3] / "examples" / "battles.csv"
LENGTH = 120


@pytest.fixture(scope="module")
def battles() -> pd.DataFrame:
    return read_battles(EXAMPLES).iloc[:6]


def _said(name: Path | str, battles: pd.DataFrame, **running: Any) -> Any:
    values = {"device": ("cpu",), "dtype": "float32", "lengths": (LENGTH,), **running}
    return load_judge(f"hf:{name}", running=ClassifierSettings(**values)).predict_proba(battles)


def _theirs(folder: Path, battles: pd.DataFrame, template: str = "a-then-b") -> Any:
    """What the model says by itself of battles as they are, one by one."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = BattleEncoder(tokenizer, load_template(template), LENGTH).encode(battles)
    with torch.inference_mode():
        rows = [
            model(input_ids=torch.from_numpy(one.astype(np.int64))[None]).logits.softmax(-1)
            for one in encoded.ids
        ]
    return torch.cat(rows).double().numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_its_own_head_says_what_it_says(family: str, battles: pd.DataFrame, tmp_path: Path) -> None:
    folder = tiny_model(family, tmp_path, labels=3)
    wanted = _theirs(folder, battles)
    assert wanted.std(axis=0).max() > 5e-3
    np.testing.assert_allclose(_said(folder, battles, orders=("AB",)), wanted, atol=1e-5)
    turned = _theirs(folder, swap(battles))[:, [1, 0, 2]]
    np.testing.assert_allclose(_said(folder, battles), (wanted + turned) / 2, atol=1e-5)


def test_a_family_whose_head_nobody_knows_is_run_as_a_whole(
    battles: pd.DataFrame, tmp_path: Path
) -> None:
    from transformers import MPNetConfig, MPNetForSequenceClassification

    from tests.finetune.tiny import VOCABULARY, tiny_tokenizer

    torch.manual_seed(0)
    model = MPNetForSequenceClassification(
        MPNetConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, num_labels=3, initializer_range=0.2, pad_token_id=0,
            max_position_embeddings=512,
        )
    )  # fmt: skip
    model.save_pretrained(tmp_path)
    tiny_tokenizer("bert").save_pretrained(tmp_path)
    wanted = _theirs(tmp_path, battles)
    np.testing.assert_allclose(_said(tmp_path, battles, orders=("AB",)), wanted, atol=1e-5)


def test_how_battles_are_put_can_be_chosen(battles: pd.DataFrame, tmp_path: Path) -> None:
    folder = tiny_model("llama", tmp_path, labels=3)
    wanted = _theirs(folder, battles, "interleaved")
    found = _said(folder, battles, orders=("AB",), template="interleaved")
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    other = _said(folder, battles, orders=("AB",), policy="recent")
    assert np.abs(other - _said(folder, battles, orders=("AB",))).max() > 1e-3


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("LABEL_0", "LABEL_1", "LABEL_2"), (0, 1, 2)),
        (("winner_model_a", "winner_model_b", "winner_tie"), (0, 1, 2)),
        (("tie", "A", "B"), (1, 2, 0)),
        (("Response B", "Tie", "Response A"), (2, 0, 1)),
        (("model_b", "draw", "model_a"), (2, 0, 1)),
    ],
)
def test_classes_are_known_by_their_names(
    names: tuple[str, ...], order: tuple[int, ...], battles: pd.DataFrame, tmp_path: Path
) -> None:
    assert label_order(dict(enumerate(names)), "x") == order
    folder = tiny_model("bert", tmp_path, labels=3)
    config = folder / "config.json"
    said = json.loads(config.read_text())
    said["id2label"] = {str(place): name for place, name in enumerate(names)}
    said["label2id"] = {name: place for place, name in enumerate(names)}
    config.write_text(json.dumps(said))
    wanted = _theirs(folder, battles)[:, order]
    np.testing.assert_allclose(_said(folder, battles, orders=("AB",)), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "names",
    [
        ("entailment", "neutral", "contradiction"),
        ("A", "B", "C"),
        ("LABEL_0", "LABEL_2", "LABEL_1"),
        ("A", "A", "tie"),
    ],
)
def test_classes_that_are_something_else(names: tuple[str, ...]) -> None:
    with pytest.raises(ArenaJudgeError, match="id2label"):
        label_order(dict(enumerate(names)), "x")


# --- adapters and judge folders -------------------------------------------------------------------


def _adapter(base: Path, folder: Path, *, head: bool = True) -> Path:
    """A LoRA adapter for classifying, saved as peft saves them."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj"],
        modules_to_save=["score"] if head else None,
        init_lora_weights=False,
    )
    torch.manual_seed(1)
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "modules_to_save" in name:
                weight.normal_(0.0, 0.5)
    adapted.save_pretrained(str(folder))
    # What it says by itself, for comparison.
    merged = adapted.merge_and_unload()
    merged.save_pretrained(folder.parent / "merged")
    shutil.copy(base / "tokenizer.json", folder.parent / "merged")
    shutil.copy(base / "tokenizer_config.json", folder.parent / "merged")
    return folder


def test_an_adapter_and_its_base(battles: pd.DataFrame, tmp_path: Path) -> None:
    base = tiny_model("llama", tmp_path / "base")
    folder = _adapter(base, tmp_path / "adapter")
    wanted = _theirs(tmp_path / "merged", battles)
    np.testing.assert_allclose(_said(folder, battles, orders=("AB",)), wanted, atol=1e-5)


def test_an_adapter_without_a_head(battles: pd.DataFrame, tmp_path: Path) -> None:
    base = tiny_model("llama", tmp_path / "base")
    folder = _adapter(base, tmp_path / "adapter", head=False)
    with pytest.raises(ArenaJudgeError, match="no head for three classes"):
        _said(folder, battles)


def test_an_adapter_without_its_base(
    battles: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    base = tiny_model("llama", tmp_path / "base")
    folder = _adapter(base, tmp_path / "adapter")
    shutil.rmtree(base)
    with pytest.raises(ArenaJudgeError) as caught:
        _said(folder, battles)
    assert "\n" not in str(caught.value)


def test_a_judge_folder_is_one_too(battles: pd.DataFrame, tmp_path: Path) -> None:
    base = str(tiny_model("bert", tmp_path / "base"))
    network, tokenizer = build(base, form="single", head="symmetric", max_length=LENGTH)
    settings = save_network(network, tokenizer, tmp_path / "made")
    (tmp_path / "made" / "judge.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    running = ClassifierSettings(dtype="float32")
    wanted = load_judge(tmp_path / "made", running=running).predict_proba(battles)
    assert np.array_equal(_said(tmp_path / "made", battles, lengths=()), wanted)


# --- what is refused ------------------------------------------------------------------------------


def _refused(name: Path | str, battles: pd.DataFrame, **running: Any) -> str:
    with pytest.raises(ArenaJudgeError) as caught:
        _said(name, battles, **running)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_tells_two_classes_apart(battles: pd.DataFrame, tmp_path: Path) -> None:
    assert "2 classes" in _refused(tiny_model("bert", tmp_path, labels=2), battles)


def test_a_model_without_a_head(battles: pd.DataFrame, tmp_path: Path) -> None:
    folder = tiny_model("bert", tmp_path)
    file = folder / "config.json"
    names = {str(place): f"LABEL_{place}" for place in range(3)}
    said = json.loads(file.read_text()) | {"id2label": names}
    file.write_text(json.dumps(said))
    assert "lacks weights" in _refused(folder, battles)


def test_lengths_that_are_too_long(battles: pd.DataFrame, tmp_path: Path) -> None:
    folder = tiny_model("bert", tmp_path, labels=3)
    assert "512" in _refused(folder, battles, lengths=(64, 513))


def test_names_of_nothing(
    battles: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "names no model" in _refused("", battles)
    for name in (str(tmp_path), str(tmp_path / "none"), "nobody/nothing-at-all", "../..", "a b"):
        _refused(name, battles)


def test_another_kind_of_judge(battles: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text("kind: statistical\n", encoding="utf-8")
    assert "statistical" in _refused(tmp_path, battles)
