"""Judges that are there made into one: the weights in `folders` -> `plans` of which have a mean ->
`averaging` over `low_rank`, and `averages` the whole of it, tried before it is written; `weighing`
says what each counts for. `merging` works an adapter into its base.

It takes judge folders as `runs` writes them, and trains nothing.
"""
