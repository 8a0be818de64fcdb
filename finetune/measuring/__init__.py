"""How far off a judge is: `labelled` battles to measure on -> `scoring` of one judge, `trials` of
an average beside what it is made of, `worth` of a judge before and after it was changed.

It knows of `rows` alone.
"""
