"""Running a network over many sequences: batches, devices, memory."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from judge.classifier.network import Network, build  # noqa: E402
from judge.classifier.running import Runner, units_of  # noqa: E402
from judge.classifier.tokens import Encoded  # noqa: E402
from judge.errors import ArenaJudgeError  # noqa: E402
from tests.finetune.tiny import VOCABULARY, tiny_model  # noqa: E402


def _encoded(lengths: list[int], *, common: int = 0, seed: int = 0) -> Encoded:
    """Sequences two by two, which have their first tokens in common."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, VOCABULARY, length).astype(np.int32) for length in lengths]
    for one, other in zip(ids[0::2], ids[1::2], strict=True):
        other[:common] = one[:common]
        other[common] = one[common] % (VOCABULARY - 6) + 5 + (one[common] == VOCABULARY - 6)
    rows = np.arange(len(ids))
    shared = np.full(len(ids), common)
    zeros = np.zeros(len(ids), dtype=np.int64)
    return Encoded(ids, rows // 2, (rows % 2).astype(np.int8), zeros, shared)


def _taken(encoded: Encoded, rows: Any) -> Encoded:
    return Encoded(
        [encoded.ids[row] for row in rows],
        encoded.battles[rows],
        encoded.sides[rows],
        encoded.cut[rows],
        encoded.shared[rows],
    )


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tiny_model("qwen2", tmp_path_factory.mktemp("qwen2"))
    return build(str(folder), max_length=128)[0]


@pytest.fixture(scope="module")
def padding(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tiny_model("deberta-v2", tmp_path_factory.mktemp("deberta"))
    return build(str(folder), form="single", head="symmetric", max_length=128)[0]


LENGTHS = [9, 30, 5, 5, 60, 41, 12, 13, 7, 90]


@pytest.mark.parametrize("which", ["causal", "padding"])
@pytest.mark.parametrize("budget", [1, 50, 100_000])
def test_batches_change_nothing(which: str, budget: int, request: pytest.FixtureRequest) -> None:
    network = request.getfixturevalue(which)
    encoded = _encoded(LENGTHS, common=4)
    alone = torch.cat(
        [network.eval()([*encoded.ids[row : row + 2]]).detach() for row in range(0, 10, 2)]
    )
    for share in (False, True, None):
        found = Runner([network], batch_tokens=budget, share=share).logits(encoded)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, alone, atol=1e-5)


def test_nothing_to_run(causal: Network) -> None:
    encoded = _taken(_encoded(LENGTHS), np.arange(0))
    assert Runner([causal]).logits(encoded).shape == (0, 3)


def test_results_are_in_the_order_of_the_sequences_to_the_last_bit(causal: Network) -> None:
    encoded = _encoded(LENGTHS, common=4)
    runner = Runner([causal], batch_tokens=64)
    first = runner.logits(encoded)
    pairs = np.random.default_rng(1).permutation(5)
    rows = np.stack([2 * pairs + 1, 2 * pairs], axis=1).ravel()  # and siblings exchanged
    assert np.array_equal(runner.logits(_taken(encoded, rows)), first[rows])


def test_the_same_sequence_is_run_once(causal: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = _encoded(LENGTHS)
    twice = _taken(encoded, np.concatenate([np.arange(10), np.arange(10), [3, 3]]))
    run: Counter[int] = Counter()
    true = causal.states

    def states(ids: Any, shared: Any = None) -> Any:
        run.update(map(len, ids))
        return true(ids, shared)

    monkeypatch.setattr(causal, "states", states)
    found = Runner([causal], share=False).logits(twice)
    assert run == Counter(LENGTHS)
    assert np.array_equal(found[:10], found[10:20])
    assert np.array_equal(found[20:], found[[3, 3]])


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), max_size=12))
def test_units_lead_back_to_every_sequence(rows: list[list[int]]) -> None:
    rows = rows[: len(rows) // 2 * 2]
    ids = [np.array(row, dtype=np.int32) for row in rows]
    zeros = np.zeros(len(ids), dtype=np.int64)
    encoded = Encoded(ids, zeros, zeros.astype(np.int8), zeros, np.arange(len(ids)) // 2)
    for together in (1, 2):
        units = units_of(encoded, together=together)
        assert [units.ids[place].tolist() for place in units.places] == rows
        if together == 1:
            assert len({tuple(one.tolist()) for one in units.ids}) == len(units.ids)
        else:  # siblings stay side by side
            assert np.array_equal(units.places[0::2] // 2, units.places[1::2] // 2)


def test_a_common_beginning_is_shared_where_it_pays(
    causal: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    true = causal.states
    monkeypatch.setattr(
        causal, "states", lambda ids, shared=None: seen.append(shared) or true(ids, shared)
    )
    for common, share, wanted in (
        (20, None, True),
        (1, None, False),
        (1, True, True),
        (20, False, False),
        (0, True, False),
    ):
        seen.clear()
        Runner([causal], share=share).logits(_encoded([40] * 8, common=common))
        assert all((shared is not None) == wanted for shared in seen), (common, share)


# --- devices --------------------------------------------------------------------------------------


def test_two_devices_share_the_work(causal: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    from copy import deepcopy

    other = deepcopy(causal)
    encoded = _encoded([20, 25] * 20)
    wanted = Runner([causal], batch_tokens=50, share=False).logits(encoded)
    both = threading.Barrier(2, timeout=60)
    met = {id(network): False for network in (causal, other)}
    for network in (causal, other):
        true = network.states

        def states(ids: Any, shared: Any = None, network: Any = network, true: Any = true) -> Any:
            if not met[id(network)]:  # neither goes on before the other has begun
                met[id(network)] = True
                both.wait()
            return true(ids, shared)

        monkeypatch.setattr(network, "states", states)
    found = Runner([causal, other], batch_tokens=50, share=False).logits(encoded)
    assert all(met.values())
    assert np.array_equal(found, wanted)


def test_an_error_on_one_device_ends_the_run(
    causal: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    from copy import deepcopy

    broken = deepcopy(causal)

    def states(ids: Any, shared: Any = None) -> Any:
        raise RuntimeError("the device fell off the bus")

    monkeypatch.setattr(broken, "states", states)
    monkeypatch.setattr(causal, "states", states)
    with pytest.raises(RuntimeError, match="fell off"):
        Runner([causal, broken], batch_tokens=20).logits(_encoded([10] * 60))


# --- memory ---------------------------------------------------------------------------------------


def _with_room_for(tokens: int, network: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has a network run out of memory beyond so many tokens; the tokens of each call."""
    true, calls = network.states, []

    def states(ids: Any, shared: Any = None) -> Any:
        calls.append(sum(map(len, ids)))
        if calls[-1] > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return true(ids, shared)

    monkeypatch.setattr(network, "states", states)
    return calls


@pytest.mark.parametrize("which", ["causal", "padding"])
def test_a_batch_that_is_too_large_is_split(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = request.getfixturevalue(which)
    encoded = _encoded([30, 25] * 12, common=3)
    wanted = Runner([network], batch_tokens=110).logits(encoded)
    calls = _with_room_for(120, network, monkeypatch)
    runner = Runner([network], batch_tokens=1000)
    np.testing.assert_allclose(runner.logits(encoded), wanted, atol=1e-5)
    failed = len([size for size in calls if size > 120])
    assert 0 < failed <= 4  # what was too much once is not tried again
    calls.clear()
    np.testing.assert_allclose(runner.logits(encoded), wanted, atol=1e-5)
    assert max(calls) <= 120


def test_a_sequence_that_is_too_large_by_itself(
    causal: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_room_for(40, causal, monkeypatch)
    with pytest.raises(ArenaJudgeError, match="of 90 tokens") as caught:
        Runner([causal], share=False).logits(_encoded(LENGTHS))
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_want_of_memory(
    causal: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def states(ids: Any, shared: Any = None) -> Any:
        raise RuntimeError("a size does not match")

    monkeypatch.setattr(causal, "states", states)
    with pytest.raises(RuntimeError, match="does not match"):
        Runner([causal]).logits(_encoded(LENGTHS))


# --- positions that turn otherwise in long rows ---------------------------------------------------


@settings(max_examples=5)
@given(seed=st.integers(0, 100))
def test_long_sequences_do_not_change_how_short_ones_are_read(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scaling = {
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 32,
        "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("phi3")
    tiny_model("phi3", folder, rope_parameters=scaling, original_max_position_embeddings=32)
    network, _ = build(str(folder), max_length=128)
    encoded = _encoded([10, 12, 90, 80, 31, 32, 33, 33], seed=seed)
    with torch.inference_mode():
        alone = torch.cat([network.eval()([one]) for one in encoded.ids]).numpy()
        mixed = network(encoded.ids).numpy()
    assert np.abs(mixed - alone).max() > 1e-4  # it is not for nothing
    found = Runner([network], share=False).logits(encoded)
    np.testing.assert_allclose(found, alone, atol=1e-5)
