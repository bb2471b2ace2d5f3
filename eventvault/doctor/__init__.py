"""Gathers the state of an installation for `flask doctor`, whether the service runs or not.

It changes nothing in the three folders, takes no lock, starts no store, and never waits beyond a deadline. `gather`
returns plain facts (`facts`), and `app.cli` judges them. Nothing else in the core imports this folder.
"""
