"""Whether a run against a server that fails, killed several times, ends as an undisturbed one does.

    python -m scripts.bench.faults [--battles 2000] [--kills 5] [--concurrency 64] [--json]

Scores made-up battles by `arena-judge score --judge endpoint:...`, once against a server without
faults, and once against `scripts.bench.faulty_server`, which kills the command with SIGKILL at
random moments; each time it is started again. Ends with an error if
- a battle is neither judged nor listed with a reason,
- a call whose reply was in the ledger at a kill is asked again,
- more replies were lost at a kill than a run may have requests out,
- the ledger is damaged, or a file is half written or left over,
- a battle all of whose ballots were read has other probabilities than in the undisturbed run.
Prints a Markdown table: at each kill, how many calls had been answered, how many of these were not
in the ledger yet, how many were under way, and how many of those the server answered to nobody.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pandas as pd

from scripts.bench.process import COMMAND
from scripts.bench.report import options, setting, table

ROOT = Path(__file__).parents[2]
TIMEOUT = 3.0
_AHEAD = 4  # requests that a run may have out or in hand, in terms of its concurrency
PIECES = ("the answer", "of", "a", "to be", "which", "is not", "for", "it", "日本", "é,\n", '"so"')


@dataclass(frozen=True)
class Kill:
    """One SIGKILL.

    Attributes:
        answered: replies that had left the server, over all runs so far.
        kept: of this run's, those in the ledger.
        lost: of this run's, those not in the ledger: paid for, and to be asked again.
        waiting: calls that the server had not answered.
        late: of these, how many it answered before it knew that nobody was there.
    """

    answered: int
    kept: int
    lost: int
    waiting: int
    late: int


@dataclass
class Outcome:
    """What a disturbed run came to.

    Attributes:
        battles: in the file; `unjudged` of them got no answer.
        incomplete: judged battles with a ballot that could not be read, however often it was asked
            for; they may have other probabilities.
        calls: that reached the server.
        fates: what became of them, by kind.
        again: answered calls that were asked again after a kill, all of them lost ones.
        kills: one after the other.
        seconds: of the disturbed run, all starts together; `calm` of the undisturbed one.
    """

    battles: int
    unjudged: int = 0
    incomplete: int = 0
    calls: int = 0
    fates: dict[str, int] = field(default_factory=dict)
    again: int = 0
    kills: list[Kill] = field(default_factory=list)
    seconds: float = 0.0
    calm: float = 0.0


@dataclass(frozen=True)
class Server:
    """A server under way: its address, its log, and where it is told whom to kill."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def events(self) -> list[list[str]]:
        """What has happened so far."""
        return [line.split() for line in self.log.read_text().splitlines()]

    def kill(self, pid: int, answered: int) -> None:
        """Has a process killed when so many replies have left."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{pid} {answered}\n")
        self.process.stdin.flush()


@contextmanager
def server(log: Path, *, share: float, seed: int) -> Iterator[Server]:
    """Starts `scripts.bench.faulty_server`; it ends with the block, or with this process."""
    command = [sys.executable, "-m", "scripts.bench.faulty_server", str(log)]
    command += ["--share", str(share), "--seed", str(seed)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield Server(process, f"http://127.0.0.1:{int(process.stdout.readline())}/v1", log)


def write_battles(file: Path, count: int, seed: int) -> None:
    """Made-up battles, no two alike: of one to three turns, of all lengths and some scripts."""
    draws = random.Random(seed)

    def text(number: int) -> str:
        return " ".join([*draws.choices(PIECES, k=draws.randrange(1, 60)), str(number)])

    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "prompt", "response_a", "response_b"])
        for number in range(count):
            turns = draws.randrange(1, 4)
            cells = [json.dumps([text(number) for _ in range(turns)]) for _ in range(3)]
            writer.writerow([f"b{number}", *cells])


def start(folder: Path, url: str, concurrency: int) -> subprocess.Popen[str]:
    """`arena-judge score` on the battles above the folder, with its ledger and outputs in it."""
    names = ("NO_PROXY", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    environment = {k: v for k, v in os.environ.items() if k not in names} | {"NO_PROXY": "*"}
    arguments = ["score", "../battles.csv", "--judge", "endpoint:m", "--base-url", url]
    arguments += ["--ledger", "ledger.sqlite", "--ballots", "votes.csv", "-o", "out.csv", "--json"]
    arguments += ["--timeout", str(TIMEOUT), "--concurrency", str(concurrency)]
    return subprocess.Popen(
        [COMMAND, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[str]) -> None:
    """Waits for a run that is not killed."""
    _, said = process.communicate()
    if process.returncode not in (0, 3):
        fail(f"arena-judge ended with {process.returncode}: {said.strip()}")


def kept(folder: Path) -> set[str]:
    """The keys in a ledger as a killed process has left it; looks at a copy, so that it is the next
    run that mends what there is to mend."""
    with TemporaryDirectory() as aside:
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            if (folder / name).exists():
                shutil.copy(folder / name, aside)
        with closing(sqlite3.connect(Path(aside) / "ledger.sqlite")) as database:
            if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                fail("the ledger is damaged")
            return {key.hex() for (key,) in database.execute("SELECT key FROM replies")}


def disturb(
    folder: Path, battles: int, moments: Sequence[int], concurrency: int, seed: int
) -> Outcome:
    """The disturbed run, killed after so many replies; starts it until it is done."""
    outcome = Outcome(battles)
    safe: list[tuple[int, set[str]]] = []  # how many events there were, what the ledger had
    with server(folder / "log", share=1.0, seed=seed) as asked:
        begun = time.perf_counter()
        for moment in moments:
            seen = len(asked.events())
            run = start(folder, asked.url, concurrency)
            asked.kill(run.pid, moment)
            _, said = run.communicate()
            if run.returncode != -9:
                fail(f"it ended with {run.returncode} before it was killed: {said.strip()}")
            events = asked.events()
            ledger = kept(folder)
            if (folder / "out.csv").exists():
                fail("there is an output before the run is done")
            outcome.kills.append(_kill(events[seen:], ledger))
            safe.append((len(events), ledger))
        finished(start(folder, asked.url, concurrency))
        outcome.seconds = time.perf_counter() - begun
        events = asked.events()
    for begin, ledger in safe:
        twice = {event[1] for event in events[begin:] if event[0] == "received"} & ledger
        if twice:
            fail(f"{len(twice)} calls were asked again that the ledger had")
    most = max((kill.lost for kill in outcome.kills), default=0)
    if most > _AHEAD * concurrency:
        fail(f"{most} answered calls were lost at a kill, with {concurrency} calls at once")
    outcome.calls = sum(event[0] == "received" for event in events)
    answers = Counter(event[1] for event in events if event[0] == "answered")
    outcome.again = sum(answers.values()) - len(answers)
    outcome.fates = dict(Counter(event[1] for event in events if event[0] == "failed"))
    outcome.fates["answered"] = sum(answers.values())
    return outcome


def _kill(events: list[list[str]], ledger: set[str]) -> Kill:
    """What the events of one run say about its end, and its ledger."""
    at = next(n for n, event in enumerate(events) if event[0] == "killed")
    answered = [event[1] for event in events[:at] if event[0] == "answered"]
    late = sum(event[0] == "answered" for event in events[at:])
    there = sum(key in ledger for key in answered)
    return Kill(int(events[at][1]), there, len(answered) - there, int(events[at][2]), late)


def compare(calm: Path, disturbed: Path, outcome: Outcome) -> None:
    """Whether the predictions are the same, line by line."""
    lines = [(folder / "out.csv").read_text().splitlines() for folder in (calm, disturbed)]
    if [line.partition(",")[0] for line in lines[0]] != [
        line.partition(",")[0] for line in lines[1]
    ]:
        fail("the battles are not those of the undisturbed run")
    if len(lines[0]) != outcome.battles + 1:
        fail(f"{len(lines[0]) - 1} battles were written of {outcome.battles}")
    reasons: dict[str, str] = {}
    if (listed := disturbed / "out.csv.unjudged.csv").exists():
        found = pd.read_csv(listed, dtype=str, keep_default_na=False)
        reasons = dict(zip(found["id"], found["reason"], strict=True))
    ballots = pd.read_csv(disturbed / "votes.csv", dtype={"id": str})
    unread = set(ballots["id"][ballots["reason"].notna()])
    for one, other in zip(lines[0][1:], lines[1][1:], strict=True):
        name, _, cells = other.partition(",")
        if not cells.strip(","):
            outcome.unjudged += 1
            if not reasons.get(name):
                fail(f"battle {name} is unjudged and no reason is given")
        elif name in unread:
            outcome.incomplete += 1
        elif one != other:
            fail(f"battle {name}: {other} and not {one}")
    if set(reasons) - unread:
        fail("battles are listed as unjudged whose ballots were read")
    hidden = [path.name for path in disturbed.iterdir() if path.name.startswith(".")]
    if hidden:
        fail(f"{', '.join(hidden)} is left over")


def run(folder: Path, battles: int, kills: int, concurrency: int, seed: int) -> Outcome:
    """Both runs, in folders below this one."""
    calm, disturbed = folder / "calm", folder / "disturbed"
    calm.mkdir()
    disturbed.mkdir()
    write_battles(folder / "battles.csv", battles, seed)
    with server(calm / "log", share=0.0, seed=seed) as asked:
        begun = time.perf_counter()
        finished(start(calm, asked.url, concurrency))
        seconds = time.perf_counter() - begun
    replies = sum(event[0] == "answered" for event in asked.events())
    # Not at the very end: the run could be over before it is killed.
    moments = sorted(random.Random(seed).sample(range(1, replies * 19 // 20), kills))
    outcome = disturb(disturbed, battles, moments, concurrency, seed)
    outcome.calm = seconds
    compare(calm, disturbed, outcome)
    return outcome


def fail(what: str) -> NoReturn:
    raise SystemExit(f"FAILED: {what}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--battles", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--json", action="store_true", dest="as_json", help="for machines")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        outcome = run(Path(folder), given.battles, given.kills, given.concurrency, given.seed)
    if given.as_json:
        print(json.dumps(asdict(outcome)))
        return
    print(setting("scripts.bench.faults"), end="\n\n")
    rows = [[str(n), *map(str, asdict(kill).values())] for n, kill in enumerate(outcome.kills, 1)]
    head = ["kill", "answered so far", "kept of this run's", "lost", "under way", "answered late"]
    print(table(head, rows))
    fates = ", ".join(f"{count:,} {kind}" for kind, count in sorted(outcome.fates.items()))
    print(f"\n{outcome.calls:,} calls: {fates}")
    print(f"{outcome.again} answered calls asked again, none of them in the ledger at a kill")
    print(
        f"{outcome.battles:,} battles: {outcome.unjudged} unjudged, {outcome.incomplete} judged on "
        "fewer ballots, all others as in the undisturbed run"
    )
    print(f"{outcome.seconds:.1f} s, undisturbed {outcome.calm:.1f} s")


if __name__ == "__main__":
    main()
