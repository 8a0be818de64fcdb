"""One tree, said in a file or in options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from finetune.cli.config_options import DISTILLATION, resolved, variable
from finetune.cli.distill import distill
from finetune.cli.teach import teach
from finetune.cli.train import train
from finetune.settings.config import (
    Config,
    Leaf,
    leaves,
    read_config,
    to_tree,
    to_yaml,
    value_of,
    with_values,
)
from judge.errors import InputError

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)


def values_of(leaf: Leaf) -> st.SearchStrategy[Any]:
    """Values that a leaf can have."""
    if leaf.kind is bool:
        found: st.SearchStrategy[Any] = st.booleans()
    elif leaf.kind is tuple:
        found = st.lists(TEXT, max_size=3).map(tuple)
    elif leaf.kind is str:
        found = (
            st.sampled_from(leaf.choices) if leaf.choices else TEXT.filter(lambda t: t != "none")
        )
    else:
        low = leaf.least or 0
        high = leaf.most if leaf.most is not None else low + 1000 if leaf.below is None else 0.99
        found = st.integers(int(low), int(high)) if leaf.kind is int else st.floats(low, high)
    return found | st.none() if leaf.optional else found


@given(st.data())
def test_what_is_saved_is_read_again(data: st.DataObject) -> None:
    import tempfile

    chosen = data.draw(st.lists(st.sampled_from(leaves()), max_size=8))
    config = with_values(Config(), {leaf.path: data.draw(values_of(leaf)) for leaf in chosen})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.yaml"
        file.write_text(to_yaml(config), encoding="utf-8")
        assert read_config(file) == config


@pytest.mark.parametrize(
    ("command", "without"),
    [
        (train, ("data.battles", *DISTILLATION)),
        (teach, ("data.battles", "data.fold", *DISTILLATION)),
        (distill, ("data.battles", "data.fold")),
    ],
)
def test_every_leaf_has_an_option_with_its_words(
    command: click.Command, without: tuple[str, ...]
) -> None:
    text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    flags = [leaf.flag for leaf in leaves()]
    assert len(set(flags)) == len(flags)
    for leaf in leaves():
        if leaf.path in without:
            assert leaf.path in ("data.battles", "data.fold") or f"{leaf.flag} " not in text
            continue
        assert f"{leaf.flag} " in text
        assert leaf.about.split(";")[0].split(".  [")[0] in text.replace("- ", "-")


def test_an_option_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("optimisation:\n  lr: 2e-5\n  epochs: 3\nmodel: {base: here}\n")
    said = {"optimisation_epochs": "5", "data_extra": (), "run_checkpointing": None}
    config = resolved(str(file), said)
    assert config.optimisation.epochs == 5
    assert config.optimisation.lr == pytest.approx(2e-5)
    assert config.optimisation.warmup == Config().optimisation.warmup
    assert config.model.base == "here"
    assert resolved(str(file), {"model_base": "none"}).model.base is None


def test_a_false_option_goes_before_a_true_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("run: {tensorboard: true, checkpointing: true}")
    assert not resolved(str(file), {"run_checkpointing": False}).run.checkpointing


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimisation: {learning: 1}", "knows no optimisation.learning"),
        ("optimisation: {lrr: 1}", r"did you mean optimisation\.lr\?"),
        ("optimization: {lr: 1}", "did you mean optimisation?"),
        ("model: {lr: 1}", r"did you mean optimisation\.lr\?"),
        ("run: {batch-tokens: 3}", r"did you mean run\.batch_tokens\?"),
        ("lr: 3", r"did you mean optimisation\.lr\?"),
        ("- 1", "is no config"),
        ("run: 3", "run holds no names and values"),
        ("run: [", "is not YAML"),
        ("run: {seed: 1.5}", "run.seed is a whole number, and not 1.5"),
        ("run: {seed: -1}", "run.seed is at least 0, and not -1"),
        ("run: {seed: true}", "run.seed is a whole number, and not True"),
        ("run: {seed: null}", "run.seed cannot be empty"),
        ("run: {checkpointing: 1}", "run.checkpointing is true or false, and not 1"),
        ("optimisation: {lr: .nan}", "optimisation.lr is a number, and not nan"),
        ("optimisation: {lr: fast}", "optimisation.lr is a number, and not 'fast'"),
        ("optimisation: {clip: .inf}", "optimisation.clip is a number"),
        ("model: {form: triple}", "model.form is one of pair, single, and not 'triple'"),
        ("model: {dropout: 1}", "model.dropout is at least 0 and below 1, and not 1"),
        ("data: {extra: 3}", "data.extra is a list of texts, and not 3"),
        ("run: {seed: 1\n", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_what_cannot_be_is_one_line_that_says_the_mend(
    text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=said.replace("?", r"\?").replace(r"\\?", r"\?")) as caught:
        read_config(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("# nothing yet\nmodel:\n")
    assert read_config(file) == Config()
    with pytest.raises(InputError, match="not found"):
        read_config(tmp_path / "other.yaml")


def test_an_option_that_cannot_be_is_called_by_its_name() -> None:
    done = CliRunner().invoke(train, ["x.csv", "--lr", "fast", "-o", "j"])
    assert done.exit_code == 2
    assert "--lr is a number, and not 'fast'" in done.output


def test_the_tree_is_whole() -> None:
    tree = to_tree(Config())
    for leaf in leaves():
        section, name = leaf.path.split(".")
        found = tree[section][name]
        value = value_of(Config(), leaf.path)
        assert found == (list(value) if isinstance(value, tuple) else value)
        assert variable(leaf) == f"{section}_{name}"
        assert leaf.about.strip()
