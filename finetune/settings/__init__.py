"""What a run of training is told: `sections` with every leaf -> `config`, one tree that is a YAML
file and options both -> `checking`, which refuses what does not go together.

It imports nothing else of `finetune`, and everything that trains takes a config.
"""
