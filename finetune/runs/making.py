"""A run of training from its config to the judge folder.

    made = make(config)

The folder appears whole at the end; what is unfinished lies beside it (see
`finetune.training.checkpoints`), so that the same command goes on after a kill.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finetune.measuring.labelled import Measured
from finetune.measuring.scoring import OUT_OF_FOLD, Score, score
from finetune.runs.preparing import Battles, encoder_of, examples, measuring_tokens
from finetune.settings import config as configs
from finetune.settings.config import Config
from finetune.training.checkpoints import Checkpoints, place_of
from finetune.training.processes import ALONE, Processes
from judge.battles import ID

if TYPE_CHECKING:
    import torch

    from finetune.runs.starting import Start
    from finetune.training.loop import Outcome, Watcher

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Made:
    """A judge that was made.

    Attributes:
        folder: where it is.
        outcome: what training came to.
        scores: on the dev battles, whose best step was chosen by them, and on held-out ones.
        parameters: of the network; `learning` of them learned.
        notes: what there is to say besides.
        out_of_fold: (N, 3) probabilities of the its fold's battles; None if it was not asked.
    """

    folder: Path
    outcome: Outcome
    scores: tuple[Score, ...]
    parameters: int
    learning: int
    notes: tuple[str, ...]
    out_of_fold: Floats | None = None


def told_of(config: Config) -> dict[str, Any]:
    """All of a config that weights depend on."""
    tree = configs.to_tree(config)
    for name in ("output", "name", "device", "tensorboard"):
        del tree["run"][name]
    if config.data.folds is None:
        del tree["data"]["folds"], tree["data"]["fold"]
    del tree["data"]["measure_fold"]
    if not config.distillation.teacher:
        del tree["distillation"]
    return tree


def run_of(config: Config, *hashed: bytes) -> dict[str, Any]:
    """What makes a run this one: all that its weights depend on."""
    tree = told_of(config)
    digest = hashlib.sha256()
    for part in (str(beginning_of(config)).encode(), *hashed):
        digest.update(hashlib.sha256(part).digest())
    return {**tree, "learned_from": digest.hexdigest()[:16]}


def _learned_from(battles: Battles) -> Iterator[bytes]:
    """What is learned from, and what the best step is chosen on."""
    train, dev = battles.train, battles.dev
    yield from (train.seen.marks.battles.tobytes(), train.labels.tobytes())
    yield train.weights.tobytes()
    if dev is not None:
        yield from ("\0".join(dev.battles[ID]).encode(), dev.labels.tobytes())
    if battles.teachers is not None:
        yield battles.teachers.values.tobytes()


def beginning_of(config: Config) -> str | None:
    """By what the weights are known that a run begins with; None for those from the hub."""
    from judge.provenance import weights_fingerprint

    named = config.model.init or config.model.base
    return weights_fingerprint(Path(named)) if named and Path(named).is_dir() else None


def make(
    config: Config,
    battles: Battles,
    start: Start,
    target: Path,
    *,
    processes: Processes = ALONE,
    watch: Watcher | None = None,
    fresh: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """Trains a judge and writes its folder.

    Args:
        config: what it is told, without what is unsaid.
        battles: what it learns from.
        start: the network that it begins with.
        target: the folder to write.
        processes: this one among those that train together.
        watch: is told of every step.
        fresh: leave what an unfinished run has done.
        say: takes what there is to say meanwhile.

    Raises:
        ArenaJudgeError: what is asked for cannot be had.
    """
    from finetune.runs.preparing import objective_of
    from finetune.training.loop import fit
    from finetune.training.optimising import trained
    from finetune.training.sharding import shard, whole
    from judge.classifier.hardware import dtype_of

    if config.run.fsdp:
        dtype = dtype_of(config.run.dtype, start.network.device, training=True)
        shard(start.network, processes, dtype=dtype)
    objective = objective_of(config, start, battles)
    run = run_of(config, *_learned_from(battles))
    checkpoints = opened(place_of(target), run, fresh=fresh, processes=processes)
    before = checkpoints.latest()
    if before is not None and processes.first:
        say(f"goes on after step {before.step:,}, from {checkpoints.folder}")
    outcome = fit(objective, config, checkpoints, processes=processes, watch=watch)
    measured = _measured(config, start, battles, processes)
    network = start.network
    made = Made(
        folder=target,
        outcome=outcome,
        scores=tuple(score(one, proba, config.run.seed) for one, proba in measured),
        parameters=sum(one.numel() for one in network.parameters()),
        learning=sum(one.numel() for one in network.parameters() if one.requires_grad),
        notes=start.notes,
        out_of_fold=_of_fold(battles, measured),
    )
    state = None
    if config.run.fsdp:
        state = {name: whole(one) for name, one in trained(network)}
    if processes.first:
        write(config, start, battles, made, checkpoints, state)
        checkpoints.remove()
    processes.wait()
    return made


def opened(
    folder: Path, run: Mapping[str, Any], *, fresh: bool, processes: Processes = ALONE
) -> Checkpoints:
    """A run's checkpoints, which one of its processes writes and all read."""
    if processes.first:
        found = Checkpoints(folder, run, fresh=fresh)
    processes.wait()
    return found if processes.first else Checkpoints(folder, run, reads=True)


def _measured(
    config: Config, start: Start, battles: Battles, processes: Processes
) -> list[tuple[Measured, Floats]]:
    """What the judge says of the dev battles and of those that were held out."""
    from finetune.training.objectives import predict
    from finetune.training.optimising import Precision
    from judge.classifier.hardware import dtype_of

    device = start.network.device
    precision = Precision(dtype_of(config.run.dtype, device, training=True), device)
    encoder = encoder_of(start)
    budget = measuring_tokens(config, device)
    found = []
    for one in (*([] if battles.dev is None else [battles.dev]), *battles.held_out):
        held = examples(encoder, one.battles, one.labels, one.weights)
        proba = predict(start.network, held.encoded, budget, precision.autocast, processes)
        found.append((one, proba))
    return found


def _of_fold(battles: Battles, measured: list[tuple[Measured, Floats]]) -> Floats | None:
    """What it says of its fold, where it was asked."""
    if battles.of_fold is None:
        return None
    return next(proba for one, proba in measured if one is battles.of_fold)


def write(
    config: Config,
    start: Start,
    battles: Battles,
    made: Made,
    checkpoints: Checkpoints,
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """The judge folder; `state` has the weights that learned where processes share them."""
    import yaml

    from finetune.training.curves import BOARD, FILE
    from judge.classifier.storing import save_network
    from judge.comparing.leaks import write_seen
    from judge.files.folders import written_folder
    from judge.judges.recipes import FILE as RECIPE
    from judge.judges.recipes import plain
    from judge.predictions import write_predictions

    with written_folder(made.folder) as folder:
        settings = save_network(start.network, start.tokenizer, folder, state=state)
        settings = {"kind": settings.pop("kind"), **_named(config), **settings}
        if battles.fold is not None:
            settings |= {"fold": battles.fold.number, "folds": battles.fold.fingerprint}
        settings |= provenance(config, made, len(battles.train))
        text = yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=100)
        (folder / RECIPE).write_text(text, encoding="utf-8")
        (folder / configs.FILE).write_text(configs.to_yaml(config), encoding="utf-8")
        write_seen(folder, battles.seen)
        if made.out_of_fold is not None and battles.of_fold is not None:
            held = battles.of_fold.battles
            write_predictions(folder / OUT_OF_FOLD, held[ID], made.out_of_fold)
        shutil.copy(checkpoints.folder / FILE, folder / FILE)
        if (checkpoints.folder / BOARD).is_dir():
            shutil.copytree(checkpoints.folder / BOARD, folder / BOARD)


def _named(config: Config) -> dict[str, str]:
    return {} if config.run.name is None else {"name": config.run.name}


def provenance(config: Config, made: Made, learned_from: int) -> dict[str, Any]:
    """What judge.yaml says of how a judge was made and how good it is."""
    from importlib.metadata import version

    from judge.judges.recipes import made_by, made_from

    outcome, begun = made.outcome, beginning_of(config)
    by = made_by(
        "finetune distill" if config.distillation.teacher else "finetune train",
        objective=config.optimisation.objective,
        steps=outcome.steps,
        best_step=outcome.best_step,
        tokens=outcome.tokens,
        seconds=round(outcome.seconds, 1),
        config=configs.FILE,
        **({} if begun is None else {"began_as": begun}),
    )
    packages = ("torch", "transformers", *(["peft"] if _adapted(made) else []))
    versions = {name: version(name) for name in packages}
    by["versions"] = {**_mapping(by["versions"]), **versions}
    return {
        "measured": {one.name: one.settings() for one in made.scores},
        "trained_on": learned_from,
        "made_from": made_from(sources_of(config)),
        "kept_out": made_from(map(Path, config.data.held_out)),
        "made_by": by,
    }


def sources_of(config: Config) -> list[Path]:
    """The files that a judge learns from."""
    from finetune.folds.table import TABLE
    from finetune.logits.teachers import tables_of
    from finetune.rows.data import parse_extra

    data = config.data
    files = [Path(data.battles or ""), *(Path(parse_extra(one).file) for one in data.extra)]
    files += [Path(one) for one in tables_of(config.distillation.teacher)]
    if data.dev is not None:
        files.append(Path(data.dev))
    if data.folds is not None:
        files.append(Path(data.folds) / TABLE)
    return [file for file in files if file.is_file()]


def _adapted(made: Made) -> bool:
    return made.learning < made.parameters


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def device_of(config: Config, processes: Processes) -> torch.device:
    """Where this process trains.

    Raises:
        InputError: it is not there.
    """
    import torch

    from judge.classifier.hardware import devices_of

    spread = config.run.device is None or (config.run.device == "cuda" and processes.count > 1)
    if spread and torch.cuda.is_available():
        return torch.device("cuda", processes.local)
    if config.run.device is not None:
        return devices_of([config.run.device])[0]
    return devices_of()[0]
