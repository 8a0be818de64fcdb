"""An engine that answers through files: OpenAI's Batch API, or whatever reads files of its kind.

A batch is a way to fill the ledger. `answer` gives what the ledger has and writes the rest into
files of requests; `submit` sends them where a server takes them; `collect` puts what came back into
the ledger. Then `answer` has it. Each step may be taken by another process, on another day.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from judge.engines.base import BUDGET, WAITING, Engine, Estimate, Reply, Request
from judge.engines.batches.api import BatchServer, NoBatches, Unanswered
from judge.engines.batches.collecting import Collected, Collector
from judge.engines.batches.files import (
    MOST_BYTES,
    MOST_REQUESTS,
    RequestWriter,
    file_keys,
    request_line,
)
from judge.engines.batches.progress import FileProgress, Progress, progress_of
from judge.engines.batches.sending import Sender, commands_elsewhere
from judge.engines.batches.state import ANSWERED, QUEUED, REPLACED, Folder, RequestFile
from judge.engines.batches.terms import Terms, in_batches
from judge.engines.ledger import Ledger
from judge.engines.pricing import Counter
from judge.engines.settings import EndpointSettings
from judge.engines.transport import Secrets, find_targets
from judge.errors import ArenaJudgeError

_POLLS = 30  # of a server that does not answer, before waiting for batches is given up

__all__ = ["WAITING", "BatchEngine", "Collected", "FileProgress", "Progress"]


class BatchEngine(Engine):
    """Answers from the ledger, and fills it through batches.

    Args:
        folder: where files and what is known of them are kept; made where it is not there.
        ledger: gives replies, and takes those that are collected.
        settings: the server that may take batches (the first of those named), its key, `max_cost`
            for all that the folder's batches may cost, together.
        upload: False writes files and sends none; True takes it for an error where the server takes
            none; None sends them where it does.
        vllm: whether vLLM reads the files, which keeps replies to choices and expressions as well;
            others refuse what they do not know.
        most_requests, most_bytes: of a file.
        count_tokens: counts the tokens of a text, for estimates; a quarter of its bytes otherwise.
        sleep, clock: how to wait, and by what clock.

    Attributes:
        waiting: requests of the last `answer` that stand in a file and wait.

    Raises:
        ArenaJudgeError: the state in the folder, the key or the file of prices cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        ledger: Ledger,
        settings: EndpointSettings | None = None,
        upload: bool | None = None,
        vllm: bool = False,
        most_requests: int = MOST_REQUESTS,
        most_bytes: int = MOST_BYTES,
        count_tokens: Counter | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="batch")
        if most_requests < 1 or most_bytes < 1:
            raise ArenaJudgeError("a batch file has a request at least; allow more of it")
        self.settings = settings or EndpointSettings()
        self.waiting = 0
        self._folder = Folder(folder)
        self._ledger = ledger
        self._upload = upload
        self._limits = most_requests, most_bytes
        self._sleep = sleep
        self._clock = clock
        targets = find_targets(self.settings)
        self._target = targets[0]
        self._secrets = Secrets(targets)
        self._terms = Terms(self.settings, vllm, count_tokens)
        self._server: BatchServer | None = None
        self._takes_batches: bool | None = None
        self._written: set[str] = set()
        self._fresh: set[bytes] = set()
        self._under_way: set[bytes] | None = None  # keys in files; None where it is to be seen
        self._tally = Collected()

    # Requests.

    def answer(self, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
        """The ledger's replies. What it lacks is written into files, each request once, and has
        the error `WAITING`; or `BUDGET`; or what the server said, where asking again is of no use.

        Files are there when the iterator has ended. Those of an earlier run that were not sent and
        that this one would write otherwise are put aside.
        """
        self._folder.enter()
        writer = RequestWriter(self._folder, *self._limits)
        writer.keep(self._written)
        under_way = self._found_under_way() if self._under_way is None else self._under_way
        self._under_way = None
        missing: set[bytes] = set()
        spent_up = False
        try:
            for batch in in_batches(requests):
                keys = [self._ledger.key(request) for _, request in batch]
                found = self._ledger.get_many(keys)
                for (number, request), key in zip(batch, keys, strict=True):
                    reply = found.get(key)
                    if reply is not None:
                        yield number, self._given(key, reply)
                        continue
                    failed = self._failed(key)
                    if failed is None and key not in missing and key not in under_way:
                        failed, spent_up = self._write(writer, key, request, spent_up)
                    if failed is None:
                        missing.add(key)
                        yield number, Reply.failed(WAITING)
                        continue
                    reply = Reply.failed(failed)
                    self.statistics.count(reply)
                    yield number, reply
            for each in writer.finish():
                if not self._put_aside(each, always=True):
                    self._note(f"{each.name} was not sent and is not asked now; it is put aside")
            self._under_way = under_way | missing
        finally:
            writer.drop()
            self._written |= writer.written
            self.waiting = len(missing)

    def estimate(self, requests: Iterable[Request]) -> Estimate:
        """What asking would come to in batches, at most: see `EndpointEngine.estimate`."""
        return self._terms.estimate(requests, self._ledger)

    # Files.

    def submit(self) -> int:
        """Sends the files that were not sent, if the server takes any, and says otherwise how to
        have them read elsewhere.

        Returns:
            How many were sent.

        Raises:
            ArenaJudgeError: the server refuses, or does not answer.
        """
        self._folder.enter()
        self._under_way = None
        self._read_files()
        files = [each for each in self._folder.state.files if each.unsent]
        for each in files:
            answered = self._put_aside(each)
            if 0 < answered < each.rows:
                self._note(
                    f"{answered} of the {each.rows} requests of {each.name} have been answered, so "
                    "it is put aside; give the same command again, and the rest is written anew"
                )
        files = [each for each in files if each.unsent]
        if not files:
            return 0
        if self._upload is False or not self._can_send():
            why = "" if self._upload is False else f"{self._reached().name} takes no batches; "
            for command in commands_elsewhere(self._folder, files):
                self._note(f"{why}where vLLM is: {command}; then give the same command again")
            return 0
        if len(self.settings.servers) > 1:
            self._note(f"batches go to {self._reached().name}, the first that is named, alone")
        return self._sender().send()

    def collect(self) -> Collected:
        """Reads the files of replies that lie in the folder, and those of batches that have ended,
        into the ledger. What was read before is not read again.

        Raises:
            ArenaJudgeError: the server refuses, or does not answer; what was read is kept.
        """
        self._folder.enter()
        self._under_way = None
        self._read_files()
        if self._upload is not False and any(each.pending for each in self._folder.state.files):
            for each in self._sender().look():
                self._read_files()
                each.change(collected=True)
                self._folder.save()
        tally, self._tally = self._tally, Collected()
        return tally

    def progress(self) -> Progress:
        """How the files are, as last heard. Asks no server, and disturbs no other process."""
        return progress_of(self._folder.fresh())

    def wait(
        self, poll_seconds: float = 60.0, tell: Callable[[Progress], None] | None = None
    ) -> Collected:
        """Collects again and again until the server has ended with every file, and sends those that
        it had no room for.

        Args:
            poll_seconds: between two looks.
            tell: is told how things are after each.

        Raises:
            ArenaJudgeError: the server refuses, or has not answered for long.
        """
        total = Collected()
        longest = max(self.settings.patience, _POLLS * poll_seconds)
        silent_since: float | None = None
        while True:
            begun = self._clock()
            try:
                total += self.collect()
                if any(each.status == QUEUED for each in self._folder.state.files):
                    self.submit()
                silent_since = None
            except Unanswered as error:
                silent_since = begun if silent_since is None else silent_since
                if self._clock() - silent_since > longest:
                    raise
                self._note(str(error))
            progress = self.progress()
            if tell is not None:
                tell(progress)
            if not progress.pending:
                return total
            self._sleep(poll_seconds)

    def close(self) -> None:
        """Gives the folder back; the ledger stays open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._folder.leave()

    # What stands behind `answer`.

    def _given(self, key: bytes, reply: Reply) -> Reply:
        if key in self._fresh:  # it was counted, and paid for, when it was collected
            self._fresh.discard(key)
            return replace(reply, from_ledger=False)
        self.statistics.count(reply)
        return reply

    def _found_under_way(self) -> set[bytes]:
        """The keys of the requests that a server has, or that this engine has written."""
        files = self._folder.state.files
        for each in files:
            if each.unsent and each.name in self._written:
                self._put_aside(each)
        return {
            key
            for each in files
            if each.pending or (each.unsent and each.name in self._written)
            for key in file_keys(self._folder.path / each.name)
        }

    def _failed(self, key: bytes) -> str | None:
        """Why a request is not asked again, if it is not."""
        failure = self._folder.failures.get(key)
        if failure is None:
            return None
        tries = len(failure.files)
        if failure.final or tries > self.settings.retries:
            return failure.message + (f" ({tries} batches)" if tries > 1 else "")
        return None

    def _write(
        self, writer: RequestWriter, key: bytes, request: Request, spent_up: bool
    ) -> tuple[str | None, bool]:
        """Writes a request; why not, if not, and whether the money is spent."""
        model = request.parameters.model
        state = self._folder.state
        line = request_line(key, request, self._terms.dialect(model, state.dialects))
        if not writer.fits(line):
            return f"the request has {len(line)} bytes, more than a batch file may have", spent_up
        promised = self._terms.promised(request)
        most = self._terms.most
        if most is not None:
            there = state.spent + state.promised + self._unsent() + writer.promised
            if spent_up or there + promised > most:
                return BUDGET, True
        writer.add(model, line, promised)
        return None, False

    def _unsent(self) -> float:
        """Dollars promised by files that this engine wrote for earlier calls, and did not send."""
        files = self._folder.state.files
        return sum(each.promised for each in files if each.unsent and each.name in self._written)

    # What stands behind `submit` and `collect`.

    def _read_files(self) -> None:
        """Reads the files of replies in the folder that were not read."""
        collector = Collector(
            self._folder, self._ledger, self._secrets, self._terms.price, self._found, self._note
        )
        by_number = {f"{each.number:04d}": each for each in self._folder.state.files if each.batch}
        try:
            for path in collector.unread():
                made = by_number.get(path.stem.partition("-")[2])
                lost = made is not None and not (self._folder.path / made.name).exists()
                model = made.model if made is not None and lost else None
                self._tally += collector.read(path, made is not None, model)
        finally:
            collector.close()

    def _found(self, key: bytes, reply: Reply) -> None:
        self.statistics.count(reply)
        self._fresh.add(key)

    def _put_aside(self, file: RequestFile, always: bool = False) -> int:
        """Has a file not sent of which something was answered elsewhere, for that is not paid for
        again; how many of its requests were. `always` has it not sent in any case."""
        keys = file_keys(self._folder.path / file.name)
        answered = 0
        while batch := list(islice(keys, 256)):
            answered += len(self._ledger.get_many(batch))
        if answered or always:
            file.change(status=ANSWERED if answered == file.rows else REPLACED)
            self._folder.save()
        return answered

    def _can_send(self) -> bool:
        if self._takes_batches is None:
            self._takes_batches = self._reached().takes_batches()
            if not self._takes_batches and self._upload:
                raise NoBatches(f"{self._reached().name} takes no batches; name a server that does")
        return self._takes_batches

    def _reached(self) -> BatchServer:
        if self._server is None:
            self._server = BatchServer(
                self.settings, self._target, self._secrets, self._sleep, self._clock
            )
        return self._server

    def _sender(self) -> Sender:
        return Sender(self._folder, self._reached(), self._note)

    def _note(self, text: str) -> None:
        line = self._secrets.scrubbed(text)
        if line not in self.notes:
            self.notes.append(line)
