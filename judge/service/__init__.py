"""Judges over HTTP: a request's body to battles, battles to batches, judgments to replies.

From the wire to the array: `app` -> `service` -> `batching` -> `judging` -> the judge's `judge`.
"""
