"""One run of training, from its config to the judge folder: `targets` where it may be written ->
`preparing` battles and `starting` the network (`lora`) -> `making` a judge by the loop, or
`vote_judges` one that writes ballots (`votes`); `running` is that in one call, `teaching` one for
each fold. `statistics` tells of a run before it begins, `autofit` lowers its config to the memory.

It puts `rows`, `folds`, `logits`, `training` and `measuring` together.
"""
