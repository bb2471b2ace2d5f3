"""Reads and assembles archives of format 2: the index with a digest of every member, the reader, and the assembly.

It uses the parts of `eventvault.archive` that both formats share, and knows nothing of format 1.
"""
