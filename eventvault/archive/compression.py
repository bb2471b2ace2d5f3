"""Compresses the members of an archive as the setting ARCHIVE_COMPRESSION says: `fast`, `small` or `store`.

All three write deflate data (RFC 1951) and release the interpreter lock. On tables of JSON events: `fast` is ISA-L's
level 2, as fast as its level 1 and 2 % smaller. `small` is zlib-ng's level 8, 0.8 % smaller than gzip's level 6 at
twice its speed; libdeflate's binding holds the interpreter lock, and ISA-L's hardest level compresses less than gzip.
`store` does not compress.
"""

from __future__ import annotations

import zlib
from typing import Literal

from isal import isal_zlib

Compression = Literal["fast", "small", "store"]

_RAW = -15
_RANKS: dict[Compression, int] = {"store": 0, "fast": 1, "small": 2}


def deflate(content: bytes | memoryview, compression: Compression) -> bytes:
    """Return `content` as raw deflate data. The same content gives the same bytes."""
    packed: bytes
    if compression == "fast":
        packed = isal_zlib.compress(content, 2, _RAW)
    elif compression == "small":
        # Imported here because most archives are `fast`, and each chore is a process of its own.
        from zlib_ng import zlib_ng

        packed = zlib_ng.compress(content, 8, _RAW)
    else:
        packed = zlib.compress(content, 0, _RAW)
    return packed


def at_least(actual: Compression, required: Compression) -> bool:
    """Return True if a member compressed as `actual` may be copied into an archive of the level `required`."""
    return _RANKS[actual] >= _RANKS[required]
