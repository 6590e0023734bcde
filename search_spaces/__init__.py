"""Sweep files: each declares the trials of one question."""
