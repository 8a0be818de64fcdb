"""How battles were drawn, in the words of a data card: what the plan says, if there was one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from synth.exporting.markdown import escaped, table

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 40


def drawn(battles: pd.DataFrame, plan: object) -> list[str]:
    """Lines of a card on the battles that are in the set.

    Args:
        battles: they.
        plan: what the set's manifest says of its plan; it may have been written by hand.
    """
    said = plan if isinstance(plan, Mapping) else {}
    rule, strata = list(_rule(said)), list(_strata(battles, said))
    between = [""] if rule and strata else []
    return [*rule, *between, *strata] or ["How the battles were drawn is not known."]


def _rule(plan: Mapping[str, Any]) -> Iterator[str]:
    """Of what, by which rule, and clear of what."""
    strata = plan.get("strata")
    by = strata.get("by") if isinstance(strata, Mapping) else None
    if "seed" in plan:
        alike = f", by {escaped(', '.join(map(str, by)))}" if isinstance(by, list) and by else ""
        yield f"Drawn by `arena-judge synth plan` with seed {escaped(plan['seed'])}{alike}."
    clear = [f"{name} ({number:,} battles)" for name, number in _named(plan, "held_out")]
    if clear:
        yield ""
        yield f"The plan was kept clear of {escaped(', '.join(clear), 500)}."
    writers = plan.get("writers")
    if isinstance(writers, list) and writers:
        yield ""
        yield (
            "Responses were written for it by models, as `model_a` and `model_b` say: "
            f"{escaped(', '.join(dict.fromkeys(map(str, writers))), 500)}."
        )


def _strata(battles: pd.DataFrame, plan: Mapping[str, Any]) -> Iterator[str]:
    """How many battles are of which file, and how many of which stratum."""
    if "source" in battles.columns:
        # A file's folder is nobody's business.
        files = Counter(PurePath(str(cell)).name for cell in battles["source"].dropna())
        known = dict(_named(plan, "from"))
        rows = [
            (name, f"{number:,}", f"{known[name]:,}" if name in known else "")
            for name, number in files.most_common(_MOST_ROWS)
        ]
        yield from table(("drawn from", "battles", "of"), rows)
        yield from _more(files)
    if "stratum" in battles.columns:
        strata = Counter(str(cell) for cell in battles["stratum"].dropna())
        there = _available(plan)
        rows = [
            (name, f"{number:,}", f"{there[name]:,}" if name in there else "")
            for name, number in strata.most_common(_MOST_ROWS)
        ]
        if "source" in battles.columns:
            yield ""
        yield from table(("drawn as", "battles", "of"), rows)
        yield from _more(strata)


def _more(counts: Counter[str]) -> Iterator[str]:
    if len(counts) > _MOST_ROWS:
        yield ""
        yield f"and {len(counts) - _MOST_ROWS:,} more."


def _named(plan: Mapping[str, Any], key: str) -> Iterator[tuple[str, int]]:
    """Files by their names, and how many battles each has."""
    found = plan.get(key)
    for entry in found if isinstance(found, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("battles"), int):
            yield PurePath(str(entry.get("name", ""))).name, entry["battles"]


def _available(plan: Mapping[str, Any]) -> dict[str, int]:
    """How many battles there were of each stratum."""
    strata = plan.get("strata")
    counts = strata.get("counts") if isinstance(strata, Mapping) else None
    return {
        str(entry.get("stratum")): entry["available"]
        for entry in (counts if isinstance(counts, list) else ())
        if isinstance(entry, Mapping) and isinstance(entry.get("available"), int)
    }
