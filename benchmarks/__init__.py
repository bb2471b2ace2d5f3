"""Benchmarks: they measure what the documentation claims and write `docs/benchmarks.md`.

They assert nothing, and no other package imports them.
"""
