"""A statistical judge of one's own: what `arena-judge finetune statistical` does, and how the one
that ships with the package comes about (`scripts/train_statistical.py`).

`tables` has battles with their features, `authors` softens labels by who wrote the responses,
`strength` learns which response is stronger, `heads` the scale of that and the tie, and `crossing`
says what judges make of battles that they have not learned from. `material` reads what a judge is
made of, `making` makes one from it, and `folders` those of folds.
"""
