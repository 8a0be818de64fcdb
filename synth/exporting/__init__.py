"""An annotated set as training data: preferences, chat messages, pairs of judgments, a data set.

`preference` writes battles with soft labels, `chat` messages whose last is a ballot, `pairs` a
right and a wrong judgment of the same messages, `dataset` a Hugging Face folder with its card. What
of the set goes into none of them is counted, with the reason.
"""
