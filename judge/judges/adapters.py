"""Several LoRA judges of one base as one judge, for which the base is in memory once.

    kind: adapters
    adapters: [teachers/phi3/fold-0, teachers/phi3/fold-1, teachers/phi3/fold-2]
    blend: {method: mean, pool: linear, weights: [0.4, 0.3, 0.3]}     # the plain mean if left out
    running: {lengths: [1024, 2048]}

Each judge reads the battles in its own way and concludes by its own head; between them the adapters
are exchanged. What they say becomes one by a pool as in a blend: the mean of their probabilities
(`linear`), or of their logits (`log`).

This module imports no torch: who lists judges or asks for help need not have it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from judge.blending.kinds import Blend, blend_from_settings
from judge.blending.pools import Ranking, equal
from judge.classifier.hardware import devices_of, dtype_of, needed
from judge.errors import InputError
from judge.judges.base import Judge, Judgments
from judge.judges.classifier import ClassifierJudge
from judge.judges.classifier_settings import ClassifierSettings, as_run
from judge.provenance import sources

if TYPE_CHECKING:
    from judge.classifier.network import Network
    from judge.judges.recipes import Recipe


class AdaptersJudge(Judge):
    """Judges by several adapters in turn.

    Args:
        members: of each adapter, on the same backbones.
        models: these backbones, one for each device; they know each member's adapter by its number.
        blend: how what they say becomes one.
        name: how it is called in tables.
    """

    def __init__(
        self, members: Sequence[ClassifierJudge], models: Sequence[Any], blend: Blend, name: str
    ) -> None:
        self.members = tuple(members)
        self.blend, self.name = blend, name
        self._members, self._models = tuple(members), tuple(models)
        self._turn = threading.Lock()

    @classmethod
    def compose(cls, recipe: Recipe) -> AdaptersJudge:
        """From a recipe that lists judge folders under `adapters`.

        Raises:
            ArenaJudgeError: one cannot be had, or they are of different bases.
        """
        from judge.judges.recipes import FILE, read_recipe

        named = recipe.settings.get("adapters")
        if not isinstance(named, list) or not named or not all(isinstance(n, str) for n in named):
            mend = "add a list `adapters: [FOLDER, FOLDER]`"
            raise InputError("lists no adapters", file=recipe.file, mend=mend)
        blend = Blend("mean", equal(len(named)))
        if "blend" in recipe.settings:
            blend = blend_from_settings(recipe.settings["blend"], file=recipe.file)
        if blend.members != len(named) or isinstance(blend.pool, Ranking):
            what = f"has a blend that is not one of the pools linear and log for {len(named)}"
            raise InputError(what, file=recipe.file)
        running = as_run(recipe.running, recipe.settings.get("running"), recipe.file)
        recipes = []
        for name in named:
            beside = recipe.folder / name
            folder = beside if beside.exists() else Path(name)
            recipes.append(read_recipe(folder / FILE, running=running))
        made = _made(recipes, running)
        members = [
            _member(recipes[number], networks, tokenizer, running)
            for number, (networks, tokenizer) in enumerate(made.members)
        ]
        return cls(members, made.models, blend, recipe.name(f"{len(named)} adapters"))

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Probabilities of these battles; it fills in no ballots. Several threads take turns."""
        found = []
        with self._turn:
            for number, member in enumerate(self._members):
                for model in self._models:
                    model.set_adapter(_called(number))
                found.append(member.judge(battles))
        proba = self.blend.apply(np.stack([one.proba for one in found]))
        silent = np.flatnonzero(np.isnan(proba[:, 0])).tolist()
        return Judgments(proba, {place: found[0].reasons[place] for place in silent})

    def close(self) -> None:
        """Gives back the networks' memory."""
        with self._turn:
            self._models = ()
        super().close()


class _Made:
    """What is shared by adapters of one base.

    Attributes:
        models: the backbones with all adapters, one for each device.
        members: of each adapter its networks, one for each device, and its tokenizer.
    """

    def __init__(self, models: list[Any], members: list[tuple[list[Network], Any]]) -> None:
        self.models, self.members = models, members


def _made(recipes: Sequence[Recipe], running: ClassifierSettings) -> _Made:
    for package in ("torch", "transformers", "peft"):
        needed(package)
    from judge.classifier.loading import load_backbone, load_tokenizer
    from judge.classifier.narrowing import narrow
    from judge.classifier.network import Network
    from judge.classifier.shape import shape_of
    from judge.classifier.storing import add_adapter, load_adapter, load_head

    base = _base(recipes)
    shapes = [shape_of(one.settings, one.file) for one in recipes]
    models: list[Any] = []
    networks: list[list[Network]] = [[] for _ in recipes]
    for device in devices_of(running.device):
        backbone, packed = load_backbone(
            base,
            dtype=dtype_of(running.dtype, device),
            device=device,
            attention=running.attention,
            quantize=running.quantize,
        )
        heads = [
            load_head(shape, backbone, one.folder).to(device)
            for shape, one in zip(shapes, recipes, strict=True)
        ]
        adapted = load_adapter(backbone, recipes[0].folder, name=_called(0))
        for number, one in enumerate(recipes[1:], 1):
            add_adapter(adapted, one.folder, _called(number))
        models.append(adapted)
        made = [
            Network(shape, adapted, head, packed=packed).eval()
            for shape, head in zip(shapes, heads, strict=True)
        ]
        # The layer is narrowed once, for all that look at single tokens.
        first = next((one for one in made if narrow(one)), None)
        for network, of in zip(made, networks, strict=True):
            if first is not None and network.shape.pooling != "mean":
                network.rows = first.rows
            of.append(network)
    tokenizers = [load_tokenizer(one.folder) for one in recipes]
    return _Made(models, list(zip(networks, tokenizers, strict=True)))


def _called(number: int) -> str:
    """What peft knows an adapter by: no part of a module's name, nor of another adapter's."""
    return f"judge{number:04d}"


def _base(recipes: Sequence[Recipe]) -> str:
    """The base of all adapters.

    Raises:
        InputError: they have different ones, or one has no adapter.
    """
    from judge.classifier.storing import find_base

    bases = []
    for one in recipes:
        if one.settings["kind"] != "classifier" or one.settings.get("weights") != "lora":
            mend = "blend judges of other kinds (arena-judge finetune ensemble)"
            raise InputError("is no judge with an adapter", file=one.folder, mend=mend)
        found = find_base(str(one.settings.get("base", "")), one.folder)
        bases.append(os.path.realpath(found) if os.path.isdir(found) else found)
        if bases[-1] != bases[0]:
            raise InputError(
                f"is of the base {bases[-1]} and {recipes[0].folder} of {bases[0]}",
                file=one.folder,
                mend="blend judges of different bases (arena-judge blend)",
            )
    return bases[0]


def _member(
    recipe: Recipe, networks: list[Network], tokenizer: Any, running: ClassifierSettings
) -> ClassifierJudge:
    own = as_run(running, recipe.settings.get("running"), recipe.file)
    judge = ClassifierJudge(networks, tokenizer, name=recipe.name(recipe.folder.name), running=own)
    judge.folder = recipe.folder
    judge.sources = sources(recipe.settings)
    return judge
