"""The page of `arena-judge leaderboard`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from judge.report.charts import Row, Table, forest, grid
from judge.report.drawing import number
from judge.report.page import Fact, Page, Section

if TYPE_CHECKING:
    from judge.leaderboard.agreement import Agreement
    from judge.leaderboard.board import Leaderboard, StyleEffect
    from judge.leaderboard.boards import Boards

_MOST = 40  # models whose win rates are drawn as a grid


def leaderboard_page(
    boards: Boards, *, source: str, words: Sequence[str] = (), origin: Sequence[str] = ()
) -> Page:
    """Models by strength, and what is sure of them.

    Args:
        boards: with style held constant or without, and the labels' beside a judge's.
        source: what the battles are called.
        words: what is to be known of them.
        origin: how the page was made, a line each.
    """
    board = boards.controlled or boards.main
    sections = [_board(board, words), _wins(board)]
    if board.style:
        sections.append(_style(board, boards))
    if boards.agreement is not None:
        sections.append(_agreement(boards.agreement))
    first = board.tiers[0] if board.tiers else board.models[:1]
    lead = f"{board.models[0]} stands first."
    if len(first) > 1:
        names = ", ".join(first[:6]) + (" and others" if len(first) > 6 else "")
        lead = f"{len(first)} models cannot be told apart on these battles: {names}."
    facts = (
        Fact("models", f"{len(board.models):,}"),
        Fact("battles", f"{board.counted:,}", f"{board.prompts:,} prompts"),
        Fact("verdicts by", board.name),
    )
    return Page(f"Models ranked on {source}", lead, facts, tuple(sections), tuple(origin))


def _board(board: Leaderboard, words: Sequence[str]) -> Section:
    columns = (board.models, board.scores.tolist(), board.low.tolist(), board.high.tolist())
    rows = [Row(name, score, low, high) for name, score, low, high in zip(*columns, strict=True)]
    table = Table(
        ("model", "rank", "cannot be ruled out", "score", "95 %", "P(win)", "battles"),
        tuple(_model(board, place) for place in range(len(board.models))),
    )
    chart = forest(
        "Scores",
        "400 points are odds of ten to one. Models whose intervals overlap much cannot be told "
        "apart.",
        rows,
        "score on Elo's scale",
        digits=0,
    )
    said = list(words)
    if board.style:
        held = ", ".join(one.name for one in board.style)
        said.append(f"Style is held constant on this board: {held}.")
    return Section("The board", tuple(said), (chart,), table)


def _model(board: Leaderboard, place: int) -> tuple[str, ...]:
    low, high = int(board.rank_low[place]), int(board.rank_high[place])
    return (
        board.models[place],
        str(int(board.ranks[place])),
        str(low) if low == high else f"{low} to {high}",
        number(float(board.scores[place]), 0),
        f"{number(float(board.low[place]), 0)} to {number(float(board.high[place]), 0)}",
        number(float(board.win_probability[place]), 3),
        f"{board.battles[place].sum():,.0f}",
    )


def _wins(board: Leaderboard) -> Section:
    names = board.models[:_MOST]
    rates = board.win_rates[: len(names), : len(names)].tolist()
    chart = grid(
        "Share of battles won",
        "By the model of the row against that of the column, a tie counting half; empty where they "
        "never met. Columns are in the order of the rows.",
        names,
        names,
        [[math.nan if r == c else v for c, v in enumerate(row)] for r, row in enumerate(rates)],
        corner="won by",
    )
    cut = f"The first {_MOST} of {len(board.models)} models."
    return Section("Who beats whom", (cut,) if len(board.models) > _MOST else (), (chart,))


def _style(board: Leaderboard, boards: Boards) -> Section:
    charts = [
        forest(
            "What style alone is worth",
            "Points on the board's scale for one standard deviation more of it.",
            [_effect(one) for one in board.style],
            "points",
            reference=(0.0, "nothing"),
            digits=1,
            sign=True,
        )
    ]
    if boards.changes:
        moved = sorted(boards.changes, key=lambda one: -one.difference)
        charts.append(
            forest(
                "What holding style constant changes",
                "A model above zero is better than its style makes it look.",
                [Row(one.model, one.difference, one.low, one.high) for one in moved[:_MOST]],
                "points gained",
                reference=(0.0, "no change"),
                digits=0,
                sign=True,
            )
        )
    return Section("Style", (), tuple(charts))


def _effect(one: StyleEffect) -> Row:
    """In points: the interval is in log-odds, as the value is."""
    scale = one.score / one.value if one.value else math.nan
    return Row(one.name, one.score, one.low * scale, one.high * scale)


def _agreement(found: Agreement) -> Section:
    rows = [
        Row("Kendall's tau-b", found.kendall, found.kendall_low, found.kendall_high, "best"),
        Row("at most, for a faultless judge", found.kendall_ceiling, math.nan, math.nan, "quiet"),
        Row("Spearman's rho", found.spearman, found.spearman_low, found.spearman_high, "best"),
        Row("at most, for a faultless judge", found.spearman_ceiling, math.nan, math.nan, "quiet"),
    ]
    order = forest(
        f"How far {found.judge} agrees with {found.labels}",
        "1 is the same order. Labels as uncertain as these would not agree with themselves better "
        "than the ceiling.",
        rows,
        "rank correlation",
        digits=3,
    )
    moved = sorted(found.shifts, key=lambda one: -one.difference)
    shifted = forest(
        f"Scores by {found.judge} less those by {found.labels}",
        "Above zero the judge thinks more of a model than people do.",
        [Row(one.model, one.difference, one.low, one.high) for one in moved[:_MOST]],
        "points",
        reference=(0.0, "agreed"),
        digits=0,
        sign=True,
    )
    said = [
        f"Of {found.pairs:,} pairs of models {found.opposed:,} stand in opposite order. The labels "
        f"tell {found.told_apart:,} apart; of these the judge confirms {found.confirmed:,} and "
        f"contradicts {found.contradicted:,}."
    ]
    said += [
        f"Beyond doubt in opposite order: people put {one.better} before {one.worse}."
        for one in found.swaps[:10]
    ]
    return Section("The judge's board and people's", tuple(said), (order, shifted))
