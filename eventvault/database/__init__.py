"""The event database: one LevelDB, written by one committer, read by many.

Keys, events, generations and the checkpoint live here. Imports nothing of archives, journal, restores or the process
that owns the database.
"""
