"""Several servers that share the load: which one is asked next, and which is left out."""

from __future__ import annotations

import math
import random
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from judge.engines.limits import AdaptiveLimit, backoff
from judge.engines.transport import Target, plain_name
from judge.engines.wire import Dialect

_REMEMBERED = 4096  # prefixes whose server is known
_SLACK = 4  # calls more than the least busy server that a prefix's own may have
_FAULTS = 8  # server errors in a row after which a server is left out
_FIRST_REST, _LONGEST_REST = 1.0, 60.0  # seconds that one is left out for
_CROWDED = 0.5  # share of calls refused from which on all calls wait, not just the refused


@dataclass
class Standing:
    """How a server stands to one model.

    Attributes:
        proven: whether a reply has come; until then one call is sent at a time.
        failures: server errors before the first reply.
        foreign: answers in a row that were whole and no replies.
        denials: calls in a row that it would not serve, after those that it did.
        refusal: why it never serves the model at all; empty if it may.
    """

    proven: bool = False
    failures: int = 0
    foreign: int = 0
    denials: int = 0
    refusal: str = ""


@dataclass(eq=False)
class Server:
    """One base URL, asked with one key: limits are by key.

    Attributes:
        target: where it is, and the key.
        limit: how many calls it may have at once.
        dialects: what it takes, by model; the same with every key.
        one_of_several: whether the URL is asked with other keys as well.
        outstanding: how many calls it has.
        standings: how it stands to each model.
        resumes: the time before which it is sent nothing.
        alive: whether the last that was heard of it is good; one call at a time until then.
        heard: whether it ever answered anything.
        rests: how often in a row it was left out.
        faults: server errors in a row.
        crowded: the share of its last calls that it had too much to do for.
    """

    target: Target
    limit: AdaptiveLimit
    dialects: dict[str, Dialect] = field(default_factory=dict)
    one_of_several: bool = False
    outstanding: int = 0
    standings: dict[str, Standing] = field(default_factory=dict)
    resumes: float = -math.inf
    alive: bool = True
    heard: bool = False
    rests: int = 0
    faults: int = 0
    crowded: float = 0.0

    @property
    def place(self) -> str:
        """How it is called in messages that hold for any key."""
        return plain_name(self.target.url)

    @property
    def name(self) -> str:
        """How it is called in messages."""
        return f"{self.place} with {self.target.variable}" if self.one_of_several else self.place

    def dialect(self, model: str) -> Dialect:
        """What it takes for a model; kept for as long as the engine is."""
        return self.dialects.get(model) or self.dialects.setdefault(model, Dialect())

    def standing(self, model: str) -> Standing:
        """How it stands to a model."""
        return self.standings.get(model) or self.standings.setdefault(model, Standing())

    def room(self, model: str) -> int:
        """How many more calls it may have; one at a time until it is known to answer."""
        standing = self.standing(model)
        if standing.refusal:
            return 0
        return (self.limit.now if self.alive and standing.proven else 1) - self.outstanding

    def well(self, sent: float, now: float) -> None:
        """It gave a reply."""
        self.alive = self.heard = True
        self.rests = self.faults = 0
        self.crowded *= 0.8
        self.limit.answered(sent, now)

    def busy(self, sent: float, now: float) -> None:
        """It had too much to do."""
        self.heard = True
        self.crowded += 0.2 * (1 - self.crowded)
        self.limit.refused(sent, now)

    def faulty(self, now: float, draws: random.Random) -> None:
        """It answered with an error of its own."""
        self.heard = True
        self.faults += 1
        if self.faults >= _FAULTS:
            self.rest(now, draws)

    def rest(self, now: float, draws: random.Random) -> None:
        """It is left out for a while, longer each time. Calls that fail together count once."""
        if now < self.resumes and not self.alive:
            return
        self.alive = False
        self.resumes = (
            now + _FIRST_REST / 2 + backoff(self.rests, draws, _FIRST_REST, _LONGEST_REST)
        )
        self.rests += 1

    @property
    def overrun(self) -> bool:
        """Whether it refuses so many calls that others are better not sent either."""
        return self.crowded >= _CROWDED

    def pause(self, until: float) -> None:
        """It is sent nothing until then."""
        self.resumes = max(self.resumes, until)


class Pool:
    """The servers of an engine.

    Attributes:
        servers: they.
        denial: what the last said that would not serve any more, until one does.
    """

    def __init__(self, targets: Sequence[Target], concurrency: int) -> None:
        keys = Counter(target.url for target in targets)
        dialects: dict[str, dict[str, Dialect]] = {url: {} for url in keys}
        self.servers = [
            Server(target, AdaptiveLimit(concurrency), dialects[target.url], keys[target.url] > 1)
            for target in targets
        ]
        self.denial = ""
        self._down_since: dict[str, float] = {}
        self._tired: set[str] = set()
        self._answered = -math.inf
        self._homes: OrderedDict[str, Server] = OrderedDict()

    def choose(self, model: str, prefix: str, avoid: Server | None, now: float) -> Server | None:
        """The server for a call, None if there is room nowhere: the one with the fewest calls
        outstanding, or the one that had the prefix, which it has in its cache, if that is hardly
        busier. `avoid`, where the call failed before, is only asked if there is no other."""
        ready = [s for s in self.servers if s.resumes <= now and s.room(model) > 0]
        if avoid is not None and len(ready) > 1 and avoid in ready:
            ready.remove(avoid)
        if not ready:
            return None
        best = min(ready, key=lambda server: server.outstanding)
        if prefix and len(self.servers) > 1:
            home = self._homes.get(prefix)
            if home in ready and home.outstanding <= best.outstanding + _SLACK:
                best = home
            self._homes[prefix] = best
            self._homes.move_to_end(prefix)
            if len(self._homes) > _REMEMBERED:
                self._homes.popitem(last=False)
        return best

    def next_change(self, now: float) -> float | None:
        """When the next server may be asked again that may not be now; None if none is waited
        for."""
        times = [s.resumes for s in self.servers if s.resumes > now]
        return min(times, default=None)

    def down(self, model: str) -> bool:
        """Whether no server that a model may be asked for at is known to be there."""
        return not any(server.alive for server in self.open_to(model))

    def down_for(self, model: str, now: float) -> float:
        """For how many seconds that is so, as far as was seen."""
        return now - self._down_since.setdefault(model, now) if self.down(model) else 0.0

    def tired(self, model: str, since: float) -> None:
        """Patience with a call that was refused ever since then is at an end."""
        if self._answered < since:
            self._tired.add(model)

    def worth_waiting(self, model: str) -> bool:
        """Whether a call that is refused may be taken yet, as far as was seen: not where servers
        refused another for as long as there is patience, and took none since."""
        return model not in self._tired

    def well(self, now: float) -> None:
        """One of them gave a reply."""
        self._answered = now
        self._down_since.clear()
        self._tired.clear()
        self.denial = ""

    def heard(self, model: str) -> bool:
        """Whether any server that a model may be asked for at ever answered."""
        return any(server.heard for server in self.open_to(model))

    def known(self, model: str) -> bool:
        """Whether a model may be asked for anywhere."""
        return bool(self.open_to(model))

    def proven(self, model: str) -> bool:
        """Whether a model ever gave a reply."""
        return any(server.standing(model).proven for server in self.servers)

    def open_to(self, model: str) -> list[Server]:
        """The servers that a model may be asked for at."""
        return [server for server in self.servers if not server.standing(model).refusal]
