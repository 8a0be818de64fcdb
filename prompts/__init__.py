"""The discriminator and annotation prompts: versioned YAML with Jinja text, none of it in Python.

What asks a model for a ballot or an annotation names its prompt by file and version, so that a
judgement can say which words it came from. This package is data, and imports nothing of the others:
`judge.prompt_files` reads the files, `docs/prompts.md` says how to write one's own.
The statistical judge asks no model, and needs none of it.
"""
