"""What a request may be, and how much of them all is held at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from judge.errors import InputError
from judge.service.refusals import Refused

MEBIBYTE = 1 << 20

# Bodies held at once, in bodies of the largest size: read, waiting and being judged.
_BODIES_HELD = 8


@dataclass(frozen=True)
class Limits:
    """Bounds of a request and of the service.

    Attributes:
        body: bytes of a request's body.
        battles: battles a request.
        characters: characters a battle, all turns together.
        queue: battles that may wait; further requests get 429.
        batch: battles that are judged at once; a larger request is judged by itself.
        delay: seconds that a batch waits for company, at most, while there is a crowd.
        body_seconds: how long a body may take to arrive.

    Raises:
        InputError: bounds that contradict one another.
    """

    body: int = 8 * MEBIBYTE
    battles: int = 256
    characters: int = 400_000
    queue: int = 4096
    batch: int = 128
    delay: float = 0.005
    body_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.queue < self.battles:
            raise InputError(
                f"a queue of {self.queue} has no room for a request of {self.battles} battles",
                mend="raise --queue or lower --max-battles",
            )

    @property
    def held(self) -> int:
        """Bytes of bodies held at once."""
        return _BODIES_HELD * self.body


class Intake:
    """Counts the bytes of the requests that are being read, waiting or judged, so that a crowd of
    large ones does not fill the memory before any of them is in the queue."""

    def __init__(self, most: int) -> None:
        self._left = most

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Gives a function that sets bytes aside until the block ends; it raises `Refused` (429)
        where there are not so many left."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if size > self._left:
                message = "too much text is waiting already"
                raise Refused(429, "busy", message, mend="ask later", retry_after=1)
            self._left -= size
            held += size

        try:
            yield take
        finally:
            self._left += held
