"""What is measured of an annotated set, a module a question; `synth.checking.whole` asks them all.

Every measure is a small function from `Records` and arrays to a frozen result. What the set does
not say is None or NaN: "not known".
"""
