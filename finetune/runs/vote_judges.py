"""A judge that writes ballots, from its config to its folder: a recipe for the prompted judge,
which asks the base through vLLM, and the LoRA adapter beside it (or, where all weights learned,
the model)."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from finetune.measuring.scoring import Score
from finetune.runs.making import Made, device_of, opened, run_of
from finetune.settings import config as configs
from finetune.settings.config import Config
from finetune.training.processes import ALONE, Processes
from judge.errors import InputError

if TYPE_CHECKING:
    from finetune.runs.votes import Ballots, Conversation, Writer, Written
    from finetune.training.checkpoints import Checkpoints
    from finetune.training.loop import Watcher
    from judge.prompting import Prompt

ADAPTER, MODEL = "adapter", "model"


@dataclass(frozen=True)
class Course:
    """What a run works on: the model, and ballots as it reads them."""

    writer: Writer
    objective: Ballots
    prompt: str
    dev: int
    digest: bytes
    notes: tuple[str, ...]


def prepared(config: Config, processes: Processes = ALONE) -> Course:
    """What a config asks for.

    Raises:
        ArenaJudgeError: it cannot be had.
    """
    from finetune.runs.votes import Ballots, load_writer, parted, read_conversations, written

    for name, what in (("extra", "--extra"), ("held_out", "--held-out")):
        if getattr(config.data, name):
            raise InputError(f"{what} is for battles, and --objective votes learns from ballots")
    if config.run.fsdp:
        raise InputError("--fsdp is for judges that say who won", mend="leave it out")
    if config.model.form or config.model.head:
        raise InputError("a judge that writes ballots has no form and no head")
    if config.lora.lora is not False:
        _runs_on_vllm(config.lora.dora, config.lora.r)
    said = read_conversations(str(config.data.battles))
    writer = load_writer(config, device_of(config, processes))
    for one in getattr(writer.model, "peft_config", {}).values():  # that training goes on with
        _runs_on_vllm(one.use_dora, one.r)
    rows = written(said, writer.tokenizer, writer.max_length)
    notes = []
    if rows.too_long:
        notes.append(
            f"{rows.too_long:,} of {len(said):,} ballots have more than {writer.max_length:,} "
            "tokens and are left out"
        )
    train: Written
    dev: Written | None
    if config.data.dev is not None:
        kept = read_conversations(config.data.dev)
        train, dev = rows, written(kept, writer.tokenizer, writer.max_length)
    else:
        train, dev = parted(rows, config.data.dev_share, config.run.seed)
    objective = Ballots(
        writer.model,
        train,
        dev,
        packed=writer.packed,
        batch_tokens=config.run.batch_tokens or 4096,
    )
    digest = hashlib.sha256(b"".join(one.tobytes() for one in train.ids)).digest()
    held = 0 if dev is None else len(dev)
    return Course(writer, objective, prompt_of(said), held, digest, tuple(notes))


def _runs_on_vllm(dora: bool, rank: int) -> None:
    """Sees to it before the training, and not after it, that vLLM will take the adapter.

    Raises:
        InputError: it will not.
    """
    from judge.engines.adapters import LONGEST_RANK

    if dora:
        what = "vLLM runs no DoRA, and such a judge is asked through it"
        raise InputError(what, mend="leave out --dora")
    if rank > LONGEST_RANK:
        what = f"vLLM runs adapters of rank {LONGEST_RANK} at most, and not {rank}"
        raise InputError(what, mend="lower --lora-r")


def make_writer(
    config: Config,
    target: Path,
    *,
    processes: Processes = ALONE,
    watch: Watcher | None = None,
    fresh: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """Trains a judge that writes ballots, and writes its folder; see
    `finetune.runs.making.make`."""
    from finetune.training.checkpoints import place_of
    from finetune.training.loop import fit

    course = prepared(config, processes)
    say(f"{len(course.objective.lengths):,} ballots to learn from, {course.dev:,} to choose by")
    run = run_of(config, course.digest)
    checkpoints = opened(place_of(target), run, fresh=fresh, processes=processes)
    before = checkpoints.latest()
    if before is not None and processes.first:
        say(f"goes on after step {before.step:,}, from {checkpoints.folder}")
    outcome = fit(course.objective, config, checkpoints, processes=processes, watch=watch)
    scores: tuple[Score, ...] = ()
    if outcome.dev_log_loss is not None:
        nan = float("nan")
        scores = (Score("dev, a token", course.dev, outcome.dev_log_loss, nan, nan, nan),)
    weights = list(course.writer.model.parameters())
    made = Made(
        folder=target,
        outcome=outcome,
        scores=scores,
        parameters=sum(one.numel() for one in weights),
        learning=sum(one.numel() for one in weights if one.requires_grad),
        notes=course.notes,
    )
    if processes.first:
        _write(config, course, made, checkpoints)
        checkpoints.remove()
    processes.wait()
    return made


def prompt_of(conversations: Sequence[Conversation]) -> str:
    """Which of the package's prompts ballots answer: the one all of whose lines they have that it
    has for every battle.

    Raises:
        InputError: none is.
    """
    from judge.prompt_files import load_prompt, own_prompts

    said = {line for one in conversations[0].messages[:-1] for line in one["content"].splitlines()}
    found: list[tuple[int, str]] = []
    for name in own_prompts():
        prompt = load_prompt(name)
        for criterion in prompt.questions:
            one, other = (_asked(prompt, criterion, text) for text in ("one", "other"))
            if one & other <= said:
                found.append((len(one & other), name))
    if not found:
        raise InputError("the ballots answer none of the package's prompts")
    return max(found)[1]


def _asked(prompt: Prompt, criterion: str | None, text: str) -> set[str]:
    """The lines of a prompt about a battle."""
    from judge.encoding import BattleText

    battle = BattleText((text,), (text,), (text,))
    messages = prompt.render(battle, "AB", criterion, text if prompt.reference else None)
    return {line for one in messages for line in one.content.splitlines()}


def _write(config: Config, course: Course, made: Made, checkpoints: Checkpoints) -> None:
    """The judge folder."""
    import yaml

    from finetune.runs.making import provenance
    from finetune.training.curves import FILE
    from judge.classifier.loading import quiet
    from judge.files.folders import written_folder
    from judge.judges.recipes import FILE as RECIPE
    from judge.judges.recipes import plain

    with written_folder(made.folder) as folder:
        model: Any = course.writer.model
        adapted = hasattr(model, "peft_config")
        base = course.writer.base
        named = os.path.relpath(base, folder) if os.path.isdir(base) else base
        with quiet():
            if adapted:
                there = os.path.relpath(base, folder / ADAPTER) if os.path.isdir(base) else base
                for one in model.peft_config.values():
                    one.base_model_name_or_path = there
                    # A set otherwise, written in an order of chance: the same training would come
                    # out as other files, and what the ledger holds of it would not be found.
                    one.target_modules = sorted(one.target_modules)
                model.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
                (folder / ADAPTER / "README.md").unlink(missing_ok=True)
            else:
                model.save_pretrained(folder / MODEL)
                cast(Any, course.writer.tokenizer).save_pretrained(folder / MODEL)
        settings: dict[str, Any] = {"kind": "prompted", "name": config.run.name}
        if config.run.name is None:
            del settings["name"]
        settings["judge"] = f"vllm:{named if adapted else MODEL}"
        settings["asking"] = {"prompt": course.prompt, **({"adapter": ADAPTER} if adapted else {})}
        settings |= provenance(config, made, len(course.objective.lengths))
        text = yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=100)
        (folder / RECIPE).write_text(text, encoding="utf-8")
        (folder / configs.FILE).write_text(configs.to_yaml(config), encoding="utf-8")
        shutil.copy(checkpoints.folder / FILE, folder / FILE)
