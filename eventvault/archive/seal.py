"""The seal of an archive: it proves that a holder of an installation's key made the archive.

The seal is the HMAC-SHA256 (RFC 2104) of the archive's root, which stands for all of its bytes.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec


class SealedRoot(msgspec.Struct, frozen=True):
    """The root and the seal at the end of an archive, in hex."""

    root: str
    seal: str


def seal_root(key: bytes, root: bytes) -> bytes:
    """Return the seal of `root`, 32 bytes."""
    return hmac.digest(key, root, hashlib.sha256)


def fits(key: bytes, sealed: SealedRoot) -> bool:
    """Return True if the seal was made with `key` for this root."""
    try:
        root, seal = bytes.fromhex(sealed.root), bytes.fromhex(sealed.seal)
    except ValueError:
        return False
    return hmac.compare_digest(seal_root(key, root), seal)
