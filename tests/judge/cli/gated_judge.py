"""A stand-in judge that waits to be told. Run as a program, it is `arena-judge` with this kind of
judge known to it.

It says what it does with files in the folder that it runs in: `judging` is there once it has been
asked, and it answers once `open` is there. P(A) is the number in a battle's prompt, in millionths.
Settings: `name`, `gate: false` (waits for nothing).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from judge.judges import KINDS
from judge.judges.base import Judge, Judgments


class GatedJudge(Judge):
    def __init__(self, name: str, gate: bool) -> None:
        self.name, self.gate = name, gate

    @classmethod
    def load(cls, folder: Path) -> GatedJudge:
        settings = yaml.safe_load((folder / "judge.yaml").read_text(encoding="utf-8"))
        return cls(settings.get("name", "gated"), settings.get("gate", True))

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        Path("judging").touch()
        while self.gate and not Path("open").exists():
            time.sleep(0.005)
        numbers = [int(turns[0].split()[-1]) for turns in battles["prompt"]]
        share = np.array(numbers) / 1e6
        return Judgments(np.column_stack([share, 0.9 - share, np.full(len(share), 0.1)]))


if __name__ == "__main__":
    from judge.cli.main import main

    KINDS["gated"] = "gated_judge:GatedJudge"
    main()
