"""Who owns the database: one process opens it, all others reach it through the same interface.

`interface` is what the rooms above may rely on. Nothing outside this folder opens the event database.
"""
