"""Folds of battles, and judges of folds: `dealing` battles out -> the `table` of who is held out
where -> the `sides` of one fold, what its judge learns from and is measured on.

Judges come back: `folders` marks a folder of them and adds up what they say of all battles,
`judges` says which of them may speak of a battle. How they are trained is not known here, so that
trained and statistical judges of folds are alike. It knows of `rows` and `measuring`.
"""
