"""A stand-in judge for the command line's tests: the longer answer wins, as far as its judge.yaml
doesn't say otherwise. Run as a program, it is `arena-judge` with this kind of judge known to it.

Settings: `unjudged` (prompts that hold this word get no answer), `seconds` (a nap a batch),
`prior` (three probabilities), `ballots: false` (fills in none), `gain` (how much length counts).
Prompts that speak of a full disk or of being out of memory raise what that would raise.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from judge.ballots import ballot_table
from judge.judges import KINDS
from judge.judges.base import Judge, Judgments

KIND = {"length": "length_judge:LengthJudge"}


class LengthJudge(Judge):
    def __init__(self, settings: dict[str, object], name: str) -> None:
        self.name = name
        self.settings = settings
        if "prior" in settings:
            self.prior = np.array(settings["prior"], dtype=np.float64)

    @classmethod
    def load(cls, folder: Path) -> LengthJudge:
        settings = yaml.safe_load((folder / "judge.yaml").read_text(encoding="utf-8"))
        return cls(settings, settings.get("name", "length"))

    def judge(self, battles: pd.DataFrame, *, ballots: bool = False) -> Judgments:
        time.sleep(float(str(self.settings.get("seconds", 0))))
        a, b = (battles[f"response_{side}"].map(lambda t: len("".join(t))) for side in "ab")
        gap = (np.log1p(a) - np.log1p(b)).to_numpy() * float(str(self.settings.get("gain", 1)))
        win = 0.8 / (1 + np.exp(-gap))
        proba = np.column_stack([win, 0.8 - win, np.full(len(battles), 0.2)])
        word = self.settings.get("unjudged")
        prompts = [" ".join(prompt) for prompt in battles["prompt"]]
        empty = [place for place, prompt in enumerate(prompts) if word and str(word) in prompt]
        proba[empty] = np.nan
        if any("full disk" in prompt for prompt in prompts):
            raise OSError(28, "No space left on device", "somewhere")
        if any("out of memory" in prompt for prompt in prompts):
            raise MemoryError
        votes = None
        if ballots and self.settings.get("ballots", True):
            shares = np.tile([0.25, 0.25, 0.25, 0.25], (len(battles), 5, 1))
            votes = ballot_table(battles["id"].tolist(), self.name, shares)
        return Judgments(proba, dict.fromkeys(empty, "no answer,\n\x1b[31mthey said"), votes)


if __name__ == "__main__":
    from judge.cli.main import main

    KINDS.update(KIND)
    main()
