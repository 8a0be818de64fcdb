"""Heads: three logits of one state, or of two in the Davidson form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from judge.classifier.heads import PlainHead, SymmetricHead, conclude, make_head  # noqa: E402
from judge.davidson import probabilities  # noqa: E402


def _states(seed: int, rows: int, hidden: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 3, (rows, hidden)).astype(np.float32))


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 70),
    hidden=st.integers(1, 40),
    width=st.sampled_from([0, 1, 7, 32]),
)
def test_swapping_changes_the_sign_of_d_and_nothing_else_to_the_last_bit(
    seed: int, rows: int, hidden: int, width: int
) -> None:
    head = make_head("symmetric", hidden, width=width, dropout=0.3, seed=seed % 97).eval()
    with torch.no_grad():
        for weight in head.parameters():
            weight.add_(torch.from_numpy(np.random.default_rng(seed).normal(size=weight.shape)))
        a, b = _states(seed, rows, hidden), _states(seed + 1, rows, hidden)
        there, back = head(a, b), head(b, a)
    assert torch.equal(there[:, 0], back[:, 1])
    assert torch.equal(there[:, 1], back[:, 0])
    assert torch.equal(there[:, 2], back[:, 2])


@pytest.mark.parametrize("width", [0, 8])
def test_the_logits_are_of_the_davidson_form(width: int) -> None:
    head = make_head("symmetric", 6, width=width, seed=1).eval()
    logits = head(_states(1, 5, 6), _states(2, 5, 6)).detach().double().numpy()
    assert np.array_equal(logits[:, 0], -logits[:, 1])
    found = torch.softmax(torch.from_numpy(logits), -1).numpy()
    d = logits[:, 0] - logits[:, 1]
    np.testing.assert_allclose(found, probabilities(d, logits[:, 2]), atol=1e-12)


@pytest.mark.parametrize("width", [0, 8])
def test_the_same_response_twice_has_no_winner(width: int) -> None:
    head = make_head("symmetric", 6, width=width, seed=1).eval()
    state = _states(3, 4, 6)
    logits = head(state, state)
    assert (logits[:, :2] == 0).all()


@pytest.mark.parametrize("width", [0, 8])
def test_both_d_and_t_hang_on_both_responses(width: int) -> None:
    head = make_head("symmetric", 6, width=width, seed=1).eval()
    a, b, c = (_states(seed, 1, 6) for seed in (1, 2, 3))
    first, other_a, other_b = head(a, b), head(c, b), head(a, c)
    for changed in (other_a, other_b):
        assert (changed - first)[0, 0].abs() > 1e-6
        assert (changed - first)[0, 2].abs() > 1e-6


def test_every_weight_is_learned_from() -> None:
    for kind, states in (("plain", 1), ("symmetric", 2)):
        for width in (0, 8):
            head = make_head(kind, 6, width=width, dropout=0.1, seed=1)
            logits = head(*(_states(seed, 9, 6) for seed in range(states)))
            torch.nn.functional.cross_entropy(logits, torch.arange(9) % 3).backward()
            for weight in head.parameters():
                assert weight.grad is not None
                assert weight.grad.abs().sum() > 0


def test_a_seed_draws_the_same_weights_whatever_else_was_drawn() -> None:
    first = make_head("symmetric", 6, width=4, seed=5)
    torch.manual_seed(1)
    torch.rand(7)
    second = make_head("symmetric", 6, width=4, seed=5)
    other = make_head("symmetric", 6, width=4, seed=6)
    named = dict(second.named_parameters())
    assert all(torch.equal(weight, named[name]) for name, weight in first.named_parameters())
    assert any(not torch.equal(weight, named[name]) for name, weight in other.named_parameters())


def test_dropout_acts_in_training_only() -> None:
    head = make_head("plain", 16, dropout=0.5, seed=1)
    state = _states(1, 3, 16)
    assert not torch.equal(head.train()(state), head.eval()(state))
    assert torch.equal(head(state), head(state))


def test_states_are_concluded_from_in_float32_two_by_two() -> None:
    states = _states(1, 6, 4)
    plain, symmetric = make_head("plain", 4), make_head("symmetric", 4)
    assert isinstance(plain, PlainHead)
    assert isinstance(symmetric, SymmetricHead)
    assert conclude(plain, states.to(torch.bfloat16), 1).dtype == torch.float32
    assert conclude(plain, states, 1).shape == (6, 3)
    found = conclude(symmetric, states, 2)
    assert torch.equal(found, symmetric(states[0::2], states[1::2]))
