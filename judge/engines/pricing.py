"""What tokens cost, from a file that the user can edit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from judge.engines.base import Request, Usage
from judge.errors import InputError

SHIPPED = Path(__file__).with_name("prices.yaml")

_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
_FORM = "write `models:` and under it a line such as `my-model: {prompt: 0.15, completion: 0.60}`"
_MESSAGE_TOKENS = 4  # what a chat template puts round a message

Counter = Callable[[str], int]


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens, and the share of them that is paid in a batch."""

    prompt: float
    cached: float
    completion: float
    batch: float = 1.0

    @property
    def batched(self) -> Price:
        """The price of what is asked through the host's batches."""
        return replace(
            self,
            prompt=self.prompt * self.batch,
            cached=self.cached * self.batch,
            completion=self.completion * self.batch,
            batch=1.0,
        )

    def cost(self, usage: Usage) -> float:
        """Dollars of a call."""
        fresh = usage.prompt - usage.cached
        return (
            fresh * self.prompt + usage.cached * self.cached + usage.completion * self.completion
        ) / 1e6


class Prices:
    """Prices by the model's name."""

    def __init__(self, models: Mapping[str, Price]) -> None:
        self._models = {name.lower(): price for name, price in models.items()}

    def find(self, model: str) -> Price | None:
        """The price of a model, with or without a date and a provider's name; None if unknown."""
        name = model.lower()
        for known in (name, _DATE.sub("", name), _DATE.sub("", name.rpartition("/")[2])):
            if known in self._models:
                return self._models[known]
        return None


def load_prices(file: str | Path | None = None) -> Prices:
    """The prices that ship with the package; those in `file` add to them and go before them.

    Raises:
        InputError: the file is not there, or not of the form of prices.yaml.
    """
    models = dict(_shipped())
    if file is not None:
        models.update(_read(Path(file)))
    return Prices(models)


@cache
def _shipped() -> Mapping[str, Price]:
    return _read(SHIPPED)


def _read(file: Path) -> dict[str, Price]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", file=file, mend="name a file of prices"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError("is not YAML", file=file, mend=_FORM) from error
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, dict):
        raise InputError("has no prices", file=file, mend=_FORM)
    return {str(name): _price(file, str(name), entry) for name, entry in models.items()}


def _price(file: Path, name: str, entry: object) -> Price:
    numbers = entry if isinstance(entry, dict) else {}
    numbers = {"cached": numbers.get("prompt"), "batch": 1.0, **numbers}
    if (
        set(numbers) != {"prompt", "cached", "completion", "batch"}
        or not all(map(_is_price, numbers.values()))
        or numbers["batch"] > 1
    ):
        raise InputError(f"the price of {name} cannot be read", file=file, mend=_FORM)
    return Price(**{key: float(value) for key, value in numbers.items()})


def _is_price(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 <= value < math.inf


def prompt_tokens(request: Request, count: Counter | None = None) -> int:
    """Tokens of a prompt: counted where a counter is given, else a quarter of its UTF-8 bytes."""
    return sum(
        _MESSAGE_TOKENS + (count or approximate_tokens)(message.content)
        for message in request.messages
    )


def approximate_tokens(text: str) -> int:
    """A quarter of the UTF-8 bytes, rounded up: near enough in most scripts to plan with."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return (size + 3) // 4
