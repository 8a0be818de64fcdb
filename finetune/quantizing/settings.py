"""What may be asked of quantising, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from judge.errors import InputError

if TYPE_CHECKING:
    from finetune.measuring.worth import Worth

HOWS = ("auto", "gptq", "nearest", "w8a8", "bitsandbytes")


@dataclass(frozen=True)
class Settings:
    """What the user may say.

    Attributes:
        bits: 8 or 4 of a weight.
        how: one of `HOWS`; `auto` is GPTQ, or bitsandbytes for models that it cannot take.
        texts: to calibrate by.
        group: columns of a weight that share a scale.
        seed: of what is drawn.
        device: where; by default the first GPU, or the processor.
        dtype: that the model is computed in meanwhile; `auto` is float32 on processors.
    """

    bits: int = 8
    how: str = "auto"
    texts: int = 128
    group: int = 128
    seed: int = 0
    device: str | None = None
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """
        Raises:
            InputError: a value that cannot be.
        """
        if self.how not in HOWS:
            raise InputError(f"{self.how!r} is no way to quantise", mend=f"take {', '.join(HOWS)}")
        if self.bits not in (4, 8):
            raise InputError(f"{self.bits} bits are not known", mend="take 8 or 4")
        if self.how == "w8a8" and self.bits != 8:
            raise InputError("w8a8 is 8 bits", mend="take --bits 8, or another way")
        if self.texts < 1 or self.group < 8 or self.group % 8:
            raise InputError("texts are from 1, and groups of columns from 8, by the eight")


@dataclass(frozen=True)
class Quantized:
    """A judge that was quantised.

    Attributes:
        folder: where it is.
        how: what was done, `gptq` say.
        scheme: in short, `W8A16` say.
        layers: matrices in few bits; `kept` linear ones that are as they were.
        texts: that it was calibrated by, and the tokens of them.
        before, after: bytes of weights on the disk; `half` what 16 bits a weight would take.
        worth: what it was worth before and after; None where that was not measured.
    """

    folder: Path
    how: str
    scheme: str
    layers: int
    kept: int
    texts: int
    tokens: int
    before: int
    after: int
    half: int
    worth: Worth | None = None
