"""Rehearsals: a real restore into a scratch folder, compared with the live events, measured and thrown away.

Nothing here changes the live database, an archive or the journal. A rehearsal uses the code of a restore, and imports
nothing of the store.
"""
