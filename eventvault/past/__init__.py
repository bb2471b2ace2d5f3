"""The past, read without a restore: views of a moment, differences of two moments, selective restores.

Nothing here changes stored events; a selective restore appends new ones. It may import restores, which may not import
it.
"""
