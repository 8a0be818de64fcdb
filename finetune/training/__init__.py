"""The loop of training: `objectives` (who won) or `distilling` (what teachers say as well) say what
is learned, `planning` over `ordering` in which steps -> `loop`, by `optimising`, on `processes`
that may share weights (`sharding`) -> `checkpoints` and `curves`; `speed` says how well a device is
used, and `rehearsing` makes some steps to see it.

It knows of `settings`, and of what teachers say (`logits`); files of battles and judge folders are
for `runs`.
"""
