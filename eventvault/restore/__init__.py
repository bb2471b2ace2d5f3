"""Restores: an archive, a moment or a foreign database becomes the event database.

`moments` finds and builds the database of a moment, `swap` replaces the live database, `start` does what a start of
the service needs. The modules here are what all three use. Nothing here imports the past or the store.
"""
