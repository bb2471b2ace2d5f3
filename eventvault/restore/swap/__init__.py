"""The swap: replaces the live database while the service runs, finishes that after a crash, and undoes it.

It gets a database that is ready, whatever it was built from: it imports neither `moments` nor `start`.
"""
