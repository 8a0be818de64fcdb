"""`arena-judge fit`: how a judge's votes are best counted, learned from labelled battles.

The battles are read a batch at a time; what is kept is ids, labels, a number for each prompt, the
ballots and the covariates.
"""

from __future__ import annotations

import json
import os
from contextlib import closing, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options
from judge.cli.console import Progress, clean, count, expected_rows, say
from judge.cli.export import ballot_source
from judge.cli.judging import Judging, judge_options, votes_expected
from judge.cli.ticking import follow
from judge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from judge.aggregation_fitting import Fit
    from judge.comparing.leaks import Seen
    from judge.comparison import Comparison, JudgeScore
    from judge.conformal import Conformity
    from judge.judges.base import Judge
    from judge.judges.statistical import StatisticalJudge

    Floats = npt.NDArray[np.float64]

FITTED, UNFITTED, PRIOR_TOO = "fitted", "unfitted", "class prior, cross-fitted"


@dataclass(frozen=True)
class Kept:
    """What is kept of N battles.

    Attributes:
        ids: N of them.
        labels: (N, 3), NaN rows unlabelled.
        prompts: (N,) equal for battles about one prompt.
        ballots: what the judge voted.
        covariates: (N, 6), when they were asked for.
        seen: the marks of those that have a label.
    """

    ids: list[str]
    labels: Floats
    prompts: npt.NDArray[np.int64]
    ballots: pd.DataFrame
    covariates: Floats | None
    seen: Seen


@click.command()
@click.argument("labelled")
@click.option(
    "--judge",
    "specs",
    multiple=True,
    metavar="JUDGE",
    help="The judge whose votes are counted; several that ask a model are a jury.",
)
@click.option("--ballots", "recorded", metavar="FILE", help="Its ballots, when they are at hand.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The fitted judge.")
@click.option(
    "--covariates",
    type=click.Choice(["statistical"]),
    help="Weigh the statistical judge's strengths as well: what LLM judges get wrong about length.",
)
@click.option(
    "--folds", type=click.IntRange(2, 50), default=5, show_default=True, help="Folds, by prompt."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of folds and bootstrap.")
@click.option("--name", metavar="NAME", help="What the judge is called in tables.")
@options.chunk_rows
@options.force
@click.option("--json", "as_json", is_flag=True, help="What was measured, as JSON.")
@judge_options
def fit(
    labelled: str,
    specs: tuple[str, ...],
    recorded: str | None,
    output: str,
    covariates: str | None,
    folds: int,
    seed: int,
    name: str | None,
    chunk_rows: int,
    force: bool,
    as_json: bool,
    judging: Judging,
) -> None:
    """Fit on LABELLED battles how a judge's votes become probabilities, and write a judge folder.

    The figures are cross-fitted: every battle is judged by numbers that were learned without the
    battles about its prompt. A judge whose votes tell nothing comes out as the prior.

    \b
    Example:
      arena-judge fit labelled.csv --ballots ballots.parquet -o judges/gpt-4
      arena-judge fit labelled.csv --judge endpoint:gpt-4.1-mini --order both -o judges/mini
      arena-judge fit labelled.csv --judge statistical -o judges/mine --covariates statistical
    """
    if bool(specs) == (recorded is not None):
        raise click.UsageError("give either --judge or --ballots")
    if not os.path.isfile(labelled):
        raise InputError("there is no such file", file=labelled)

    from judge.conformal import fit_conformity
    from judge.files.folders import folder_target
    from judge.judges.recipes import is_made_of, plain
    from judge.judges.recorded import RecordedJudge

    if judging.said and not specs:
        raise click.UsageError("how a model is asked says nothing where the ballots are at hand")
    inputs = [labelled, *specs, *([] if recorded is None else [recorded])]
    target = folder_target(output, inputs=inputs, force=force)
    with judging.judge(specs, seed) if specs else nullcontext() as judge:
        if judge is not None and judging.dry_run:
            judging.asking.tell_estimate(judge, labelled, chunk_rows, as_json=as_json)
            return
        if isinstance(judge, RecordedJudge):
            recorded, judge = specs[0], None
        if judge is not None:
            votes_expected(judge)
        for spec in specs if judge is not None else ():
            if is_made_of(spec, target):
                what = f"{clean(spec)} is made of it"
                raise InputError(what, file=target, mend="choose another folder")
        kept = _read(labelled, judge, recorded, covariates is not None, chunk_rows)
    found, result = _measure(kept, folds, seed)
    settings = _settings(labelled, specs, judge, recorded, target, kept, found, result, folds, seed)
    settings |= judging.to_keep([] if judge is None else [judge], target, seed)
    title = name or _name(judge, kept.ballots)
    settings = plain({"name": title} | settings)
    sure = fit_conformity(kept.labels, found.proba, kept.prompts)
    _write(target, settings, kept.ballots if judge is None else None, kept.seen, sure)
    _tell(settings, found, result, target, as_json)


def _read(
    labelled: str, judge: Judge | None, recorded: str | None, extra: bool, chunk_rows: int
) -> Kept:
    import numpy as np
    import pandas as pd

    from judge.ballot_files import read_ballots
    from judge.battles import iter_battles, labels
    from judge.comparing.leaks import Collector, merged, seen_by
    from judge.judges.covariates import shipped_statistical, statistical_covariates

    statistical: StatisticalJudge | None = shipped_statistical() if extra else None
    tables = [] if recorded is None else [read_ballots(ballot_source(recorded))]
    ids: list[str] = []
    found, strengths = [], []
    numbers: dict[bytes, int] = {}
    prompts: list[int] = []
    seen = Collector()
    batches = iter_battles(labelled, chunk_rows=chunk_rows)
    with Progress("battles", *expected_rows(labelled)) as progress, closing(batches):  # type: ignore[type-var]
        slow = judge is not None and follow([judge], progress)
        for battles in batches:
            said = labels(battles)
            if said is None:
                mend = "add winner_model_a, winner_model_b and winner_tie, or winner"
                raise InputError("has no labels to fit on", file=labelled, mend=mend)
            found.append(said)
            ids += battles["id"].tolist()
            seen.add(battles, labelled)
            for prompt in battles["prompt"]:
                digest = blake2b("\0".join(prompt).encode(), digest_size=16).digest()
                prompts.append(numbers.setdefault(digest, len(numbers)))
            if judge is not None:
                tables.append(_ballots(judge, battles))
            if statistical is not None:
                strengths.append(statistical_covariates(statistical, battles))
            if not slow:
                progress.advance(len(battles))
    inherited = None if statistical is None else seen_by(statistical)
    return Kept(
        ids,
        np.concatenate(found),
        np.array(prompts),
        pd.concat(tables, ignore_index=True),
        np.concatenate(strengths) if extra else None,
        merged([seen.seen(), *([] if inherited is None else [inherited])]),
    )


def _ballots(judge: Judge, battles: pd.DataFrame) -> pd.DataFrame:
    ballots = judge.judge(battles, ballots=True).ballots
    if ballots is None:
        raise InputError(f"{judge.name} fills in no ballots, so none can be counted")
    return ballots


def _measure(kept: Kept, folds: int, seed: int) -> tuple[Fit, Comparison]:
    from judge.aggregation import aggregate
    from judge.aggregation_fitting import fit_aggregator
    from judge.comparison import compare

    found = fit_aggregator(
        kept.ballots,
        kept.ids,
        kept.labels,
        kept.prompts,
        kept.covariates,
        folds=folds,
        seed=seed,
    )
    proba = {
        FITTED: found.proba,
        UNFITTED: aggregate(kept.ballots, kept.ids),
        PRIOR_TOO: found.prior,
    }
    return found, compare(kept.labels, proba, groups=kept.prompts, seed=seed)


def _settings(
    labelled: str,
    specs: tuple[str, ...],
    judge: Judge | None,
    recorded: str | None,
    target: Path,
    kept: Kept,
    found: Fit,
    result: Comparison,
    folds: int,
    seed: int,
) -> dict[str, object]:
    """What goes into judge.yaml."""
    from judge.consistency import report_consistency
    from judge.judges.recipes import as_member, made_by, made_from

    settings: dict[str, object] = {"kind": "aggregated" if judge is not None else "recorded"}
    if len(specs) > 1:
        settings["judges"] = [as_member(spec, target) for spec in specs]
    elif judge is not None:
        settings["judge"] = as_member(specs[0], target)
    files = [Path(labelled)]
    if judge is None and recorded is not None:
        files.append(Path(ballot_source(recorded)))
    settings["aggregator"] = found.aggregator.settings()
    settings["penalty"] = "infinite" if found.penalty == float("inf") else found.penalty
    settings["made_by"] = made_by("fit", folds=folds, seed=seed)
    settings["made_from"] = made_from(files, () if judge is None else [judge])
    word = report_consistency(kept.ballots[kept.ballots["id"].isin(kept.ids)])
    settings["measured"] = _measured(Path(labelled).name, found, result) | {
        "ballots": word.ballots,
        "unreadable_rate": _round(word.unreadable_rate),
        "order_consistency": _round(word.order_consistency),
        "position_bias": _round(word.position_bias),
    }
    return settings


def _measured(data: str, found: Fit, result: Comparison) -> dict[str, object]:
    scores = {score.name: score for score in result.scores}
    own = scores[FITTED]
    gap = own.against_prior
    return {
        "data": data,
        "how": "cross-fitted: numbers and penalty learned without the battles about the prompt",
        "battles": own.battles,
        "prompts": result.prompts,
        "unjudged": own.unjudged,
        "log_loss": _round(own.log_loss),
        "log_loss_interval": [_round(own.low), _round(own.high)],
        "log_loss_unfitted": _round(scores[UNFITTED].log_loss),
        "log_loss_class_prior": _round(result.scores[0].log_loss),
        "log_loss_class_prior_cross_fitted": _round(scores[PRIOR_TOO].log_loss),
        "less_class_prior": gap and [_round(gap.value), _round(gap.low), _round(gap.high)],
        "accuracy": _round(own.accuracy),
        "brier": _round(own.brier),
        "calibration_error": _round(own.calibration_error),
    }


def _round(value: float) -> float | None:
    return round(float(value), 4) if value == value else None


def _name(judge: Judge | None, ballots: pd.DataFrame) -> str:
    if judge is not None:
        return f"{judge.name}, fitted"
    judges = sorted(set(ballots["judge"]))
    return f"{judges[0]}, fitted" if len(judges) == 1 else f"jury of {len(judges)}, fitted"


def _write(
    target: Path,
    settings: dict[str, object],
    ballots: pd.DataFrame | None,
    seen: Seen,
    sure: Conformity,
) -> None:
    from judge.ballot_files import write_ballots
    from judge.comparing.leaks import write_seen
    from judge.judges.recipes import written_judge

    with written_judge(target, settings) as folder:
        write_seen(folder, seen)
        sure.save(folder)
        if ballots is not None:
            write_ballots(folder / "ballots.parquet", ballots)


def _tell(
    settings: dict[str, object], found: Fit, result: Comparison, target: Path, as_json: bool
) -> None:
    if as_json:
        click.echo(json.dumps(settings, allow_nan=False))
    scores: dict[str, JudgeScore] = {score.name: score for score in result.scores}
    own = scores[FITTED]
    prompts = count(result.prompts, "prompt")
    say(
        f"on {count(own.battles, 'labelled battle')} about {prompts}, cross-fitted: "
        f"log loss {own.log_loss:.4f} [{own.low:.4f}, {own.high:.4f}], accuracy {own.accuracy:.3f}"
    )
    gap = own.against_prior
    if gap is not None:
        say(
            f"less the class prior's: {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]; "
            f"unfitted: {scores[UNFITTED].log_loss:.4f}"
        )
    if found.penalty == float("inf"):
        say("the votes tell nothing about these labels: the judge comes out as the prior")
    if own.unjudged:
        say(f"{count(own.unjudged, 'labelled battle')} without a readable ballot left out")
    say(f"{clean(str(target))}: written")
