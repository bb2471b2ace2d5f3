"""`flask doctor`: makes lines for people from the facts of `eventvault.doctor`, and says what to do about each.

The checks are pure functions. `command` alone gathers facts, and changes nothing. `flask problems` shares `mends`.
"""
