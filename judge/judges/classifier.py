"""The fine-tuned judge: a transformer reads a battle, a head says A, B or tie.

    judge = load_judge("judges/phi3")            # a folder that `arena-judge finetune` made
    judge = load_judge("hf:some/checkpoint")     # a classifier of sequences with three labels

Battles become sequences of tokens (`judge.classifier.tokens`), those become logits
(`judge.classifier.running`). A judge with a plain head sees a battle in both orders and its
probabilities are the mean of both, turned back; a symmetric head sees each response once. What is
said with several lengths is averaged. So exchanging the responses exchanges P(A) and P(B) to the
last bit.

This module imports no torch: who lists judges or asks for help need not have it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.classifier.hardware import devices_of, dtype_of, needed
from judge.errors import ArenaJudgeError, InputError
from judge.judges.base import Judge, Judgments
from judge.judges.classifier_settings import DEFAULT, HF, ClassifierSettings, as_run
from judge.parallel import ordered_map

if TYPE_CHECKING:
    from judge.classifier.network import Network
    from judge.classifier.running import Runner
    from judge.classifier.tokens import BattleEncoder, BattleTokens
    from judge.judges.recipes import Recipe

Floats = npt.NDArray[np.float64]

# Battles that are read ahead and sorted by length together.
_BATTLES = 1024
# Shares of the work make one but for the last bits.
_ROUNDING = 1e-6
_NO_NUMBER = "the network gave no number for it; another dtype may"


class ClassifierJudge(Judge):
    """Judges with a network, or with replicas of it on several devices.

    Args:
        networks: the same network once for each device.
        tokenizer: its tokenizer.
        name: how the judge is called in tables.
        running: how it is run; which devices and dtype the networks are in was seen to.
        foreign: whether it came from elsewhere, so that the user says how battles are put.

    Attributes:
        tick: is told how many more battles are done, from any thread but one at a time.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        tokenizer: Any,
        *,
        name: str,
        running: ClassifierSettings = DEFAULT,
        foreign: bool = False,
    ) -> None:
        from judge.classifier.running import Runner
        from judge.classifier.templates import load_template
        from judge.classifier.tokens import BattleEncoder

        self.name, self.shape = name, networks[0].shape
        template = load_template(self.shape.template)
        self.orders = running.orders if self.shape.sequences == 1 else ("AB", "BA")
        lengths = running.lengths or (self.shape.max_length,)
        most = networks[0].longest
        if most is not None and max(lengths) > most:
            raise InputError(f"{name} reads {most} tokens at most", mend="give smaller lengths")
        policy = running.policy or self.shape.policy
        first = BattleEncoder(tokenizer, template, max(lengths), policy)
        self._encoders: list[BattleEncoder] = [first.at(length) for length in lengths]
        self._runner: Runner | None = Runner(
            networks, batch_tokens=running.batch_tokens, share=running.share_prompt
        )
        self.tick: Callable[[int], None] | None = None
        self._foreign, self._shares = foreign, networks[0].shares
        self._turn, self._telling = threading.Lock(), threading.Lock()
        self._stopped = False

    @classmethod
    def compose(cls, recipe: Recipe) -> ClassifierJudge:
        """From a judge folder, or a `.yaml` that names one or a checkpoint under `model`.

        Raises:
            ArenaJudgeError: it cannot be had or used.
        """
        running = as_run(recipe.running, recipe.settings.get("running"), recipe.file)
        model = recipe.settings.get("model")
        if model is not None:
            if not isinstance(model, str) or not model.strip():
                raise InputError("names no model", file=recipe.file, mend="write `model: FOLDER`")
            beside = recipe.folder / model.removeprefix(HF)
            where = str(beside) if beside.exists() else model.removeprefix(HF)
            return cls.borrowed(where, running, called=recipe.name(recipe.file.stem))
        return cls._stored(recipe.folder, recipe.settings, running, recipe.name(recipe.folder.name))

    @classmethod
    def borrowed(
        cls, name: str, running: ClassifierSettings = DEFAULT, *, called: str | None = None
    ) -> ClassifierJudge:
        """From a checkpoint of transformers, an adapter with its base, or a judge folder.

        Raises:
            ArenaJudgeError: it cannot be had or used.
        """
        from judge.judges.recipes import FILE, read_recipe

        folder = Path(name)
        if (folder / FILE).is_file():
            recipe = read_recipe(folder / FILE, running=running)
            if recipe.settings["kind"] != "classifier":
                kind = recipe.settings["kind"]
                raise InputError(f"is a judge of the kind {kind}", file=name, mend="leave out hf:")
            judge = cls.compose(recipe)
            judge.name = called or judge.name
            return judge
        needed("torch")
        needed("transformers")
        from judge.classifier.borrowed import borrow
        from judge.classifier.hastening import hasten
        from judge.classifier.templates import load_template, template_names

        template = running.template or "a-then-b"
        if load_template(template).form != "pair":
            pairs = ", ".join(template_names("pair"))
            raise InputError(f"template {template} shows one response", mend=f"take {pairs}")
        made = []
        for device in devices_of(running.device):
            network, tokenizer = borrow(
                name,
                template=template,
                max_length=max(running.lengths, default=None),
                policy=running.policy or "proportional",
                device=device,
                dtype=dtype_of(running.dtype, device),
                quantize=running.quantize,
                attention=running.attention,
            )
            hasten(network)
            made.append(network)
        return cls(made, tokenizer, name=called or name, running=running, foreign=True)

    @classmethod
    def _stored(
        cls, folder: Path, settings: Any, running: ClassifierSettings, name: str
    ) -> ClassifierJudge:
        needed("torch")
        needed("transformers")
        from judge.classifier.hastening import hasten
        from judge.classifier.storing import load_network

        made = []
        for device in devices_of(running.device):
            network, tokenizer = load_network(
                folder,
                settings,
                device=device,
                dtype=dtype_of(running.dtype, device),
                quantize=running.quantize,
                attention=running.attention,
            )
            hasten(network)
            made.append(network)
        return cls(made, tokenizer, name=name, running=running)

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        """Probabilities of these battles; it fills in no ballots. Several threads take turns at the
        network, and read battles meanwhile."""
        starts = range(0, len(battles), _BATTLES)
        parts = (battles.iloc[start : start + _BATTLES] for start in starts)
        # A second thread reads battles while the network works.
        read = ordered_map(self._encoders[0].read, parts, 2 if len(starts) > 1 else 1)
        found = [self._proba(tokens) for tokens in read]
        proba = np.concatenate(found) if found else np.zeros((0, 3))
        lost = np.flatnonzero(np.isnan(proba[:, 0])).tolist()
        return Judgments(proba, dict.fromkeys(lost, _NO_NUMBER))

    def heeds(self, setting: str) -> bool:
        """Whether it makes a difference to the judge what `ClassifierSettings` say."""
        if setting == "orders":
            return self.shape.sequences == 1
        if setting == "share_prompt":
            return self._shares
        return self._foreign if setting == "template" else True

    def stop(self) -> None:
        """Has `judge` end with an error in all threads that are in it, and from now on."""
        self._stopped = True

    def close(self) -> None:
        """Gives back the networks' memory; what is still judged ends as with `stop`."""
        self.stop()
        with self._turn:
            self._runner = None
        super().close()

    def logits(self, battles: pd.DataFrame) -> Floats:
        """(N, O, 3) log-probabilities of N battles as they stand in the table, for each of the O
        `orders` that they were shown in, or a single one from a symmetric head; several lengths are
        averaged. NaN where the network gave no number."""
        tokens = self._encoders[0].read(battles)
        meter = _Meter(len(tokens), len(self._encoders), self._done)
        said = [self._raw(one, tokens, meter) for one in self._encoders]
        return np.asarray(np.mean(said, axis=0))

    def pad_to(self, multiple: int) -> None:
        """Has what the networks work through at once filled up to a multiple of so many tokens."""
        with self._turn:
            for network in () if self._runner is None else self._runner.networks:
                network.multiple = multiple

    def _raw(self, encoder: BattleEncoder, tokens: BattleTokens, meter: _Meter) -> Floats:
        """(N, O, 3): see `logits`, for one length."""
        found = self._run(encoder, tokens, meter)
        found[~np.isfinite(found).all(axis=1)] = np.nan
        shifted = found - found.max(axis=1, keepdims=True)
        weights = np.exp(shifted)
        # A and B first: the sum is not to depend on which of them is which.
        shifted -= np.log((weights[:, 0] + weights[:, 1]) + weights[:, 2])[:, None]
        if self.shape.sequences == 2:
            return np.asarray(shifted[:, None])
        said = shifted.reshape(-1, len(self.orders), 3)
        for place, order in enumerate(self.orders):
            if order == "BA":
                said[:, place] = said[:, place][:, [1, 0, 2]]
        return np.asarray(said)

    def _proba(self, tokens: BattleTokens) -> Floats:
        """(N, 3): the mean over lengths and orders."""
        meter = _Meter(len(tokens), len(self._encoders), self._done)
        said = [self._of_length(encoder, tokens, meter) for encoder in self._encoders]
        return np.asarray(np.mean(said, axis=0))

    def _of_length(self, encoder: BattleEncoder, tokens: BattleTokens, meter: _Meter) -> Floats:
        proba = softmax(self._run(encoder, tokens, meter))
        if self.shape.sequences == 2:
            return proba
        each = proba.reshape(-1, len(self.orders), 3)
        turned = [
            each[:, place, [1, 0, 2]] if order == "BA" else each[:, place]
            for place, order in enumerate(self.orders)
        ]
        return np.asarray(np.mean(turned, axis=0))

    def _run(self, encoder: BattleEncoder, tokens: BattleTokens, meter: _Meter) -> Floats:
        """The network's logits of all sequences."""
        encoded = encoder.assemble(tokens, self.orders)
        with self._turn:
            if self._runner is None:
                raise RuntimeError("the judge is closed")
            self._done(0)  # who was stopped while others had their turn begins no batch
            return self._runner.logits(encoded, meter.advance)

    def _done(self, battles: int) -> None:
        if self._stopped:
            raise ArenaJudgeError(f"{self.name} was stopped while it judged")
        if battles and self.tick is not None:
            with self._telling:
                self.tick(battles)


class _Meter:
    """Turns shares of the work on N battles into how many of them are done.

    Args:
        battles: how many there are.
        rounds: how often all of them are worked through.
        tell: is told how many more are done, perhaps 0, whenever some work is; from any thread.
    """

    def __init__(self, battles: int, rounds: int, tell: Callable[[int], None]) -> None:
        self._battles, self._rounds, self._tell = battles, rounds, tell
        self._share, self._told = 0.0, 0
        self._lock = threading.Lock()

    def advance(self, share: float) -> None:
        """This share of a round is done."""
        with self._lock:
            self._share += share / self._rounds
            done = min(self._battles, int(self._share * self._battles + _ROUNDING))
            more, self._told = done - self._told, done
        self._tell(more)


def softmax(logits: Floats) -> Floats:
    """(N, 3) probabilities of logits; NaN rows where not all are numbers. A and B are added before
    the tie, so that the sum does not depend on which of them is which."""
    sound = np.isfinite(logits).all(axis=1)
    weights = np.full_like(logits, np.nan)
    weights[sound] = np.exp(logits[sound] - logits[sound].max(axis=1, keepdims=True))
    total = (weights[:, 0] + weights[:, 1]) + weights[:, 2]
    return np.asarray(weights / total[:, None])
