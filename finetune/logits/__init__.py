"""What teachers say of battles: judges or arrays through `making` (`inferring` block by block, here
or `spreading` over a cluster) -> the `table` of a teacher (or plain `arrays`) -> `calibrated` on
labels out of fold -> `teachers` as a student learns from them.

It knows of `rows` and `folds`, and of no training.
"""
