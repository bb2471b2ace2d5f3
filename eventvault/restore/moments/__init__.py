"""A moment of the past: locate it, plan the way to it, build the database that it means.

Changes no live data; a swap is the business of `restore.swap`.
"""
