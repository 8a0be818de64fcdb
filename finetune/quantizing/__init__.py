"""A judge in few bits: what is asked (`settings`) -> `loading` the model and `texts` to calibrate
by -> one of the `ways`, layer by layer in `rounding` over `gptq`, or a library's -> `writing` the
folder; `making` is all of it, measured.

It takes judge folders (`weights.folders`), and trains nothing.
"""
