"""LevelDB's own files, read without LevelDB: logs, MANIFEST and signs of damage.

It only reads, and it never touches a LOCK file: closing that file would release the process's fcntl lock. It knows no
events and imports nothing of EventVault but the errors.
"""
