"""How the files of a folder of batches are, for a table."""

from __future__ import annotations

from dataclasses import dataclass

from judge.engines.batches.state import ANSWERED, QUEUED, REPLACED, State


@dataclass(frozen=True)
class FileProgress:
    """How one file of requests is.

    Attributes:
        name: of the file.
        model: that it asks.
        rows: requests in it.
        status: `written`, `uploaded`, `queued` (the server had too many to do), `answered`
            (elsewhere) or what the server says of its batch.
        completed, failed, total: the server's counts.
        batch: the server's id of the batch; empty where there is none.
        pending: whether a server has it, or will as soon as it has room.
        when: the time of the last change, UTC.
    """

    name: str
    model: str
    rows: int
    status: str
    completed: int
    failed: int
    total: int
    batch: str
    pending: bool
    when: str


@dataclass(frozen=True)
class Progress:
    """How the files of a folder are, in the order they were written."""

    files: tuple[FileProgress, ...]

    @property
    def pending(self) -> int:
        """How many files a server has not ended with."""
        return sum(each.pending for each in self.files)

    @property
    def completed(self) -> int:
        """Requests that were answered, as far as that was heard."""
        return sum(each.completed for each in self.files)

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(each.failed for each in self.files)

    @property
    def total(self) -> int:
        """Requests in all files."""
        return sum(each.rows for each in self.files)


def progress_of(state: State) -> Progress:
    """Those of a state, without the files that others took the place of."""
    return Progress(
        tuple(
            FileProgress(
                each.name,
                each.model,
                each.rows,
                each.status,
                each.rows if each.status == ANSWERED else each.completed,
                each.failed,
                each.total,
                each.batch,
                each.pending or each.status == QUEUED,
                each.when,
            )
            for each in state.files
            if each.status != REPLACED
        )
    )
