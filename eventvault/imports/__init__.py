"""Imports: reads files that other programs wrote as events, appends them, and notes how far an import came.

NDJSON, arrays of CloudEvents and CSV, plain or compressed, of any size in bounded memory. The caller passes in what
appends; nothing here imports the store, archives, backups or restores.
"""
