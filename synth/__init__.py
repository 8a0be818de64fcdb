"""Synthetic annotations: plan, annotate, check, export, and their commands.

Labels for battles that nobody has voted on, made by judges and checked against the votes there are.
It imports `judge`; nothing in `judge` imports it, so that judging never pays for it.
"""
