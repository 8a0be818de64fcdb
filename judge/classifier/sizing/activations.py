"""What a training step keeps of each token for its backward pass, and what it needs besides.

The numbers below were counted: they are the tensors that autograd saves in a block of each family
when packed rows go through `judge.classifier.network`, as `saved_tensors_hooks` of torch shows
them. tests/judge/classifier/sizing/test_memory_real.py counts them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from judge.classifier.sizing.anatomy import Anatomy, Linear

_SPLIT_NORMS = ("qwen3", "gemma3_text")  # queries and keys are normalised
_FUSED = ("phi3", "modernbert")  # queries, keys and values are one tensor
_ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")


@dataclass(frozen=True)
class Kept:
    """Bytes kept for the backward pass.

    Attributes:
        token: of each token in each block.
        pair: of each token in each block, for each token that it looks at.
        block: of each block, whatever the tokens.
        ends: of each token, once: before the first block and after the last.
    """

    token: float
    pair: float
    block: float
    ends: float


def kept(
    anatomy: Anatomy,
    size: int,
    *,
    adapted: tuple[Linear, ...] | None,
    r: int = 0,
    cuda: bool = False,
) -> Kept:
    """What is kept without checkpointing.

    Args:
        anatomy: of the model.
        size: bytes of the numbers that are computed in: 2 or 4.
        adapted: the linear layers with adapters; None where all weights learn.
        r: the adapters' rank.
        cuda: whether it runs on a GPU, where attention keeps no scores for dropout and dropout
            keeps a byte a number.
    """
    layers = anatomy.linears if adapted is None else adapted
    if anatomy.causal or anatomy.family == "modernbert":
        token = _before(anatomy, size, layers, full=adapted is None, cuda=cuda)
    else:
        token = _after(anatomy, size, full=adapted is None, cuda=cuda)
    if adapted is not None:
        token += size * r * len(adapted)
    pair, block = _scores(anatomy, size, cuda=cuda)
    return Kept(token, pair, block, 4.0 * 3 * anatomy.hidden)


def _before(a: Anatomy, size: int, layers: tuple[Linear, ...], *, full: bool, cuda: bool) -> float:
    """Blocks that normalise what goes into them."""
    h, q, kv, f = a.hidden, a.heads * a.head_dim, a.kv_heads * a.head_dim, a.inner
    readers = [one for one in layers if one.inputs == h and not _closing(one)]
    reads = min(2, len(readers)) if size == 4 else len(readers)
    norms = a.norms
    if a.family == "modernbert":
        # LayerNorm keeps what goes in; the scale's gradient needs no more.
        hidden = 4 * norms * h + size * reads * h
    else:
        # RMSNorm is worked out in float32; where its scale learns, what it scales is kept too.
        hidden = 4 * norms * h * (2 if full else 1) + size * reads * h
    # What attention reads and writes, and on processors its pieces put together.
    wide = 3.0 * q if not cuda else 2.0 * q
    narrow = 2.0 * kv
    if a.softcap:  # in blocks, keys and values repeated for all heads
        wide, narrow = 4.0 * q, 0.0
    if a.family in _FUSED:
        wide, narrow = wide + q, narrow + kv
    attention = size * (wide + narrow)
    if a.family in _SPLIT_NORMS:
        attention += (4 + (size if full else 0)) * (q + kv)
    closing = any(one.inputs == f for one in layers)
    return hidden + attention + size * f * (4 if closing else 3)


def _closing(one: Linear) -> bool:
    """Whether a layer is the last of the attention or of the feed-forward part."""
    return one.name.split(".")[-1] in ("o_proj", "Wo", "down_proj")


def _after(a: Anatomy, size: int, *, full: bool, cuda: bool) -> float:
    """Blocks that normalise what comes out of them, as BERT's do."""
    h, f = a.hidden, a.inner
    noise = (1 if cuda else size) * 2 * h if a.dropout else 0
    sums = (4 if full else size) * 2 * h
    # Queries, keys, values, what attention gives, and two normalised.
    states = 8 if a.relative else 6
    if size == 2 and not a.relative:
        states += 2
    # How each token goes with each relative position, and the other way round.
    places = 2 * a.heads * a.positions
    return float(noise + sums + size * (states * h + 2 * f + places))


def _scores(a: Anatomy, size: int, *, cuda: bool) -> tuple[float, float]:
    """Bytes a token and token that it looks at, and of a block."""
    noise = (1 if cuda else size) if a.dropout else 0
    if a.softcap:
        # tanh's, softmax's in float32, and where numbers are shorter its copy; the mask is 1 byte.
        return a.heads * (size + 4 + (size if size == 2 else 0)) + 1.0, 0.0
    if a.relative:
        # softmax's, dropped ones, noise, two indices of 8 bytes for all heads together.
        pairs = a.heads * (size * (2 if a.dropout else 1) + noise) + 17.0
        return pairs, 2.0 * size * 2 * a.positions * a.hidden
    if a.family in _ENCODERS and not cuda:
        # softmax's and what was dropped (see `judge.classifier.products`).
        return a.heads * float(size + noise), 0.0
    return 0.0, 0.0


def passing(anatomy: Anatomy, size: int, *, training: bool) -> tuple[float, float]:
    """Bytes of what comes and goes while one block is worked through: of each token, and of each
    token and token that it looks at."""
    h, f = anatomy.hidden, anatomy.inner
    q = anatomy.heads * anatomy.head_dim
    halves = 2 if anatomy.gated else 1
    token = size * ((halves + 1) * f + 2 * h) + 4 * 2 * h
    if not training:
        token = max(token, size * (4 * q + 2 * h) + 4 * h)
    pair = 0.0
    if anatomy.relative:
        pair = anatomy.heads * (3.0 * size + 4)
    elif anatomy.softcap:
        pair = anatomy.heads * (2.0 * size + 4)
    return float(token), pair
