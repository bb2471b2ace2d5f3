"""Format 2: the index with a digest of every member, its writer's part, and its reader.

It uses what both formats share in `eventvault.archive`, and knows nothing of format 1.
"""
