"""LevelDB's files, read without LevelDB: its logs, its MANIFEST, and what they say about a database.

Everything here only reads, and never touches a LOCK file: LevelDB's lock is an fcntl lock, which a process loses
by opening and closing that file. It knows no events and imports nothing of EventVault but its errors.
"""
