"""Which battles are learned from: `sources` reads files into one table -> `sifting` leaves out what
is there twice or held out, `shuffling` says which response is shown as A -> `data` a training set
-> `splitting` by prompt.

It imports nothing else of `finetune`; battles go from here to everything else.
"""
