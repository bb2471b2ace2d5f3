"""The journal: committed events as compressed JSON lines in `BACKUP_DIR/journal/`, about a second behind the database.

Segments are readable without EventVault (`docs/format.md`). The journal reads the database and never writes to it, no
append waits for it, and it imports nothing of restores or the past.
"""
