"""The archive format: reads, writes, checks and locks a `backup_….tar.gz`. `docs/format.md` describes its bytes.

It handles one file at a time and knows nothing of the catalogue, retention or restores.
"""
