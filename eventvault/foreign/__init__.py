"""Foreign databases: detects a LevelDB that EventVault did not write and imports its records as events.

It reads private copies only, and imports nothing of backups, the journal or restores.
"""
