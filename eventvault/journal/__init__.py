"""The journal: what was committed, as compressed JSON lines in `BACKUP_DIR/journal/`, a second behind the database.

With the archives it gives back any moment, and without one too where it goes back to the beginning. Segments are
readable without this program (docs/format.md). It reads the database through the bus and never writes to it; it
imports neither the restore nor a framework, and no append waits for it.
"""
