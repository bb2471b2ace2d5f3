"""What the documentation claims, measured. Nothing here is an assertion; nothing in the service imports it.

`make bench-serve` measures serving and memory and writes `docs/benchmarks.md`.
"""
