"""Imports: reads the files of other programs as events, appends these, and notes how far an import came.

Files may be NDJSON, arrays of CloudEvents or CSV, plain or compressed, of any size; they are read in bounded memory.
The caller passes in the function that appends; nothing here imports the store, archives, backups or restores.
"""
