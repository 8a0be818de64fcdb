"""The one family of exceptions that a user of arena-judge meets.

The command line prints the message as one line and exits with `exit_code`; nothing else of the
package needs to know how an error is shown.
"""

from __future__ import annotations

from pathlib import Path


class ArenaJudgeError(Exception):
    """Something the user can mend; the message is one line that says what, where and how."""

    exit_code = 2


class InputError(ArenaJudgeError):
    """A file that cannot be read as what it should be.

    Args:
        message: what is wrong, without a final full stop.
        file: the file's name as the user wrote it.
        row: the row in the file as an editor counts, from 1, the header included.
        column: the column's name.
        mend: what the user can do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
        mend: str | None = None,
    ) -> None:
        where = [str(file)] if file is not None else []
        if row is not None:
            where.append(f"row {row}")
        if column is not None:
            where.append(f"column {column}")
        text = f"{', '.join(where)}: {message}" if where else message
        super().__init__(f"{text}; {mend}" if mend else text)
        self.file, self.row, self.column, self.mend = file, row, column, mend
