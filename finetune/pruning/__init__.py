"""Battles whose labels are noise: `suspects` by what was said out of fold -> `measured`, whether a
judge gains by leaving them out -> `rewriting` of the file without them.

It takes tables and arrays, and knows of nothing else of `finetune`.
"""
