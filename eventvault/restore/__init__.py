"""Restores: an archive, a moment or a foreign database becomes the event database.

`restorer` has the route in one place. It uses `moments`, which plans and builds the database of a moment, and `swap`,
which replaces the live database. `start` is what a start of the service does. Nothing here imports the past.
"""
