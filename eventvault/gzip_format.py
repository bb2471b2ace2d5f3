"""The gzip format, as zlib and isal name it."""

WBITS = 31
"""The header and the trailer of gzip around the data, and the largest window."""
