"""Reads the past without a restore: views of a moment, differences of two moments, exports, selective restores.

Nothing here changes stored events; a selective restore appends new ones. This folder may import `restore`, which may
not import this folder.
"""
