"""All measures of an annotated set, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from judge.aggregation import UNFITTED, Aggregator, Floats
from judge.battles import labels
from judge.comparing.facts import lengths_and_votes
from judge.comparing.label_files import Relabelled, read_label_file, relabelled
from judge.leaderboard.style import style_differences
from synth.checking.agreement import (
    AnnotatorReport,
    SampleReport,
    annotator_report,
    sample_reports,
)
from synth.checking.balance import Balance, balance
from synth.checking.contamination import Contamination, HeldOut, look_for
from synth.checking.criteria import Criteria, criteria
from synth.checking.drops import Drop, Rules, Seen, dropped, find_drops
from synth.checking.estimates import Sampling
from synth.checking.humans import Humans, humans
from synth.checking.looks import Looks, looks
from synth.checking.orders import OrderReport, order_reports, shown_orders
from synth.checking.reasons import Reasons, reasons
from synth.checking.records import Bools, Records, records_of
from synth.checking.refusals import Refusals, refusals, refusing_records, refusing_responses
from synth.data import AnnotatedSet
from synth.soft_labels import SoftLabels, soft_labels

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 256
_ROUNDS = 500


@dataclass(frozen=True)
class Options:
    """How a set is checked.

    Attributes:
        source, aggregator: of the soft labels (see `synth.soft_labels`).
        labels: a file of people's labels that go before those of the battles.
        rules: what is dropped.
        rounds, seed: of the bootstrap of what `compare` shows; shares make do with 500 rounds.
    """

    source: str = "auto"
    aggregator: Aggregator | None = None
    labels: str | None = None
    rules: Rules = field(default_factory=Rules)
    rounds: int = 2000
    seed: int = 0


DEFAULT = Options()


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        name: of the set.
        battles, prompts, records: how many there are.
        annotators: their names.
        orders: in which battles were shown; "" where that is not known.
        by_order: one an annotator.
        samples: one for each annotator that drew several.
        annotators_agree: None where no battle has two annotators.
        balance, looks: of the soft labels.
        criteria, reasons: of the votes; reasons None where there are none.
        refusals, contamination: counts.
        humans: None where people have labelled none of the battles.
        relabelled: what labels from a file did; None without one.
        labels: the soft labels.
        drops: all reasons to drop battles.
        gone: (N,) the battles that are dropped.
        rules: by which.
        seed: of the bootstrap.
        fitted: whether votes were counted by an aggregator that was given.
        filtered: battles that an earlier check left out; None where there was none.
    """

    name: str
    battles: int
    prompts: int
    records: int
    annotators: tuple[str, ...]
    orders: tuple[str, ...]
    by_order: tuple[OrderReport, ...]
    samples: tuple[SampleReport, ...]
    annotators_agree: AnnotatorReport | None
    balance: Balance
    looks: Looks
    criteria: Criteria
    reasons: Reasons | None
    refusals: Refusals
    contamination: Contamination
    humans: Humans | None
    relabelled: Relabelled | None
    labels: SoftLabels
    drops: tuple[Drop, ...]
    gone: Bools
    rules: Rules
    seed: int = 0
    fitted: bool = False
    filtered: int | None = None


def check(data: AnnotatedSet, held_out: HeldOut, options: Options = DEFAULT) -> Check:
    """Checks a set.

    Args:
        data: the set.
        held_out: battles that it must not have (see `synth.checking.contamination`).
        options: how.

    Raises:
        InputError: the file of labels cannot be read, or is of other battles.
    """
    records = records_of(data)
    sampling = Sampling(records.prompts, min(options.rounds, _ROUNDS), options.seed)
    said = soft_labels(data, source=options.source, aggregator=options.aggregator)
    human, changed = _human(data, options.labels)
    proba, battles = said.proba, data.battles
    flawed, flat = reasons(records)
    declined, responses = refusing_records(records), refusing_responses(battles)
    contamination, there, again = look_for(battles, held_out)
    seen = Seen(records, declined, proba, human, held_out, there, again, flat, responses)
    drops = find_drops(seen, options.rules)
    return Check(
        name=data.name,
        battles=len(battles),
        prompts=len(np.unique(records.prompts)),
        records=len(records),
        annotators=records.annotators,
        orders=shown_orders(records),
        by_order=tuple(order_reports(records, sampling, declined)),
        samples=tuple(sample_reports(records, sampling)),
        annotators_agree=annotator_report(records, sampling),
        balance=balance(proba, human, sampling, int((said.by_verdict & said.labelled).sum())),
        looks=looks(proba, human, _more(battles), sampling),
        criteria=criteria(records, sampling),
        reasons=flawed,
        refusals=refusals(records, declined, responses, proba),
        contamination=contamination,
        humans=_humans(records, battles, said, human, options),
        relabelled=changed,
        labels=said,
        drops=tuple(drops),
        gone=dropped(drops, len(battles), options.rules.applied),
        rules=options.rules,
        seed=options.seed,
        fitted=options.aggregator is not None,
        filtered=_filtered(data),
    )


def _filtered(data: AnnotatedSet) -> int | None:
    said = data.manifest.get("check")
    if not isinstance(said, Mapping):
        return None
    before, kept = said.get("battles"), said.get("kept")
    return before - kept if isinstance(before, int) and isinstance(kept, int) else None


def _human(data: AnnotatedSet, file: str | None) -> tuple[Floats, Relabelled | None]:
    """(N, 3) people's labels, NaN rows where there are none."""
    own = labels(data.battles)
    if own is None:
        own = np.full((len(data.battles), 3), np.nan)
    if file is None:
        return own, None
    changed = relabelled(data.battles["id"].tolist(), own, read_label_file(file), file=file)
    return changed.labels, changed


def _humans(
    records: Records, battles: pd.DataFrame, said: SoftLabels, human: Floats, options: Options
) -> Humans | None:
    if np.isnan(human[:, 0]).all():
        return None
    counted = options.aggregator is None or options.aggregator == UNFITTED
    return humans(
        records,
        battles,
        said.proba,
        human,
        from_votes=counted and not said.by_verdict.any(),
        own_labels=options.labels is None,
        rounds=options.rounds,
        seed=options.seed,
    )


def _more(battles: pd.DataFrame) -> Floats:
    """(N, 6) how much more response A has of each look (see `synth.checking.looks.LOOKS`)."""
    length = lengths_and_votes(battles)["length_difference"].to_numpy(dtype=np.float64)
    a, b = battles["response_a"].tolist(), battles["response_b"].tolist()
    parts: Sequence[Floats] = [
        style_differences(a[start : start + _BATCH], b[start : start + _BATCH])
        for start in range(0, len(a), _BATCH)
    ]
    return np.column_stack([length, np.concatenate(parts)])
