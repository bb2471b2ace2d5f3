"""Reads LevelDB's own files without LevelDB: logs, MANIFEST, tables and signs of damage.

It never touches a LOCK file, because closing that file would release the process's fcntl lock. It knows nothing of
events, and imports nothing of EventVault but the errors and the opening of regular files.
"""
