"""Records: what an annotator said of battles, with the texts in its replies and what they took."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from judge.ballots import CRITERIA
from judge.judges.asking import parameters
from judge.prompting import CRITIQUES
from judge.replies import read_texts
from synth.data import BALLOT_REASON, REASONS
from synth.plans import WRITE

if TYPE_CHECKING:
    from judge.judges.prompted import PromptedJudge

_TURNED = {"A": "B", "B": "A"}


def annotate(battles: pd.DataFrame, annotator: PromptedJudge) -> pd.DataFrame:
    """The records of a battle table, one a battle, part, order and sample, in that order (see
    `synth.data`). What could not be had is a record without votes, whose `reason` says why; a
    battle that could not even be asked about has one in no order."""
    table, _ = annotator.fill(battles, records=True, unasked=_unwritten(battles))
    places = table["id"].astype(np.int64).to_numpy()
    order = np.argsort(places, kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    ids = battles["id"].to_numpy(dtype=object)[places[order]]
    table["id"] = pd.Series(ids, dtype="str")
    return table.assign(**_texts(table, annotator.prompt.writes), **_asked(annotator, len(table)))


def _unwritten(battles: pd.DataFrame) -> dict[int, str]:
    """Battles that lack a response, by their places, and why."""
    if WRITE not in battles.columns:
        return {}
    sides = enumerate(battles[WRITE])
    return {place: f"nobody wrote response {s}" for place, s in sides if s and s == s}


def how_asked(annotator: PromptedJudge) -> dict[str, object]:
    """What was asked of whom, and how: of every record of an annotator the same."""
    prompt, asking = annotator.prompt, annotator.asking
    said = parameters(prompt, asking, annotator.seed, 0)
    drawn = {"temperature": said.temperature, "max_tokens": said.max_tokens}
    drawn |= {} if said.seed is None else {"seed": said.seed}
    drawn |= {"top_logprobs": said.top_logprobs} if said.top_logprobs else {}
    return {
        "model": asking.model,
        "prompt": prompt.name,
        "prompt_version": prompt.version,
        "prompt_digest": prompt.digest,
        "parameters": drawn,
    }


def _texts(table: pd.DataFrame, written: bool) -> dict[str, pd.Series[str]]:
    """What replies say besides votes; critiques are turned back where the order was BA."""
    columns: dict[str, list[str]] = {
        name: [""] * len(table) for name in (*REASONS, BALLOT_REASON, *CRITIQUES)
    }
    readable = table[list(CRITERIA)].notna().any(axis=1)
    rows = np.flatnonzero(readable) if written else ()
    replies, orders = table["reply"].tolist(), table["order"].tolist()
    for row in rows:
        found = read_texts(replies[row])
        columns[BALLOT_REASON][row] = found.reason
        for criterion, reason in found.reasons.items():
            if criterion in CRITERIA:
                columns[f"{criterion}_reason"][row] = reason
        for letter, critique in found.critiques.items():
            side = _TURNED[letter] if orders[row] == "BA" else letter
            columns[f"critique_{side.lower()}"][row] = critique
    return {name: pd.Series(cells, dtype="str") for name, cells in columns.items()}


def _asked(annotator: PromptedJudge, rows: int) -> dict[str, pd.Series[str]]:
    said = how_asked(annotator)
    said["parameters"] = json.dumps(said["parameters"])
    return {name: pd.Series([str(cell)] * rows, dtype="str") for name, cell in said.items()}
