"""Judging on many machines: blocks of battles, spread over the workers of a Ray cluster."""
