"""Restores: an archive, a moment or a foreign database becomes the event database.

`restorer` is the route: choose → plan → build → swap → finish. `builder` builds the new database, with `moments` for a
moment; `swap` replaces the live one; `start` does what a start of the service needs. These use the other modules.
Nothing here imports the past or the store.
"""
