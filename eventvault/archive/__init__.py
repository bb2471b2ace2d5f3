"""One archive: reading and writing `backup_….tar.gz` byte by byte, and locking it. `docs/format.md` is the format.

Knows nothing of the catalogue, of rotation or of a live database.
"""
