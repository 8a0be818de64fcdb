"""What a fine-tuned network is, as judge.yaml says it: what it began as and what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from judge.errors import InputError

FORMS = ("pair", "single")
HEADS = ("plain", "symmetric")
POOLINGS = ("mean", "cls", "last")


@dataclass(frozen=True)
class Shape:
    """What a network is.

    Attributes:
        base: the model that it began as: a folder, or a name on the hub.
        family: the base's model type, such as `llama` or `modernbert`.
        form: `pair`: a sequence holds both responses; `single`: one of them.
        head: `plain`: three logits of a sequence; `symmetric`: of two sequences, in the Davidson
            form, so that exchanging the two exchanges the first two logits.
        pooling: what of a sequence the head sees: the `mean` of all tokens, the first (`cls`), or
            the `last`.
        template: the name of the template that battles are written in.
        max_length: the most tokens of a sequence.
        policy: what is left out of longer battles.
        dropout: of what the head sees, in training.
        width: of the head's hidden layer; 0 for a linear one.
    """

    base: str
    family: str
    form: str
    head: str
    pooling: str
    template: str
    max_length: int
    policy: str
    dropout: float = 0.0
    width: int = 0

    def __post_init__(self) -> None:
        """
        Raises:
            InputError: a value that cannot be, or a head that the form has no use for.
        """
        for name, allowed in (("form", FORMS), ("head", HEADS), ("pooling", POOLINGS)):
            if getattr(self, name) not in allowed:
                found = getattr(self, name)
                raise InputError(f"{found!r} is no {name}", mend=f"it is {' or '.join(allowed)}")
        if self.form == "single" and self.head != "symmetric":
            raise InputError(
                "a plain head would see only one of the responses in the form single",
                mend="take the symmetric head, or the form pair",
            )
        if self.max_length < 8:
            raise InputError(f"{self.max_length} tokens hold no battle", mend="raise max_length")
        if not 0.0 <= self.dropout < 1.0 or self.width < 0:
            raise InputError("dropout is from 0 to below 1, and width not below 0")

    @property
    def sequences(self) -> int:
        """How many sequences the head concludes from: 1, or 2 that belong together."""
        return 2 if self.head == "symmetric" else 1

    def to_settings(self) -> dict[str, Any]:
        """The same for a judge.yaml."""
        return asdict(self)


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
}


def shape_of(settings: Mapping[str, Any], file: Path) -> Shape:
    """The shape that a judge.yaml states; what else it says is left aside.

    Raises:
        InputError: something is missing or cannot be.
    """
    values: dict[str, Any] = {}
    for field in fields(Shape):
        if field.name not in settings:
            if field.name in ("dropout", "width"):
                continue
            raise InputError(f"does not say its {field.name}", file=file, mend="make it anew")
        value = settings[field.name]
        if not isinstance(value, _TYPES[str(field.type)]) or isinstance(value, bool):
            raise InputError(f"has a {field.name} that cannot be", file=file)
        values[field.name] = value
    try:
        return Shape(**values)
    except InputError as error:
        raise InputError(str(error), file=file) from None
