"""How fast to ask, and for how much: concurrency that adapts, rates a minute, dollars, and how long
to wait after a failure.

Clocks are arguments, in seconds, so that nothing here waits or looks at the time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_ROUND = 32  # outcomes after which a limit is looked at again, at most
_START = 32  # calls at once, to begin with
_SLOWER = 8.0  # times the quickest time of a call at which a limit is no longer raised


class AdaptiveLimit:
    """How many calls a server may have at once: up after success, down after refusal.

    Doubles every round trip until the first refusal, then goes up by a fixed step a round and down
    by half of the share of calls refused in it: by half where all were refused, as TCP does, and by
    little where a few were, as DCTCP does (RFC 8257), so that a server that fails now and then is
    not taken for one that is overrun. Where calls take `_SLOWER` times as long as they did at their
    quickest, they wait in the server's queue; then the limit stays, and at twice that it goes down.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._limit = float(min(most, _START))
        self._step = max(1.0, most / 64)
        self._begun = -math.inf  # calls sent earlier belong to a limit that is no more
        self._climbing = True
        self._seen = self._refused = 0
        self._quickest = self._recent = math.nan

    @property
    def now(self) -> int:
        """The limit as it stands; 1 at least."""
        return int(self._limit)

    def answered(self, sent: float, now: float) -> None:
        """A call that was sent at `sent` succeeded."""
        seconds = now - sent
        if math.isnan(self._recent):
            self._quickest = self._recent = seconds
        self._recent += (seconds - self._recent) / 16
        # It drifts up, for a first answer out of a cache is no measure of those that follow.
        self._quickest = min(self._quickest * (1 + 1 / 4096), self._recent)
        if self._climbing and self._recent < _SLOWER * self._quickest:
            self._limit = min(self._limit + 1, self._most)
        self._count(False, sent, now)

    def refused(self, sent: float, now: float) -> None:
        """A call that was sent at `sent` met a server that had too much to do."""
        self._climbing = False
        self._count(True, sent, now)

    def _count(self, refused: bool, sent: float, now: float) -> None:
        if sent < self._begun:
            return
        self._seen += 1
        self._refused += refused
        if self._seen < min(self.now, _ROUND):
            return
        share = self._refused / self._seen
        slow = self._recent / self._quickest if self._quickest > 0 else 1.0
        if share > 0:
            self._limit *= 1 - share / 2
        elif slow > 2 * _SLOWER:
            self._limit *= 0.9
        if share > 0 or slow > 2 * _SLOWER:
            self._begun = now
        if share < 0.5 and not self._climbing and not slow > _SLOWER:
            self._limit += self._step
        self._limit = min(max(self._limit, 1.0), self._most)
        self._seen = self._refused = 0


class Rate:
    """So much a minute, evenly: a token bucket that holds what comes in a second.

    What is more than the bucket holds may be taken when it is full, and is waited for afterwards.
    Infinity is no limit.
    """

    def __init__(self, a_minute: float) -> None:
        self._a_second = a_minute / 60
        self._holds = max(1.0, self._a_second)
        self._level = self._holds
        self._filled = -math.inf

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much may be taken; 0 for now."""
        if math.isinf(self._a_second):
            return 0.0
        if now > self._filled:
            passed = now - self._filled
            self._level = min(self._holds, self._level + passed * self._a_second)
            self._filled = now
        return max(0.0, (min(amount, self._holds) - self._level) / self._a_second)

    def take(self, amount: float) -> None:
        """Takes, or with a negative amount gives back what was not used after all."""
        self._level = min(self._holds, self._level - amount)


class Budget:
    """Dollars: what was spent, and what is set aside for calls that are under way.

    Args:
        most: that may be spent; None for no limit.
    """

    def __init__(self, most: float | None) -> None:
        self._most = math.inf if most is None else most
        self._spent = self._held = self._promised = 0.0

    def share(self, promised: float) -> float | None:
        """What to set aside for a call that is estimated to cost so much; None if it is not there.
        Where estimates have been too low so far, it is more by as much."""
        if math.isinf(self._most):
            return 0.0
        short = max(1.0, self._spent / self._promised) if self._promised else 1.0
        return (
            promised * short if self._spent + self._held + promised * short <= self._most else None
        )

    def hold(self, amount: float) -> None:
        """Sets aside, or with a negative amount gives back."""
        self._held += amount

    def pay(self, cost: float, promised: float) -> None:
        """Pays for a call that was estimated to cost `promised`."""
        self._spent += cost
        self._promised += promised


def backoff(attempt: int, draws: random.Random, first: float, longest: float) -> float:
    """Seconds to wait before another attempt: exponential with full jitter, which spreads calls
    that failed together (Brooker, "Exponential backoff and jitter", 2015)."""
    return draws.uniform(0, min(longest, first * 2 ** min(attempt, 30)))


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header, a number or a date, asks to wait; None if unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait; None if it does not say."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        return retry_after(headers.get("retry-after"))
