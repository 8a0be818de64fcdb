"""What goes to a server that takes batches, and what comes back from there.

Every step is noted before it is taken and when it is done. Whoever was killed in between looks at
the server first whether it was done.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from judge.engines.batches.api import Batch, BatchServer, NoBatches, Unanswered
from judge.engines.batches.files import checked
from judge.engines.batches.state import ENDED, QUEUED, UPLOADED, WRITTEN, Folder, RequestFile
from judge.errors import ArenaJudgeError

_FULL = "token_limit_exceeded", "enqueued token limit"  # code and words of a queue that is full
_REFUSALS = 3  # by an empty queue, after which a file is too large for it


class Sender:
    """Sends files of requests of a folder to a server, and fetches what comes back.

    Args:
        folder: taken already.
        server: where they go.
        note: is told what the user should know.
    """

    def __init__(self, folder: Folder, server: BatchServer, note: Callable[[str], None]) -> None:
        self._folder = folder
        self._server = server
        self._note = note

    def send(self) -> int:
        """Makes a batch of each file that has none and that there is room for; how many.

        Raises:
            ArenaJudgeError: the server refuses, or does not answer. What was sent, was.
        """
        sent = 0
        for each in self._folder.state.files:
            if each.unsent and not (each.status == QUEUED and self._crowded(each)):
                self._send(each)
                sent += 1
        return sent

    def look(self) -> Iterator[RequestFile]:
        """Asks how batches are, and fetches the replies of those that ended, one after the other.

        Raises:
            ArenaJudgeError: the server refuses, or does not answer.
        """
        for each in self._folder.state.files:
            if each.pending and self._looked_at(each):
                yield each

    def _crowded(self, file: RequestFile) -> bool:
        files = self._folder.state.files
        return any(other.pending and other.model == file.model for other in files)

    def _send(self, file: RequestFile) -> None:
        name = self._server.name
        path = self._folder.path / file.name
        checked(path, file.sha256)
        if not file.upload or file.server != name:
            begun = file.begun == "upload" and file.server == name
            self._change(file, begun="upload", server=name, upload="")
            upload = self._server.upload(path, f"{path.stem}-{file.sha256[:16]}.jsonl", begun)
            self._change(file, begun="", upload=upload, status=UPLOADED)
        known = {other.batch for other in self._folder.state.files if other.batch}
        try:
            batch = self._server.create(file.upload, file.sha256, known)
        except Unanswered:
            raise
        except ArenaJudgeError:  # it may be the file that is no more; it is uploaded anew
            self._change(file, upload="", status=WRITTEN)
            raise
        self._change(file, batch=batch.id, status=batch.status, total=batch.total or file.rows)

    def _looked_at(self, file: RequestFile) -> bool:
        """Whether a batch has ended and what it gave is there."""
        if file.server != self._server.name:
            self._note(f"{file.batch} of {file.name} is at {file.server}; name that as base URL")
            return False
        try:
            batch = self._server.retrieve(file.batch)
        except NoBatches as error:
            self._note(
                f"{file.batch} of {file.name} cannot be found ({error}); give the key of the "
                "account that it was made with, or take its entry out of batch.yaml"
            )
            return False
        seen = (file.status, file.completed, file.failed, file.output, file.errors)
        if seen != (batch.status, batch.completed, batch.failed, batch.output, batch.errors):
            self._change(
                file,
                status=batch.status,
                completed=batch.completed,
                failed=batch.failed,
                total=batch.total or file.rows,
                output=batch.output,
                errors=batch.errors,
            )
        if batch.status not in ENDED:
            return False
        if batch.completed and not batch.output:
            self._note(f"{file.batch} is {batch.status}, but its replies are not there yet")
            return False
        if batch.status == "failed" and self._queued(file, batch):
            return False
        for code, message in batch.faults:
            self._note(f"{file.name} was not taken: {code}: {message}")
        self._fetch(file, batch.output, "replies")
        self._fetch(file, batch.errors, "errors")
        return True

    def _queued(self, file: RequestFile, batch: Batch) -> bool:
        """Whether a file was not taken for want of room, and is sent again when there is some."""
        words = " ".join(f"{code} {message}" for code, message in batch.faults).lower()
        if not any(word in words for word in _FULL):
            return False
        self._change(file, batch="", status=QUEUED)
        file.refusals += not self._crowded(file)
        if file.refusals < _REFUSALS:
            self._folder.save()
            return True
        self._change(file, batch=batch.id, status=batch.status)
        self._note(f"the server's queue never has room for all of {file.name}; ask for less a file")
        return False

    def _fetch(self, file: RequestFile, there: str, kind: str) -> None:
        if not there:
            return
        target = self.path_of(file, kind)
        try:
            self._server.download(there, target)
        except NoBatches as error:
            self._note(f"{target.name} of {file.batch} cannot be had any more ({error})")

    def path_of(self, file: RequestFile, kind: str) -> Path:
        """Where `replies` or `errors` of a file are put."""
        return self._folder.path / f"{kind}-{file.number:04d}.jsonl"

    def _change(self, file: RequestFile, **values: str | int) -> None:
        file.change(**values)
        self._folder.save()


def commands_elsewhere(folder: Folder, files: Iterable[RequestFile]) -> Iterator[str]:
    """How files are read by vLLM, where no server takes them; with replies where they are found."""
    for each in files:
        source = folder.path / each.name
        target = folder.path / f"replies-{each.number:04d}.jsonl"
        words = "python -m vllm.entrypoints.openai.run_batch -i {} -o {} --model {}"
        yield words.format(*map(shlex.quote, (str(source), str(target), each.model)))
