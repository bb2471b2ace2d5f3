"""The event database: one LevelDB with one writer (group commit) and many readers.

Keys, sequences, generations, checkpoints and the swap of the open handle live here. It imports nothing of archives,
backups, the journal or restores.
"""
