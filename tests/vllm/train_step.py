"""A few steps of training on exported rows, in plain torch and transformers: for tests.

    .venv-vllm/bin/python tests/vllm/train_step.py FOLDER ROWS.json

ROWS.json has a list of rows by format: `preference` and `hf` battles with probabilities, `votes`
chat messages, `dpo` prompts with a chosen and a rejected message. Writes a tiny model into FOLDER,
whose tokenizer has learned from these rows, so that they are short. Prints the losses on the rows
by format as JSON: before the first step and after each. Needs torch and transformers, which are
where vLLM is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny_model import write_model
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

Rows = list[dict[str, Any]]
STEPS = 3
RATE = 3e-4
DPO_RATE = 1e-5  # the likelihoods of whole messages add up
VOCABULARY = 4096
BETA = 0.5
LABELS = ("winner_model_a", "winner_model_b", "winner_tie")
IGNORED = -100


def losses(
    model: PreTrainedModel, loss: Callable[[], torch.Tensor], rate: float = RATE
) -> list[float]:
    """The loss before each step, and after the last."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    found = []
    for _ in range(STEPS):
        value = loss()
        found.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        found.append(loss().item())
    return found


def preference(folder: str, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> list[float]:
    """A classifier learns soft labels: cross-entropy with the whole distribution."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(LABELS), pad_token_id=tokenizer.pad_token_id, dtype=torch.float32
    ).eval()
    texts = [
        "\n".join(
            f"{side}: {turn}"
            for side in ("prompt", "response_a", "response_b")
            for turn in row[side]
        )
        for row in rows
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    target = torch.tensor([[row[name] for name in LABELS] for row in rows])
    torch.testing.assert_close(target.sum(dim=1), torch.ones(len(rows)))

    def loss() -> torch.Tensor:
        return functional.cross_entropy(model(**batch).logits, target)

    return losses(model, loss)


def votes(folder: str, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> list[float]:
    """A model learns to write ballots: the next token, of the assistant's message alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = [encoded(tokenizer, row["messages"][:-1], row["messages"][-1:]) for row in rows]

    def loss() -> torch.Tensor:
        each = [
            functional.cross_entropy(
                model(tokens[None]).logits[0, :-1], marked[1:], ignore_index=IGNORED
            )
            for tokens, marked in batch
        ]
        return torch.stack(each).mean()

    return losses(model, loss)


def dpo(folder: str, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> list[float]:
    """A model learns to write the chosen message rather than the rejected one, measured against
    itself as it was (Rafailov and others 2023, "Direct Preference Optimization", equation 7)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    pairs = [
        tuple(encoded(tokenizer, row["prompt"], row[side]) for side in ("chosen", "rejected"))
        for row in rows
    ]

    def leads() -> torch.Tensor:
        """By how much each chosen message is likelier."""
        each = [[likelihood(model, *said) for said in pair] for pair in pairs]
        return torch.stack([chosen - rejected for chosen, rejected in each])

    with torch.no_grad():
        before = leads()

    def loss() -> torch.Tensor:
        return -functional.logsigmoid(BETA * (leads() - before)).mean()

    return losses(model, loss, DPO_RATE)


def encoded(
    tokenizer: PreTrainedTokenizerBase, asked: Rows, said: Rows
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of a conversation, and the same with all but the last message marked."""
    before = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*asked, *said], tokenize=False)
    assert whole.startswith(before), "the reply does not follow on what was asked"
    head = tokenizer(before, add_special_tokens=False)["input_ids"]
    tail = tokenizer(whole[len(before) :], add_special_tokens=False)["input_ids"]
    tokens = torch.tensor(head + tail)
    return tokens, torch.tensor([IGNORED] * len(head) + tail)


def likelihood(model: PreTrainedModel, tokens: torch.Tensor, marked: torch.Tensor) -> torch.Tensor:
    """The log-probability of the message that is not marked."""
    logits = model(tokens[None]).logits[0, :-1]
    return -functional.cross_entropy(logits, marked[1:], ignore_index=IGNORED, reduction="sum")


def main() -> None:
    torch.set_num_threads(1)  # the same sums each time, and no threads that wait for each other
    folder, file = sys.argv[1:]
    rows = json.loads(Path(file).read_text(encoding="utf-8"))
    texts = [json.dumps(row, ensure_ascii=False) for form in rows for row in rows[form]]
    write_model(Path(folder), texts=texts, vocabulary=VOCABULARY)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ways = {"preference": preference, "votes": votes, "dpo": dpo, "hf": preference}
    print(json.dumps({form: ways[form](folder, tokenizer, rows[form]) for form in rows}))


if __name__ == "__main__":
    main()
