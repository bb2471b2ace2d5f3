"""Reads archives of format 1, which earlier versions of this program wrote. Nothing here writes.

It uses the parts of `eventvault.archive` that both formats share, and knows nothing of format 2.
"""
