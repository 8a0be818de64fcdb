"""Ballots are learned, and what is written asks vLLM for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from finetune.runs.running import run
from finetune.runs.vote_judges import prepared, prompt_of
from finetune.runs.votes import Conversation, read_conversations, written
from judge.encoding import BattleText
from judge.errors import InputError
from judge.prompt_files import load_prompt
from tests.finetune.small import small
from tests.finetune.tiny import tiny_model, tiny_tokenizer

TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}"
)
BALLOT = '{"relevance": "A", "accuracy": "B"}'


def chat_model(family: str, folder: Path) -> Path:
    """A tiny model that can be asked."""
    tiny_model(family, folder, max_position_embeddings=8192)
    tokenizer = tiny_tokenizer(family)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def messages(prompt: str = "discriminator", word: str = "fox") -> list[dict[str, str]]:
    texts = BattleText((f"Which {word}?",), ("This one.",), ("That one.",))
    criterion = load_prompt(prompt).questions[0]
    asked = load_prompt(prompt).render(texts, "AB", criterion)
    said = [{"role": one.role, "content": one.content} for one in asked]
    return [*said, {"role": "assistant", "content": BALLOT}]


@pytest.fixture(scope="module")
def ballots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight battles in both orders."""
    file = tmp_path_factory.mktemp("ballots") / "chat.jsonl"
    rows = [
        {"id": str(number), "order": order, "messages": messages(word=f"fox {number}")}
        for number in range(8)
        for order in ("AB", "BA")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def config_of(ballots: Path, base: Path, **values: Any) -> Any:
    told = {
        "optimisation__objective": "votes",
        "model__max_length": 4000,
        "run__batch_tokens": 6000,
        "optimisation__step_battles": 4,
    }
    return small(ballots, base, **(told | values))


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
def test_the_loss_is_that_of_the_reply_alone(family: str, ballots: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = chat_model(family, tmp_path / "base")
    course = prepared(config_of(ballots, base, lora__lora=False, data__dev_share=0.0))
    course.objective.model.eval()
    rows = np.array([0, 3, 5])
    with torch.no_grad():
        loss, weight, _ = course.objective.loss(rows, 0)
    tokenizer = course.writer.tokenizer
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    expected, count = 0.0, 0
    for row in rows.tolist():
        said = read_conversations(ballots)[row].messages
        asked = tokenizer.apply_chat_template(
            list(said[:-1]), tokenize=False, add_generation_prompt=True
        )
        before = tokenizer(asked, add_special_tokens=False)["input_ids"]
        after = tokenizer(BALLOT + "</s>", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = plain(torch.tensor([[*before, *after]])).logits[0]
        likely = torch.log_softmax(logits[len(before) - 1 : -1].float(), -1)
        expected -= float(likely[torch.arange(len(after)), torch.tensor(after)].sum())
        count += len(after)
    assert weight == count
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_a_padded_run_and_a_packed_one_have_the_same_loss(ballots: Path, tmp_path: Path) -> None:
    base = chat_model("llama", tmp_path / "base")
    found = []
    for attention in ("packed", "padded"):
        told = {"lora__lora": False, "model__attention": attention}
        objective = prepared(config_of(ballots, base, **told)).objective
        found.append(float(objective.evaluate(torch.no_grad)))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_judge_that_writes_is_a_recipe_for_vllm(ballots: Path, tmp_path: Path) -> None:
    import yaml

    base = chat_model("llama", tmp_path / "base")
    target = tmp_path / "judges" / "writes"
    made = run(config_of(ballots, base, optimisation__epochs=4.0), target)
    assert made.outcome.dev_log_loss is not None
    curve = (target / "curve.csv").read_text().splitlines()
    first, last = (float(line.split(",")[3]) for line in (curve[1], curve[-1]))
    assert last < first
    recipe = yaml.safe_load((target / "judge.yaml").read_text())
    assert recipe["kind"] == "prompted"
    assert recipe["judge"] == "vllm:../../base"
    assert recipe["asking"] == {"prompt": "discriminator", "adapter": "adapter"}
    adapter = json.loads((target / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "../../../base"  # from where the adapter lies
    assert adapter["target_modules"] == sorted(adapter["target_modules"])
    assert adapter["task_type"] == "CAUSAL_LM"
    assert adapter["modules_to_save"] is None
    names = set(_tensors(target / "adapter" / "adapter_model.safetensors"))
    assert all(".model.layers." in name and "lora_" in name for name in names)


def test_what_the_recipe_names_is_found_from_anywhere(
    ballots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from judge.judges import prompted_settings
    from judge.judges.recipes import read_recipe

    base = chat_model("llama", tmp_path / "base")
    target = tmp_path / "writes"
    run(config_of(ballots, base, optimisation__max_steps=1), target)
    asked: list[tuple[str, Any]] = []

    class Stopped(Exception):
        pass

    def make(spec: str, settings: Any) -> Any:
        asked.append((spec, settings))
        raise Stopped

    monkeypatch.setattr(prompted_settings, "make_prompted", make)
    monkeypatch.chdir("/")
    with pytest.raises(Stopped):
        prompted_settings.PromptedRecipe.compose(read_recipe(target / "judge.yaml"))
    [(spec, settings)] = asked
    assert Path(spec.removeprefix("vllm:")).resolve() == base
    assert Path(settings.adapter).resolve() == target / "adapter"


def test_ballots_that_are_too_long_are_left_out_and_counted() -> None:
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = TEMPLATE
    short = Conversation("1", ({"role": "user", "content": "Which?"}, messages()[-1]))
    long = Conversation("2", ({"role": "user", "content": "Which? " * 500}, messages()[-1]))
    found = written([short, long], tokenizer, 300)
    assert (len(found), found.too_long) == (1, 1)
    with pytest.raises(InputError, match="raise --max-length"):
        written([long], tokenizer, 300)


# As Gemma has it, which knows no system, and Qwen, which shows a reply with a thought before it.
REFUSING = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<s>{{ message['role'] }}: {{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}"
)
THINKING = (
    "{% for message in messages %}<s>{{ message['role'] }}: "
    "{% if message['role'] == 'assistant' %}<think></think>{% endif %}"
    "{{ message['content'] | trim }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


@pytest.mark.parametrize("template", [REFUSING, THINKING])
def test_a_ballot_is_learned_right_after_what_vllm_asks(template: str) -> None:
    from judge.engines.vllm_worker import merge_system

    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = template
    said = messages()
    found = written([Conversation("1", (*said[:-1], {**said[-1], "content": f"{BALLOT}\n"}))],
                    tokenizer, 8000)  # fmt: skip
    asked = merge_system(said[:-1]) if template == REFUSING else said[:-1]
    shown = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    before = tokenizer(shown, add_special_tokens=False)["input_ids"]
    after = tokenizer(f"{BALLOT}</s>", add_special_tokens=False)["input_ids"]
    assert found.ids[0].tolist() == [*before, *after]
    assert found.asked.tolist() == [len(before)]


def test_a_model_without_a_chat_template_cannot_be_asked() -> None:
    with pytest.raises(InputError, match="no chat template"):
        written([Conversation("1", tuple(messages()))], tiny_tokenizer("llama"), 4000)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "has no messages"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "has no messages"),
        ('{"messages": [{"role": "user"}, {"role": "assistant", "content": "x"}]}', "without role"),
        (
            '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "x"}]}',
            "end",
        ),
        (
            '{"messages": [{"role": "pope", "content": "x"}, {"role": "user", "content": "x"}]}',
            "role",
        ),
    ],
)
def test_what_is_no_ballot_is_one_line_that_says_where(
    line: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(json.dumps({"messages": messages()}) + "\n" + line + "\n")
    with pytest.raises(InputError, match=rf"row 2.*{said}"):
        read_conversations(file)
    file.write_text("")
    with pytest.raises(InputError, match="has no ballots"):
        read_conversations(file)


@pytest.mark.parametrize("prompt", ["discriminator", "criterion", "annotated", "critiqued"])
def test_the_prompt_that_ballots_answer_is_known_again(prompt: str) -> None:
    assert prompt_of([Conversation("1", tuple(messages(prompt)))]) == prompt


def test_ballots_of_another_prompt_are_not_taken_for_ours() -> None:
    other = ({"role": "user", "content": "Who wins, A or B?"}, messages()[-1])
    with pytest.raises(InputError, match="none of the package's prompts"):
        prompt_of([Conversation("1", other)])


def _tensors(file: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(file))
