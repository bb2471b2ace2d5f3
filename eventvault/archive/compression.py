"""How hard an archive is compressed: ARCHIVE_COMPRESSION.

All three give ordinary deflate data (RFC 1951) and release the interpreter lock. `fast` is ISA-L: on tables of JSON
events its level 2 is as fast as level 1 and 2 % smaller. `small` is zlib-ng's level 8: 0.8 % smaller than gzip's own
level 6 there at twice its speed; libdeflate's binding compresses with the interpreter lock held, and ISA-L's hardest
level stays above gzip. `store` does not compress.
"""

from __future__ import annotations

import zlib
from typing import Literal

from isal import isal_zlib

Compression = Literal["fast", "small", "store"]

_RAW = -15
_RANKS: dict[Compression, int] = {"store": 0, "fast": 1, "small": 2}


def deflate(content: bytes | memoryview, compression: Compression) -> bytes:
    """Raw deflate data of `content`. The same content gives the same bytes."""
    packed: bytes
    if compression == "fast":
        packed = isal_zlib.compress(content, 2, _RAW)
    elif compression == "small":
        # Imported where it is used: most archives are `fast`, and each chore is a process of its own.
        from zlib_ng import zlib_ng

        packed = zlib_ng.compress(content, 8, _RAW)
    else:
        packed = zlib.compress(content, 0, _RAW)
    return packed


def at_least(found: Compression, wanted: Compression) -> bool:
    """Whether what was compressed as `found` says may stand in an archive that shall be `wanted`."""
    return _RANKS[found] >= _RANKS[wanted]
