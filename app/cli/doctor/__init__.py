"""`flask doctor`: what the facts of `eventvault.doctor` mean, as lines for people, and what mends it.

The checks are pure functions. `command` alone gathers facts, and changes nothing. `flask problems` shares `mends`.
"""
