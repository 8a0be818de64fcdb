"""`finetune train --auto-fit`: a config lowered until it fits the memory there is.

    found = auto_fit(config, target=Path("judges/phi3"))
    found.config, found.lines

What is lowered, and in which order, is for `arena-judge doctor` to say
(`judge.classifier.sizing.fitting`); here a config becomes what that knows, and back. Nothing of a
model but its configuration is read. A run that goes on has what it began with, however much memory
is free by now: otherwise it would be another run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.runs.making import device_of, run_of
from finetune.runs.starting import JUDGE, kind_of
from finetune.settings.config import VOTES, Config, with_values
from finetune.training.checkpoints import RUN, place_of
from finetune.training.loop import BATCH_TOKENS
from finetune.training.processes import ALONE, Processes
from judge.classifier.storing import ADAPTER_CONFIG
from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    from judge.classifier.sizing.anatomy import Anatomy
    from judge.classifier.sizing.devices import Hardware
    from judge.classifier.sizing.runs import Run

LOWERED = (
    *("run.batch_tokens", "run.checkpointing", "model.max_length", "run.fsdp"),
    *("model.quantize", "lora.r"),
)
"""What may be lowered, in the order of its being told."""
_PARTS = ("batch_tokens", "checkpointing", "max_length", "fsdp", "quantize", "lora_r")
# Where a judge that writes ballots reads no longer ones unless it is told to.
_LONGEST_BALLOT = 4096


@dataclass(frozen=True)
class Fitted:
    """A config that fits.

    Attributes:
        config: as lowered.
        lowered: what was lowered, as options of the command.
        verdict: what it takes of what there is, in words.
    """

    config: Config
    lowered: tuple[str, ...]
    verdict: str

    @property
    def lines(self) -> list[str]:
        """What there is to say."""
        nothing = [] if self.lowered else ["auto-fit: nothing had to be lowered"]
        return [
            *(f"auto-fit: {one}" for one in self.lowered),
            *nothing,
            f"auto-fit: {self.verdict}",
        ]


def auto_fit(
    config: Config,
    *,
    target: Path | None = None,
    fresh: bool = False,
    processes: Processes = ALONE,
    hardware: Hardware | None = None,
) -> Fitted:
    """The config with what has to be lowered lowered.

    Args:
        config: what is wanted.
        target: the folder that is to be written, whose unfinished run may be gone on with.
        fresh: it is not.
        processes: this one among those that train together, which come to the same.
        hardware: what there is; by default the device of the run with what it has free.

    Raises:
        ArenaJudgeError: nothing fits, or the model cannot be looked up.
    """
    from judge.classifier.sizing.fitting import NOTHING_HELPS, fit_settings, told, verdict
    from judge.classifier.sizing.memory import training_memory

    there = hardware_of(config, processes) if hardware is None else hardware
    anatomy, judge = _model(config)
    wanted = run_wanted(config, anatomy, judge, there, processes)
    begun = None if target is None or fresh else _begun(config, target)
    processes.wait()  # the first one may write there from now on
    if begun is not None:
        run = run_wanted(begun, anatomy, judge, there, processes)
        memory = training_memory(anatomy, run, there)
        return Fitted(begun, told(wanted, run), f"as the unfinished run has it; {verdict(memory)}")
    fit = fit_settings(anatomy, wanted, there)
    fixed = _own_rank(config) is not None and fit.run.lora_r != wanted.lora_r
    if not fit.memory.fits or fixed:
        raise ArenaJudgeError(
            f"{verdict(training_memory(anatomy, wanted, there))}; {NOTHING_HELPS}"
        )
    if fit.run.quantize != wanted.quantize and find_spec("bitsandbytes") is None:
        raise ArenaJudgeError(
            f"{verdict(training_memory(anatomy, wanted, there))}; --quantize {fit.run.quantize} "
            "would make it fit and needs bitsandbytes; pip install bitsandbytes"
        )
    changed = {
        path: getattr(fit.run, part)
        for path, part in zip(LOWERED, _PARTS, strict=True)
        if getattr(fit.run, part) != getattr(wanted, part)
    }
    return Fitted(with_values(config, changed), fit.steps, verdict(fit.memory))


def hardware_of(config: Config, processes: Processes = ALONE) -> Hardware:
    """The devices that a run will use, with the least that is free on any of them."""
    import torch

    from judge.classifier.sizing.devices import driven, free_memory, processor

    device = device_of(config, processes)
    if device.type == "cuda":
        with torch.cuda.device(device):
            free, whole = torch.cuda.mem_get_info()
        # Asking has made CUDA's context, which is reckoned with already.
        context = 0.6 * 2**30
        memory = _least(min(free + context, whole), processes)
        return driven(torch.cuda.get_device_name(device), processes.count, memory)
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if processes.count > 1 else 1
    memory = _least(free_memory() / beside, processes)
    return replace(processor(measure=False), count=processes.count, memory=memory)


def _least(memory: float, processes: Processes) -> float:
    """The least that any of the processes has."""
    mine = [memory if place == processes.rank else 0.0 for place in range(processes.count)]
    return min(processes.sum(*mine))


def run_wanted(
    config: Config,
    anatomy: Anatomy,
    judge: Mapping[str, Any],
    hardware: Hardware,
    processes: Processes = ALONE,
) -> Run:
    """A config as `arena-judge doctor` knows it, with what is not said as training takes it.

    Args:
        anatomy: what the model is made of.
        judge: what the judge.yaml of the judge that is gone on with says.

    Raises:
        InputError: what is asked for cannot be, or not with this model.
    """
    from judge.classifier.hardware import dtype_of
    from judge.classifier.sizing.runs import ALL, Run

    how, told = config.optimisation, config.run
    votes = how.objective == VOTES
    device = device_of(config, processes)
    form = config.model.form or judge.get("form") or "pair"
    head = config.model.head or judge.get("head")
    together = not votes and (form == "single" or head == "symmetric")
    length = config.model.max_length or judge.get("max_length") or _length(anatomy, votes=votes)
    rank = _rank(config, anatomy)
    tokens = how.step_tokens
    if how.step_battles:
        tokens = how.step_battles * length * (2 if together else 1)
    return Run(
        base=str(config.model.base or config.model.init),
        objective=how.objective,
        # Of the form memory knows only whether two sequences go together.
        form="single" if together else "pair",
        max_length=length,
        batch_tokens=told.batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"]),
        step_tokens=tokens,
        checkpointing=told.checkpointing,
        quantize=config.model.quantize,
        lora_r=rank,
        lora_targets=config.lora.targets or ALL,
        dtype=str(dtype_of(told.dtype, device, training=True)).removeprefix("torch."),
        epochs=how.epochs,
        fsdp=told.fsdp and hardware.count > 1,
        ema=bool(how.ema),
    )


def _length(anatomy: Anatomy, *, votes: bool) -> int:
    """What is read at most where nothing is said."""
    if votes:
        return min(anatomy.context or _LONGEST_BALLOT, _LONGEST_BALLOT)
    return min(anatomy.most or 1024, 1024)


def _rank(config: Config, anatomy: Anatomy) -> int:
    """The adapters' rank; 0 where all weights learn."""
    own = _own_rank(config)
    wanted = config.lora.lora
    if wanted is None:
        goes_on = config.model.init is not None and kind_of(Path(config.model.init)) == JUDGE
        by_default = own is not None if goes_on else anatomy.causal or own is not None
        votes = config.optimisation.objective == VOTES
        wanted = votes or config.model.quantize is not None or by_default
    return (own or config.lora.r) if wanted else 0


def _own_rank(config: Config) -> int | None:
    """That of the adapter that is gone on with, which stays.

    Raises:
        InputError: it cannot be read.
    """
    if config.model.init is None:
        return None
    for folder in (Path(config.model.init), Path(config.model.init) / "adapter"):
        file = folder / ADAPTER_CONFIG
        try:
            rank = json.loads(file.read_text(encoding="utf-8")).get("r")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"cannot be read ({error})", file=file) from None
        return rank if isinstance(rank, int) and rank > 0 else None
    return None


def _model(config: Config) -> tuple[Anatomy, Mapping[str, Any]]:
    """What the model is made of, and what the judge says that is gone on with.

    Raises:
        ArenaJudgeError: it cannot be looked up.
    """
    from judge.classifier.sizing.anatomy import anatomy_of
    from judge.classifier.sizing.sources import look_up

    model = config.model
    init = model.init
    name = init if init is not None and (model.base is None or _is_judge(init)) else model.base
    if name is None:
        raise InputError("training begins with a model", mend="name one: --base MODEL")
    try:
        found = look_up(name)
    except InputError:
        if os.path.exists(name):
            raise
        from judge.classifier.loading import load_config

        return anatomy_of(load_config(name).to_dict()), {}
    return found.anatomy, found.judge or {}


def _is_judge(folder: str) -> bool:
    return kind_of(Path(folder)) == JUDGE


def _begun(config: Config, target: Path) -> Config | None:
    """The config of the unfinished run that is beside a target, where nothing but what may be
    lowered is otherwise than in this one."""
    try:
        known = json.loads((place_of(target) / RUN).read_text(encoding="utf-8"))
        values = {path: _at(known, path) for path in LOWERED}
        found = with_values(config, values)
    except (OSError, ValueError, LookupError, TypeError, InputError):
        return None
    mine = json.loads(json.dumps(run_of(found)))
    del mine["learned_from"]
    known.pop("learned_from", None)
    return found if known == mine else None


def _at(tree: Mapping[str, Any], path: str) -> Any:
    section, name = path.split(".")
    return tree[section][name]
