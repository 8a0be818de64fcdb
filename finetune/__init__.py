"""Classifiers made here: packing, losses, training, folds, distillation, adapters, quantisation.

What comes out is a judge folder like any other. It imports `judge`; nothing in `judge` imports it,
and torch and its like are imported by the functions that need them, never with the package.
"""
