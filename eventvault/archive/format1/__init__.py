"""Reads archives of format 1, which earlier versions of this program wrote. Nothing here writes.

It uses what both formats share in `eventvault.archive`, and knows nothing of format 2.
"""
