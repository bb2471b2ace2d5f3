"""Moments: locates a moment, plans how to reach it and builds its database beside the live one.

It changes no live data and imports nothing of `restore.start`.
"""
