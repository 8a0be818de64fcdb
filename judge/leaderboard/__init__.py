"""Boards of models from battles: `rank_models` makes one, `compare_boards` holds two side by side.

board = rank_models(battles["model_a"], battles["model_b"], labels(battles))
board.to_frame()
"""

from __future__ import annotations

from judge.leaderboard.agreement import Agreement, Shift, Swap, compare_boards, shifts
from judge.leaderboard.board import Leaderboard, LeftOut, StyleEffect
from judge.leaderboard.boards import Boards, Named, make_boards
from judge.leaderboard.rating import rank_models
from judge.leaderboard.style import STYLE, style_differences

__all__ = [
    "STYLE",
    "Agreement",
    "Boards",
    "Leaderboard",
    "LeftOut",
    "Named",
    "Shift",
    "StyleEffect",
    "Swap",
    "compare_boards",
    "make_boards",
    "rank_models",
    "shifts",
    "style_differences",
]
