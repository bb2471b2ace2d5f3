"""Databases and archives that EventVault did not make: recognised, read record by record, and imported as events.

Reads a private copy only; imports nothing of restores.
"""
