"""What workers are given to do in tests. They import it by its name: nothing here is pytest's."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from judge.distributed.cluster import Work
from judge.distributed.scoring import Spread
from judge.errors import InputError


@dataclass(frozen=True)
class Noted(Spread):
    """Workers say what they did, in a folder, and die or refuse where they are told to.

    Attributes:
        notes: a file for each block that was judged.
        dies: SIGKILL in front of the first battle of this block, the first time.
        always: every time.
        refuses: raises what a user's mistake would, for this block, until there is a note `mended`.
    """

    notes: str = ""
    dies: str | None = None
    always: bool = False
    refuses: str | None = None

    def __call__(self) -> Work:
        work = super().__call__()

        def noted(source: Path, target: Path) -> None:
            block = source.name.partition("-")[0]
            if block == self.refuses and not Path(self.notes, "mended").exists():
                raise InputError("cannot be judged", file="battles.csv", row=7, mend="mend it")
            if block == self.dies:
                mark = Path(self.notes, f"died-{block}")
                if self.always or not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            work(source, target)
            with Path(self.notes, f"did-{block}").open("ab") as file:
                file.write(b".")

        return noted
