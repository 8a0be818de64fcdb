"""Packed rows: sequences without padding give what each gives alone, in every family."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from judge.classifier import attention  # noqa: E402
from judge.classifier.network import build  # noqa: E402
from judge.classifier.packing import Layout, pack  # noqa: E402
from judge.errors import ArenaJudgeError  # noqa: E402
from tests.finetune.tiny import FAMILIES, HIDDEN, PACKED, VOCABULARY, tiny_model  # noqa: E402

LENGTHS = (5, 40, 1, 17, 90, 33)


def _sequences(seed: int, lengths: tuple[int, ...] = LENGTHS) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, VOCABULARY, length).astype(np.int32) for length in lengths]


@pytest.mark.parametrize("family", FAMILIES)
def test_together_as_alone(family: str, tmp_path: Path) -> None:
    base = str(tiny_model(family, tmp_path))
    network, _ = build(base, max_length=200)
    padding, _ = build(base, max_length=200, attention="padded")
    assert network.packed == (family in PACKED)
    assert not padding.packed
    ids = _sequences(1)
    with torch.inference_mode():
        together = network.eval()(ids)
        alone = torch.cat([network([one]) for one in ids])
        theirs = torch.cat([padding.eval()([one]) for one in ids])
        padded = padding(ids)
    assert theirs.std(0).min() > 1e-3  # or nothing could be told apart
    for found in (together, alone, padded):
        torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", [name for name in PACKED if name != "distilbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_every_pooling_in_every_family(family: str, pooling: str, tmp_path: Path) -> None:
    base = str(tiny_model(family, tmp_path))
    ids = _sequences(2, (3, 30, 1, 11))
    states = []
    for kind in ("packed", "padded"):
        network, _ = build(base, max_length=64, pooling=pooling, attention=kind)
        with torch.inference_mode():
            states.append(network.eval().states(ids))
    torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3", "qwen3"])
def test_a_common_beginning_is_worked_through_once_and_exactly(family: str, tmp_path: Path) -> None:
    network, _ = build(str(tiny_model(family, tmp_path)), max_length=200)
    ids = _sequences(3)
    start = ids[1]
    pairs = [np.concatenate([start, ids[4]]), np.concatenate([start, ids[0]]), ids[3], ids[5]]
    shared = [len(start), len(start), 0, 0]
    with torch.inference_mode():
        wanted = torch.cat([network.eval()([one]) for one in pairs])
        torch.testing.assert_close(network(pairs, shared), wanted, atol=1e-5, rtol=0)
    packed = pack(pairs, shared=shared)
    assert packed.tokens == sum(map(len, pairs)) - len(start)
    assert packed.shares


def test_sharing_teaches_what_not_sharing_does(tmp_path: Path) -> None:
    base = str(tiny_model("llama", tmp_path))
    start, a, b = _sequences(4, (20, 9, 6))
    pair = [np.concatenate([start, a]), np.concatenate([start, b])]
    slopes = []
    for shared in (None, [20, 20]):
        network, _ = build(base, max_length=64)
        network(pair, shared).square().sum().backward()
        slopes.append({name: w.grad for name, w in network.named_parameters()})
    for name, slope in slopes[0].items():
        torch.testing.assert_close(slopes[1][name], slope, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "bert", "modernbert"])
def test_packed_teaches_what_padded_does_checkpointed_or_not(family: str, tmp_path: Path) -> None:
    base = str(tiny_model(family, tmp_path, **_without_dropout(family)))
    ids = _sequences(5, (8, 31, 2))
    slopes = []
    for kind, checkpointed in (("padded", False), ("packed", False), ("packed", True)):
        network, _ = build(base, max_length=64, attention=kind)
        network.train().checkpoint(checkpointed)
        network(ids).square().sum().backward()
        slopes.append({name: w.grad for name, w in network.named_parameters()})
    for other in slopes[1:]:
        for name, slope in slopes[0].items():
            torch.testing.assert_close(other[name], slope, atol=1e-5, rtol=1e-3)


def test_an_encoder_shares_nothing(tmp_path: Path) -> None:
    network, _ = build(str(tiny_model("bert", tmp_path)), max_length=64)
    assert not network.shares
    ids = _sequences(6, (9, 9))
    ids[1][:5] = ids[0][:5]
    with torch.inference_mode():
        network.eval()
        torch.testing.assert_close(network(ids, [5, 5]), network(ids), atol=0, rtol=0)
        with pytest.raises(ValueError, match="causal"):
            network(pack(ids, shared=[5, 5]))


def test_half_precision_is_near(tmp_path: Path) -> None:
    base = str(tiny_model("qwen2", tmp_path))
    ids = _sequences(7)
    with torch.inference_mode():
        exact = build(base, max_length=200)[0].eval()(ids)
        near = build(base, max_length=200, dtype=torch.bfloat16)[0].eval()(ids)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, atol=0.05, rtol=0)


def test_autocast_reaches_the_kernels_in_half_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _ = build(str(tiny_model("llama", tmp_path)), max_length=64)
    seen = set()
    true = attention.kernel_for
    monkeypatch.setattr(
        attention, "kernel_for", lambda query, *rest: seen.add(query.dtype) or true(query, *rest)
    )
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        network.eval()(_sequences(8, (9, 4)))
    assert seen == {torch.bfloat16}


# --- the layout -----------------------------------------------------------------------------------


def test_where_pieces_lie() -> None:
    ids = [np.arange(10), np.concatenate([np.arange(6), np.array([50])]), np.arange(3)]
    packed = pack(ids, shared=[6, 6, 0])
    assert packed.layout.lengths == (6, 4, 1, 3)
    assert packed.layout.parents == (-1, 0, 0, -1)
    assert packed.layout.reach == (6, 10, 7, 3)
    assert packed.ids.tolist() == [*range(10), 50, *range(3)]
    assert packed.positions.tolist() == [*range(10), 6, *range(3)]
    assert packed.last().tolist() == [9, 10, 13]
    assert packed.first().tolist() == [0, 0, 11]
    assert packed.layout.seen is not None
    assert packed.layout.seen.tolist() == [*range(6), *range(10), *range(6), 10, *range(11, 14)]


def test_each_keeps_a_token_of_its_own() -> None:
    packed = pack([np.arange(4), np.arange(4)], shared=[4, 4])
    assert packed.layout.lengths == (3, 1, 1)


@pytest.mark.parametrize("ids", [[], [np.arange(3), np.arange(0)]])
def test_nothing_cannot_be_packed(ids: list[Any]) -> None:
    with pytest.raises(ValueError, match="nothing to pack"):
        pack(ids)


# --- attention by itself --------------------------------------------------------------------------


def _dense(
    q: Any, k: Any, v: Any, layout: Layout, causal: bool, window: int | None, softcap: float | None
) -> Any:
    """Attention over the whole row with a mask of who sees whom, in float64."""
    total = sum(layout.lengths)
    piece = np.repeat(np.arange(len(layout.lengths)), layout.lengths)
    parents = np.array(layout.parents)
    offset = [0 if p < 0 else layout.lengths[p] for p in layout.parents]
    place = np.concatenate([np.arange(n) + o for n, o in zip(layout.lengths, offset, strict=True)])
    ahead = place[:, None] - place[None, :]
    sees = (piece[:, None] == piece[None]) | (parents[piece][:, None] == piece[None])
    if causal:
        sees &= ahead >= 0
    if window is not None:
        sees &= np.abs(ahead) < window
    groups = q.shape[1] // k.shape[1]
    q, k, v = (one[0].double() for one in (q, k, v))
    k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
    scores = q @ k.transpose(1, 2) * 0.3
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    assert scores.shape[-1] == total
    scores = scores.masked_fill(~torch.from_numpy(sees), -torch.inf)
    return (torch.softmax(scores, -1) @ v).transpose(0, 1)[None]


_LAYOUTS = st.sampled_from(
    [
        Layout((1,), (-1,)),
        Layout((3, 9, 1), (-1, -1, -1)),
        Layout((5, 7, 2, 4), (-1, 0, 0, -1)),
        Layout((2, 1, 1), (-1, 0, 0)),
    ]
)


@given(
    layout=_LAYOUTS,
    heads=st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    window=st.sampled_from([None, 1, 3, 100]),
    softcap=st.sampled_from([None, 1.5]),
    causal=st.booleans(),
    block=st.sampled_from([1, 3, 256]),
    seed=st.integers(0, 2**31),
)
def test_attention_is_that_of_a_mask_over_the_row(
    layout: Layout,
    heads: tuple[int, int],
    window: int | None,
    softcap: float | None,
    causal: bool,
    block: int,
    seed: int,
) -> None:
    causal = causal or max(layout.parents) >= 0  # only causal models share
    rng = np.random.default_rng(seed)

    def drawn(count: int) -> Any:
        made = rng.normal(0, 2, (1, count, sum(layout.lengths), 8)).astype(np.float32)
        return torch.from_numpy(made)

    q, k, v = drawn(heads[0]), drawn(heads[1]), drawn(heads[1])
    wanted = _dense(q, k, v, layout, causal, window, softcap)
    module = SimpleNamespace(is_causal=causal)
    options: dict[str, Any] = {"scaling": 0.3, "sliding_window": window, "softcap": softcap}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(attention, "_ROWS", block)
        found, _ = attention.attend(module, q, k, v, None, layout=layout, **options)
    layout.kept.clear()
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-4)
    # The kernels that take all pieces at once are told the same.
    rows = {
        "_flash_attn": lambda *args, **named: _as_flash_attn(*args, **named),
        "_torch_varlen": lambda *args, **named: _as_varlen(*args, **named),
    }
    rule = attention.Rule(0.3, causal, window, softcap)
    with pytest.MonkeyPatch.context() as patched:
        for name, function in rows.items():
            patched.setattr(attention, name, lambda function=function: function)
        flash = attention._flash(q, k, v, layout, rule)
        torch.testing.assert_close(flash.double(), wanted, atol=1e-5, rtol=1e-4)
        if softcap is None:
            varlen = attention._varlen(q, k, v, layout, rule)
            torch.testing.assert_close(varlen.double(), wanted, atol=1e-5, rtol=1e-4)


def _as_flash_attn(
    q: Any,
    k: Any,
    v: Any,
    ends_q: Any,
    ends_k: Any,
    most_q: int,
    most_k: int,
    *,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size: tuple[int, int],
    softcap: float,
) -> Any:
    """What flash_attn_varlen_func is documented to do: pieces end together, at the bottom right."""
    assert ends_q.dtype == ends_k.dtype == torch.int32
    assert not dropout_p
    assert not causal or window_size[1] == 0
    outputs = []
    for piece in range(len(ends_q) - 1):
        mine = slice(int(ends_q[piece]), int(ends_q[piece + 1]))
        seen = slice(int(ends_k[piece]), int(ends_k[piece + 1]))
        one, keys, values = q[mine].double(), k[seen].double(), v[seen].double()
        assert len(one) <= most_q
        assert len(keys) <= most_k
        keys, values = (x.repeat_interleave(one.shape[1] // x.shape[1], 1) for x in (keys, values))
        scores = torch.einsum("qhd,khd->hqk", one, keys) * softmax_scale
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        rows = torch.arange(len(one))[:, None] + len(keys) - len(one)
        ahead = rows - torch.arange(len(keys))[None]
        left, right = window_size
        hidden = torch.zeros_like(ahead, dtype=torch.bool)
        hidden = hidden | (ahead > left) if left >= 0 else hidden
        hidden = hidden | (ahead < -right) if right >= 0 else hidden
        shares = torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)
        outputs.append(torch.einsum("hqk,khd->qhd", shares, values))
    return torch.cat(outputs).to(q.dtype)


def _as_varlen(
    q: Any,
    k: Any,
    v: Any,
    ends_q: Any,
    ends_k: Any,
    most_q: int,
    most_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Any:
    """What torch.nn.attention.varlen.varlen_attn is documented to do."""
    assert enable_gqa == (q.shape[1] != k.shape[1])
    return _as_flash_attn(
        q,
        k,
        v,
        ends_q,
        ends_k,
        most_q,
        most_k,
        dropout_p=0.0,
        softmax_scale=scale,
        causal=window_size[1] == 0,
        window_size=window_size,
        softcap=0.0,
    )


def test_no_mask_is_as_large_as_the_row(tmp_path: Path) -> None:
    # 300 sequences with windows: a mask over all of them would have 81 million entries.
    network, _ = build(str(tiny_model("gemma3_text", tmp_path)), max_length=64)
    packed = pack(_sequences(9, (30,) * 300))
    with torch.inference_mode():
        network.eval()(packed)
    assert packed.layout.kept  # windows are narrower than 30
    assert max(mask.numel() for mask in packed.layout.kept.values()) <= 30 * 30
    assert len(packed.layout.kept) <= 2


def test_what_is_not_known_of_attention_is_refused() -> None:
    q = torch.zeros(1, 1, 2, 8)
    layout = Layout((2,), (-1,))
    for others in ({}, {"layout": layout, "position_bias": q}, {"layout": layout, "s_aux": q}):
        with pytest.raises(ArenaJudgeError, match="cannot be packed"):
            attention.attend(torch.nn.Identity(), q, q, q, None, **others)


def test_a_family_that_does_not_pack_says_so(tmp_path: Path) -> None:
    base = str(tiny_model("deberta-v2", tmp_path))
    with pytest.raises(ArenaJudgeError) as caught:
        build(base, attention="packed")
    assert "\n" not in str(caught.value)
    assert "padded" in str(caught.value) or "packing" in str(caught.value)


def test_states_are_as_wide_as_the_model(tmp_path: Path) -> None:
    network, _ = build(str(tiny_model("electra", tmp_path)), max_length=64)
    with torch.inference_mode():
        assert network.eval().states(_sequences(1)[:2]).shape == (2, HIDDEN)


def _without_dropout(family: str) -> dict[str, float]:
    if family != "bert":
        return {}
    return {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
