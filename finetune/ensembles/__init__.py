"""Several judges together, as they are asked and measured: `composing` one of many that are alike,
`evaluating` judges of folds and others on held-out battles -> `submissions` of what they predict.

It takes judge folders and predictions, and writes no weights.
"""
