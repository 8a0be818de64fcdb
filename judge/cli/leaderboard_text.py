"""What `arena-judge leaderboard` says: the table, the words under it, the CSV and the JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from judge.cli.console import count, fit, table

if TYPE_CHECKING:
    import pandas as pd

    from judge.leaderboard import Agreement, Boards, Leaderboard, Shift, StyleEffect

_BESIDE = ["rank", "rank_low", "rank_high", "score", "low", "high"]
_NAME = 40
_MOST_NAMES = 8
_MOST_LINES = 10
# Fewer battles than this tell how a model does, but not how sure that is.
_FEW = 10
# So few prompts cannot tell how prompts differ.
_FEW_PROMPTS = 30


def frame(boards: Boards) -> pd.DataFrame:
    """The board as one table, a row a model, what was held against it in columns of its own."""
    result = boards.main.to_frame()
    if boards.controlled is not None:
        own = boards.controlled.to_frame().set_index("model")
        result = result.join(own[_BESIDE].add_prefix("style_"), on="model")
        _add(result, "style_change", boards.changes)
    if boards.labels is not None and boards.agreement is not None:
        theirs = boards.labels.to_frame().set_index("model")
        result = result.join(theirs[_BESIDE].add_prefix("labels_"), on="model")
        _add(result, "labels_difference", boards.agreement.shifts)
    return result


def _add(result: pd.DataFrame, name: str, shifts: Sequence[Shift]) -> None:
    """Adds how far each model's score moved, and the interval of that."""
    moved = {shift.model: shift for shift in shifts}
    for suffix, values in (
        ("", {model: shift.difference for model, shift in moved.items()}),
        ("_low", {model: shift.low for model, shift in moved.items()}),
        ("_high", {model: shift.high for model, shift in moved.items()}),
    ):
        result[f"{name}{suffix}"] = result["model"].map(values)


def to_dict(boards: Boards) -> dict[str, object]:
    """Everything for machines, None for what is not known."""
    result: dict[str, object] = {"board": boards.main.to_dict()}
    for key in ("controlled", "labels", "labels_controlled"):
        board = getattr(boards, key)
        result[key] = None if board is None else board.to_dict()
    result["changes"] = [asdict(shift) for shift in boards.changes]
    result["agreement"] = None if boards.agreement is None else asdict(boards.agreement)
    found = _finite(result)
    assert isinstance(found, dict)
    return found


def summary(boards: Boards) -> str:
    """One line: who leads."""
    board = boards.main
    leaders = board.tiers[0]
    first = _shown(leaders[0])
    if len(leaders) > 1:
        first += f" and {count(len(leaders) - 1, 'model')} that cannot be told from it"
    verb = "lead" if len(leaders) > 1 else "leads"
    return (
        f"{count(len(board.models), 'model')} by {board.name}, "
        f"{count(board.counted, 'battle')}: {first} {verb}"
    )


def lines(boards: Boards) -> Iterator[str]:
    """The table and, under it, what a reader must know to read it right."""
    yield from _table(boards)
    yield ""
    yield from _notes(boards.main)
    if boards.controlled is not None:
        yield ""
        yield from _style(boards)
    if boards.agreement is not None:
        yield ""
        yield from _agreement(boards.agreement)


def _table(boards: Boards) -> list[str]:
    board = boards.main
    shown = board.to_frame()
    columns: dict[str, list[str]] = {
        "rank": [_rank(board, k) for k in range(len(board.models))],
        "model": [_shown(model) for model in board.models],
        "score [95 %]": [
            f"{score:.0f} {_range(low, high, '.0f')}"
            for score, low, high in zip(board.scores, board.low, board.high, strict=True)
        ],
        "P(win)": [f"{value:.3f}" for value in board.win_probability],
        "battles": [f"{value:,}" for value in shown["battles"]],
        "win rate": [f"{value:.3f}" for value in shown["win_rate"]],
    }
    if board.islands.max() > 1:
        columns["island"] = [str(number) for number in board.islands]
    if boards.controlled is not None:
        columns |= _beside(board, boards.controlled, boards.changes, "style-controlled", "change")
    if boards.labels is not None and boards.agreement is not None:
        differences = boards.agreement.shifts
        columns |= _beside(board, boards.labels, differences, "by labels", "difference")
    rows = list(zip(*columns.values(), strict=True))
    return table([name.strip() for name in columns], rows, left=2)


def _beside(
    board: Leaderboard, other: Leaderboard, shifts: Sequence[Shift], title: str, gap: str
) -> dict[str, list[str]]:
    """Three columns on what another board says of the same models, "-" where it says nothing."""
    place = {model: k for k, model in enumerate(other.models)}
    shift = {one.model: one for one in shifts}
    cells = []
    for model in board.models:
        if model in place and model in shift:
            k, one = place[model], shift[model]
            span = _range(one.low, one.high, "+.0f")
            cells.append(
                (
                    f"{other.scores[k]:.0f}",
                    _rank(other, k),
                    f"{_plain(one.difference, '+.0f')} {span}",
                )
            )
        else:
            cells.append(("-", "-", "-"))
    scores, ranks, gaps = (list(column) for column in zip(*cells, strict=True))
    # Two columns may be called rank; a dictionary must tell them apart, a reader need not.
    return {title: scores, f"rank{' ' * len(title)}": ranks, f"{gap} [95 %]": gaps}


def _rank(board: Leaderboard, k: int) -> str:
    low, high = board.rank_low[k], board.rank_high[k]
    return f"{board.ranks[k]}" if low == high else f"{board.ranks[k]} ({low}-{high})"


# --- words ----------------------------------------------------------------------------------------


def _notes(board: Leaderboard) -> Iterator[str]:
    yield f"{_measured(board)} {_zero(board)} A tie counts half."
    yield (
        "In brackets, the ranks a model may have: behind those better at 95 %, ahead of those "
        "worse. P(win) is against each other model in turn."
    )
    yield (
        f"Every model also drew {_battles(board.prior)} against an average one, which keeps scores "
        f"finite{_spotless(board)}."
    )
    if board.prompts == 1:
        yield "All battles are about one prompt: nothing can be said about any other."
    elif board.prompts < _FEW_PROMPTS:
        yield f"Only {board.prompts} prompts: intervals from so few are rough."
    few = [m for m, n in zip(board.models, board.battles.sum(axis=1), strict=True) if n < _FEW]
    if few:
        yield f"Fewer than {_FEW} battles, so intervals are rough: {_names(few)}."
    number = int(board.islands.max())
    if number > 1:
        yield (
            f"The models fall into {number} islands that never met each other: scores and ranks "
            "hold within an island alone."
        )
    left = board.left_out
    verdict = "without a label" if board.name == "labels" else "unjudged"
    for left_out, why in (
        (left.unnamed, "without the names of two models"),
        (left.own, "of a model with itself"),
        (left.unjudged, verdict),
    ):
        if left_out:
            yield f"{count(left_out, 'battle')} {why} left out."
    yield from _tiers(board)


def _measured(board: Leaderboard) -> str:
    how = "by the sandwich formula, prompts taken together"
    if board.intervals == "bootstrap":
        how = f"from {board.rounds:,} bootstrap rounds over prompts, seed {board.seed}"
    return (
        f"{count(len(board.models), 'model')}, {count(board.counted, 'battle')}, "
        f"{count(board.prompts, 'prompt')}; intervals {how}."
    )


def _zero(board: Leaderboard) -> str:
    ten = "and 400 points are odds of ten to one."
    if board.anchor is None:
        return f"The average model scores 1000, {ten}"
    return f"{_shown(board.anchor[0])} is fixed at {board.anchor[1]:g}, {ten}"


def _battles(battles: float) -> str:
    """1 battle, 0.5 battles."""
    return f"{battles:g} battle" if battles == 1 else f"{battles:g} battles"


def _spotless(board: Leaderboard) -> str:
    """Names those whose scores nothing but the prior keeps from infinity."""
    won, battles = board.won.sum(axis=1), board.battles.sum(axis=1)
    lost = battles - won - board.tied.sum(axis=1)
    always = [m for m, w, n in zip(board.models, won, battles, strict=True) if w >= n]
    never = [m for m, x, n in zip(board.models, lost, battles, strict=True) if x >= n]
    parts = [
        f"{_names(names)} {what} every battle"
        for names, what in ((always, "won"), (never, "lost"))
        if names
    ]
    return f": {', '.join(parts)}" if parts else ""


def _tiers(board: Leaderboard) -> Iterator[str]:
    several = [tier for tier in board.tiers if len(tier) > 1]
    for tier in several[:_MOST_LINES]:
        yield f"These cannot be told apart: {_names(tier)}."
    if len(several) > _MOST_LINES:
        yield f"... and {count(len(several) - _MOST_LINES, 'more such group')} further down."


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(_shown(name) for name in names[:_MOST_NAMES])
    rest = len(names) - _MOST_NAMES
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def _style(boards: Boards) -> Iterator[str]:
    """What each style does to who wins, by the judge and, where there are any, by labels."""
    assert boards.controlled is not None
    board, labels = boards.controlled, boards.labels_controlled
    header = ["style", f"by {_shown(board.name)}", "points"]
    header += ["by labels", "points"] if labels is not None else []
    theirs = {} if labels is None else {effect.name: effect for effect in labels.style}
    rows = []
    for effect in board.style:
        row = [effect.name, *_effect(effect)]
        if labels is not None:
            row += _effect(theirs.get(effect.name))
        rows.append(row)
    if rows:
        yield "Log-odds of winning [95 %] for one standard deviation more of it than the other's:"
        yield from table(header, rows)
    if board.constant:
        yield f"Alike in all responses, so not held constant: {', '.join(board.constant)}."


def _effect(effect: StyleEffect | None) -> list[str]:
    if effect is None:
        return ["-", "-"]
    span = _range(effect.low, effect.high, "+.3f")
    return [f"{effect.value:+.3f} {span}", f"{effect.score:+.0f}"]


def _agreement(found: Agreement) -> Iterator[str]:
    judge, on = (
        _shown(found.judge),
        f"{count(found.battles, 'battle')} of {found.models} models",
    )
    if math.isnan(found.kendall):
        yield f"{judge} and the labels, {on}: one of the boards has all models equal."
        return
    yield (
        f"{judge} and the labels, {on}: Kendall's tau-b {found.kendall:.2f} "
        f"{_range(found.kendall_low, found.kendall_high, '.2f')}, Spearman's rho "
        f"{found.spearman:.2f} {_range(found.spearman_low, found.spearman_high, '.2f')}."
    )
    if not math.isnan(found.kendall_ceiling):
        yield (
            "Labels this uncertain agree with themselves, resampled, to "
            f"{found.kendall_ceiling:.2f} and {found.spearman_ceiling:.2f}: hardly more can be had."
        )
    if math.isfinite(found.spread):
        yield f"The judge's scores spread {found.spread:.2f} times as far as the labels'."
    yield (
        f"Of {count(found.pairs, 'pair')}, {found.opposed:,} stand the other way round. The labels "
        f"tell {found.told_apart:,} apart; the judge tells {found.confirmed:,} of them apart in "
        f"the same order and {found.contradicted:,} in the other, each pair taken on its own."
    )
    if not found.swaps:
        yield "With all pairs considered, no swap is beyond doubt."
    for swap in found.swaps[:_MOST_LINES]:
        yield (
            f"Swapped beyond doubt: {_shown(swap.better)} over {_shown(swap.worse)} by "
            f"{swap.gap:.0f} points by labels, {-swap.judge_gap:.0f} behind by {judge}."
        )
    if len(found.swaps) > _MOST_LINES:
        yield f"... and {count(len(found.swaps) - _MOST_LINES, 'more such swap')}."


def _shown(name: str) -> str:
    return fit(name, _NAME) or "(nothing that can be shown)"


def _range(low: float, high: float, form: str) -> str:
    return "[-]" if math.isnan(low) else f"[{_plain(low, form)}, {_plain(high, form)}]"


def _plain(value: float, form: str) -> str:
    """The number without the sign that a zero may have."""
    text = f"{value:{form}}"
    return text.replace("-", "+" if form.startswith("+") else "") if float(text) == 0 else text


def _finite(value: object) -> object:
    """The same with None for NaN, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
