"""What was drawn is read again, and written in the order of the plan."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge import __version__
from judge.battles import MODELS
from judge.files.atomic import explained
from judge.files.folders import written_folder
from judge.files.labelling import LABELS, VOTES
from judge.files.turns import TEXTS
from judge.provenance import Source
from synth.origins import changed, unchanged
from synth.planning import Drawn
from synth.plans import DROPPED, Plan, read_plan, written_plan
from synth.spool import Spool
from synth.strata import limits
from synth.surveying import Survey
from synth.tables import NUMBERS, WHOLE, renamed

Ints = npt.NDArray[np.int64]

OWN = ("source", "source_id", "stratum", "closeness", "write")
"""Columns of a plan that say how it was drawn."""

_BATTLE = ("id", *TEXTS, *MODELS, *LABELS, *VOTES)
# A file's column that is called as one of a plan's or an annotation's goes under another name.
_TAKEN = {*OWN, *NUMBERS, *WHOLE} - {*LABELS, *VOTES}
_FLOATS = {*LABELS, *VOTES, "closeness"}
_BATCH = 256


def write_plan(folder: Path, drawn: Drawn, more: Mapping[str, Any] | None = None) -> Plan:
    """Writes a plan, in place of one that is there.

    Args:
        folder: see `judge.files.folders.folder_target`.
        drawn: the plan.
        more: what plan.yaml is to say beside how it was drawn, such as who is to annotate it.

    Raises:
        InputError: a file has changed since it was looked at, or the folder cannot be written.
    """
    with written_folder(folder) as draft:
        with written_plan(draft) as writer:
            with explained(folder), tempfile.TemporaryFile(dir=draft) as file:
                spool = Spool(file)
                _read_again(drawn, spool)
                names = plan_columns(drawn.survey.columns)
                for rows in spool.batches(range(len(drawn.places)), _BATCH):
                    writer.append(_table(rows, [*names.values(), *OWN]))
            writer.settings = described(drawn) | dict(more or {})
        for origin, before in zip(drawn.origins, drawn.contents, strict=True):
            unchanged(origin.files, before)
        dropped = drawn.sifted.table(drawn.survey)
        if len(dropped):
            text = dropped.to_csv(index=False, lineterminator="\n")
            with explained(folder):
                (draft / DROPPED).write_bytes(text.encode("utf-8", "replace"))
    return read_plan(folder)


def described(drawn: Drawn) -> dict[str, Any]:
    """What plan.yaml says of how a plan was drawn."""
    rule, strata = drawn.rule, drawn.strata
    said: dict[str, Any] = {"by": [one.name for one in strata.aspects]}
    said["allocation"] = rule.allocation
    if rule.close is not None:
        said["close"] = rule.close
    if drawn.judge is not None:
        bounds = limits(drawn.survey.closeness[drawn.left])
        said["closeness"] = {"judge": drawn.judge, "limits": list(bounds or ())}
    said["counts"] = [
        {"stratum": name, "available": available, "drawn": taken}
        for name, available, taken in drawn.counts
    ]
    found: dict[str, Any] = {
        "made_by": f"arena-judge {__version__}",
        "size": len(drawn.places),
        "asked": rule.size,
        "seed": rule.seed,
        "from": [_stated(drawn, number) for number in range(len(drawn.origins))],
        "held_out": [_content(source) | {"battles": size} for source, size in drawn.hold],
        "read": len(drawn.survey),
        "dropped": {reason.value: count for reason, count in drawn.sifted.counts.items()},
        "undrawn": len(drawn.left) - len(drawn.places),
    }
    if rule.per_prompt is not None:
        found["per_prompt"] = rule.per_prompt
    if rule.keep:
        found["kept"] = sorted(reason.value for reason in rule.keep)
    found["strata"] = said
    writers = [model for one in drawn.origins if one.unwritten for model in one.models]
    return found | ({"writers": writers} if writers else {})


def _stated(drawn: Drawn, number: int) -> dict[str, Any]:
    """What plan.yaml says of an origin."""
    origin, contents = drawn.origins[number], drawn.contents[number]
    battles = int((drawn.survey.origins == number).sum())
    if not origin.models:
        return _content(contents[0]) | {"name": origin.name, "battles": battles}
    return {
        "name": origin.name,
        "models": list(origin.models),
        "files": [_content(source) for source in contents],
        "battles": battles,
    }


def _content(source: Source) -> dict[str, Any]:
    return {"name": source.name, "bytes": source.size, "sha256": source.sha256}


def plan_columns(columns: Sequence[str]) -> dict[str, str]:
    """The columns of battle tables that a plan keeps, those of every battle first, and what it
    calls them: `file_source` is what a file says under `source`."""
    first = [name for name in _BATTLE if name in columns or name in ("id", *TEXTS)]
    names = {name: name for name in first}
    others = [name for name in columns if name not in names and name not in _TAKEN]
    names |= {name: name for name in others}
    for name in columns:
        if name in _TAKEN:
            names[name] = renamed(name, names.values())
    return names


def plan_ids(survey: Survey, left: Ints) -> dict[int, str]:
    """What battles are called in a plan, by their place.

    An id that several have gets the name of its file before it, and a number behind it if that is
    not enough. What a battle is called does not depend on which others are drawn.

    Args:
        survey: of all battles.
        left: places of those that could be drawn.
    """
    places = left.tolist()
    counts = Counter(survey.ids[place] for place in places)
    names = {place: survey.ids[place] for place in places if counts[survey.ids[place]] == 1}
    taken = set(names.values())
    for place in places:
        if place in names:
            continue
        stem = Path(survey.names[int(survey.origins[place])]).name.partition(".")[0]
        name = wanted = f"{stem}-{survey.ids[place]}"
        number = 2
        while name in taken:
            name, number = f"{wanted}-{number}", number + 1
        names[place] = name
        taken.add(name)
    return names


def _read_again(drawn: Drawn, spool: Spool) -> None:
    """Keeps the drawn battles, each under its number in the plan.

    Raises:
        InputError: the files hold other battles than before.
    """
    found = drawn.survey
    called = plan_ids(found, drawn.left)
    names = plan_columns(found.columns)
    number_of = np.full(len(found), -1, dtype=np.int64)
    number_of[drawn.places] = np.arange(len(drawn.places))
    start = 0
    for number, origin in enumerate(drawn.origins):
        end = start + int((found.origins == number).sum())
        for battles in origin.tables():
            stop = start + len(battles)
            if stop > end or battles["id"].tolist() != found.ids[start:stop]:
                raise changed(origin.name)
            numbers = number_of[start:stop]
            chosen = np.flatnonzero(numbers >= 0)
            rows = battles.iloc[chosen].to_dict("records")
            for row, at in zip(rows, chosen.tolist(), strict=True):
                place, of = start + at, int(numbers[at])
                kept = {names[str(name)]: cell for name, cell in row.items() if name in names}
                kept |= {
                    "id": called[place],
                    "source": origin.name,
                    "source_id": found.ids[place],
                    "stratum": drawn.strata.names[int(drawn.of[of])],
                    "closeness": float(found.closeness[place]),
                    "write": row["write"] if origin.unwritten else "",
                }
                spool.put(of, kept)
            start = stop
        if start != end:
            raise changed(origin.name)


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.Series(
                [row.get(name) for row in rows],
                dtype=np.float64 if name in _FLOATS else object,
            )
            for name in names
        }
    )
