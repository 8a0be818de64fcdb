"""What `arena-judge finetune train --stats-only` says to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from judge.cli.console import count, duration, table

if TYPE_CHECKING:
    from finetune.runs.statistics import Statistics
    from finetune.training.rehearsing import Speed


def lines(stats: Statistics) -> list[str]:
    """The tables of files and of lengths."""
    return [*_files(stats), "", *_lengths(stats)]


def summary(stats: Statistics) -> list[str]:
    """What is said in words: the numbers of battles, what is cut, what training would take."""
    cuts = stats.cuts
    share = cuts.cut / max(cuts.sequences, 1)
    said = [
        f"{count(stats.merged, 'battle')} merged, {stats.deduplicated:,} without those that stand "
        f"there twice, {stats.used:,} used, about {count(stats.prompts, 'prompt')}",
        f"at {cuts.max_length:,} tokens {cuts.policy} cuts {share:.1%} of sequences and "
        f"{cuts.lost_share:.1%} of tokens",
    ]
    if stats.empty:
        said.append(f"{count(stats.empty, 'battle')} with an empty text kept")
    for one in stats.files:
        why = ", ".join(f"{number:,} {reason}" for reason, number in one.left_out.items())
        if why:
            said.append(f"{one.name}: left out {why}")
    if stats.speed is not None:
        said += speed_lines(stats.speed)
    return said


def _files(stats: Statistics) -> list[str]:
    rows = []
    for one in stats.files:
        mean = stats.labels.get(one.name)
        shares = [f"{value:.1%}" for value in mean] if mean else ["-"] * 3
        numbers = [one.battles, one.used, one.turned, one.pooled]
        rows.append((one.name, f"{one.weight:g}", *(f"{n:,}" for n in numbers), *shares))
    header = ("file", "weight", "battles", "used", "swapped", "pooled", "A", "B", "tie")
    return table(header, rows)


def _lengths(stats: Statistics) -> list[str]:
    from finetune.runs.statistics import PERCENTILES

    rows = [
        (name, f"{of.mean:,.0f}", *(f"{value:,}" for value in of.percentiles))
        for name, of in stats.lengths.items()
    ]
    named = ("median" if at == 50 else "longest" if at == 100 else f"{at} %" for at in PERCENTILES)
    return table(("tokens", "mean", *named), rows)


def speed_lines(speed: Speed) -> list[str]:
    """How fast training would be, and how long it would take."""
    used = "" if speed.share is None else f", {speed.share:.0%} of the device's peak"
    return [
        f"{speed.tokens_second:,.0f} tokens and {speed.rows_second:,.1f} rows a second{used}, "
        f"{speed.peak_bytes / 2**30:.1f} GiB",
        f"training would be {count(speed.steps, 'step')} and {speed.total_tokens:,} tokens, "
        f"about {duration(speed.seconds)}",
    ]
