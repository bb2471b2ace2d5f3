"""The swap: replaces the live database while the service runs, finishes that after a crash, and undoes it.

It takes a prepared database and never asks where that came from: it imports neither `moments` nor `start`.
"""
