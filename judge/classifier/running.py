"""A network over many sequences: batches of like length, a thread a device, results in order.

    runner = Runner([network_on_gpu_0, network_on_gpu_1])
    logits = runner.logits(encoded)

Batches hang on what the sequences say and not on where they stand: those that are the same are run
once, and battles that come in another order, or with their responses exchanged, make the same
batches. So exchanging responses exchanges results to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from judge.classifier.batching import token_batches
from judge.classifier.heads import conclude
from judge.classifier.network import Network
from judge.classifier.tokens import Encoded
from judge.errors import ArenaJudgeError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
Keep = Callable[[Sequence[int], Tensor], None]
Tick = Callable[[float], None]

# Tokens of a batch, by the kind of device. On a processor more would not fit its caches.
_TOKENS = {"cpu": 4096, "cuda": 65536, "mps": 8192}
_FEW = 4096
# From which share of all tokens on it pays to work through once what siblings have in common.
_WORTH_SHARING = 0.08


@dataclass(frozen=True)
class Units:
    """What is run: single sequences, or two that begin alike.

    Attributes:
        ids: the different sequences, those of a unit side by side.
        shared: for each how many first tokens it shares with the other of its unit.
        together: sequences of a unit, 1 or 2.
        places: for each sequence that was given, which of them it is.
    """

    ids: list[Ids]
    shared: Ints
    together: int
    places: Ints

    @property
    def lengths(self) -> Ints:
        """Tokens of each sequence."""
        return np.fromiter(map(len, self.ids), dtype=np.int64, count=len(self.ids))


def units_of(encoded: Encoded, *, together: int = 1) -> Units:
    """The different ones of S sequences, or of S / 2 pairs of them, in an order that hangs on what
    they say alone."""
    keys = [one.tobytes() for one in encoded.ids]
    found: dict[tuple[bytes, ...], list[int]] = {}
    names: list[tuple[bytes, ...]] = []
    for start in range(0, len(keys), together):
        name = tuple(sorted(keys[start : start + together]))
        names.append(name)
        if name not in found:
            rows = sorted(range(start, start + together), key=keys.__getitem__)
            found[name] = rows
    rows = [row for name in sorted(found) for row in found[name]]
    first = {name: number * together for number, name in enumerate(sorted(found))}
    places = [
        first[name] + name.index(keys[number * together + side])
        for number, name in enumerate(names)
        for side in range(together)
    ]
    return Units(
        [encoded.ids[row] for row in rows],
        encoded.shared[rows],
        together,
        np.array(places, dtype=np.int64),
    )


class Runner:
    """Runs a network, or replicas of it.

    Args:
        networks: one for each device; several may be on the same one.
        batch_tokens: tokens of a batch; by default what suits the device.
        share: whether what siblings have in common is worked through once, where the network can;
            None for where it pays.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        *,
        batch_tokens: int | None = None,
        share: bool | None = None,
    ) -> None:
        if not networks:
            raise ValueError("no network to run")
        self.networks = [network.eval() for network in networks]
        self._shape, kind = networks[0].shape, networks[0].device.type
        self._budget = batch_tokens or _TOKENS.get(kind, _FEW)
        self._share = share
        # Where it stands in a row of numbers changes nothing on the processor.
        self._head = deepcopy(networks[0].head).to("cpu", torch.float32)
        # What batches may have at most on each device, once one was too large for it.
        self._limits: list[float] = [np.inf] * len(networks)

    def logits(self, encoded: Encoded, tick: Tick | None = None) -> Floats:
        """(S, 3) logits of sequences as shown, or (S / 2, 3) from a symmetric head. `tick` is told
        of each batch, from any thread, which share of the work it was; an error of it ends all."""
        if not len(encoded):
            return np.zeros((0, 3))
        with torch.inference_mode():
            found = conclude(self._head, self.states(encoded, tick), self._shape.sequences)
            return np.asarray(found.to(torch.float64).numpy())

    def states(self, encoded: Encoded, tick: Tick | None = None) -> Tensor:
        """(S, hidden) float32 on the processor: what the network makes of each of S > 0 sequences.
        For `tick` see `logits`.

        Raises:
            ArenaJudgeError: there is not enough memory for a single one.
        """
        units = units_of(encoded, together=2 if self._shares(encoded) else 1)
        results: list[Tensor | None] = [None] * len(units.ids)
        lengths = units.lengths
        tokens = float(lengths.sum())

        def keep(rows: Sequence[int], states: Tensor) -> None:
            for row, state in zip(rows, states, strict=True):
                results[row] = state
            if tick is not None:
                tick(float(lengths[list(rows)].sum()) / tokens)

        waiting: SimpleQueue[Ints] = SimpleQueue()
        for batch in self._batches(units):
            waiting.put(batch)
        if len(self.networks) == 1:
            self._work(0, units, waiting, keep)
        else:
            self._spread(units, waiting, keep)
        found = [results[place] for place in units.places.tolist()]
        return torch.stack([state for state in found if state is not None])

    # --- batches ---

    def _shares(self, encoded: Encoded) -> bool:
        able = self.networks[0].shares and len(encoded) % 2 == 0 and bool(encoded.shared.any())
        if not able or self._share is not None:
            return able and bool(self._share)
        # Half of what is shared is saved.
        return float(encoded.shared.sum() / 2) >= _WORTH_SHARING * float(encoded.lengths.sum())

    def _batches(self, units: Units) -> list[Ints]:
        """Rows of batches; none mixes lengths beyond which a model reads positions otherwise."""
        rows = np.arange(len(units.ids))
        lengths, together = units.lengths, units.together
        longest = lengths.reshape(-1, together).max(axis=1).repeat(together)
        turn = self.networks[0].turning_point
        beyond = longest > (np.inf if turn is None else turn)
        batches: list[Ints] = []
        for some in (rows[beyond], rows[~beyond]):
            made = token_batches(
                lengths[some], self._budget, padded=not self.networks[0].packed, together=together
            )
            batches += [some[batch] for batch in made]
        return batches

    # --- devices ---

    def _spread(self, units: Units, waiting: SimpleQueue[Ints], keep: Keep) -> None:
        """A thread for each device; the first error ends them all."""
        with ThreadPoolExecutor(len(self.networks)) as pool:
            numbers = range(len(self.networks))
            futures = [pool.submit(self._work, n, units, waiting, keep) for n in numbers]
            try:
                for future in futures:
                    future.result()
            finally:
                _emptied(waiting)

    def _work(self, number: int, units: Units, waiting: SimpleQueue[Ints], keep: Keep) -> None:
        """What one device does: batch after batch, the next put in before one is looked at."""
        done: tuple[Sequence[int], Tensor] | None = None
        with torch.inference_mode(), _on(self.networks[number].device):
            while True:
                try:
                    batch = waiting.get_nowait()
                except Empty:
                    break
                try:
                    for rows, states in self._run(number, units, batch):
                        if done is not None:
                            keep(done[0], done[1].cpu())
                        done = rows, states
                except BaseException:
                    _emptied(waiting)
                    raise
            if done is not None:
                keep(done[0], done[1].cpu())

    def _run(self, number: int, units: Units, batch: Ints) -> list[tuple[list[int], Tensor]]:
        """The states of a batch, in halves where it is too large for the device."""
        network = self.networks[number]
        tokens = int(units.lengths[batch].sum())
        rows = batch.tolist()
        single = len(rows) <= units.together
        if tokens <= self._limits[number] or single:
            shared = units.shared[batch].tolist() if units.together == 2 else None
            try:
                return [(rows, network.states([units.ids[row] for row in rows], shared))]
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if single:
                    longest = int(units.lengths[batch].max())
                    raise ArenaJudgeError(
                        f"there is not enough memory on {network.device} for a battle of {longest} "
                        "tokens; take a smaller max_length, bfloat16, or --quantize"
                    ) from None
            self._limits[number] = tokens // 2
            _make_room(network.device)
        middle = len(rows) // units.together // 2 * units.together
        halves = (batch[:middle], batch[middle:])
        return [result for half in halves for result in self._run(number, units, half)]


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU the one that a thread's kernels go to."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _emptied(waiting: SimpleQueue[Any]) -> None:
    while True:
        try:
            waiting.get_nowait()
        except Empty:
            return


def _out_of_memory(error: BaseException) -> bool:
    known = ("not enough memory", "out of memory", "alloc_failed", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error).lower() for words in known
    )


def _make_room(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
