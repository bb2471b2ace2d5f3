"""Memory that all workers share: when something was changed last, the newest shared answers, and wrong tokens.

gunicorn's master imports this module before it forks. Nothing is locked, as a worker may be killed at any time: an
answer that two workers write at once fails its checksum and is ignored.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import zlib
from collections.abc import Hashable
from typing import NamedTuple

from eventvault.access.throttle import Throttle

EVENTS, OTHERS = 0, 1
"""What was changed: events, or something else."""
LONGEST = 256 * 1024
"""Most bytes of an answer that is held; a longer one is given to those who ask at the same time, and then forgotten."""

_CHANGES = struct.Struct("<2q")
_HEAD = struct.Struct("<q16sII")
"""When the answer was begun, what it answers, its length and its checksum."""
_SLOTS = 8
_SLOT_BYTES = _HEAD.size + LONGEST


class HeldAnswer(NamedTuple):
    """began: when the making of the answer began, in monotonic nanoseconds."""

    began: int
    answer: bytes


class WorkerMemory:
    """Memory that all processes share that are forked later. Safe for many threads of each."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _CHANGES.size + _SLOTS * _SLOT_BYTES)

    def note_change(self, kind: int, instant: int) -> None:
        """Set the last change of this kind. instant: monotonic nanoseconds."""
        struct.pack_into("<q", self._memory, 8 * kind, instant)

    def last_change(self, kind: int) -> int:
        return int(_CHANGES.unpack_from(self._memory)[kind])

    def hold(self, key: Hashable, held: HeldAnswer) -> None:
        """Write an answer over the one in its slot, unless it is longer than LONGEST."""
        if len(held.answer) > LONGEST:
            return
        digest = _digest(key)
        at = _slot_offset(digest)
        checksum = _checksum(digest, held)
        self._memory[at + _HEAD.size : at + _HEAD.size + len(held.answer)] = held.answer
        _HEAD.pack_into(self._memory, at, held.began, digest, len(held.answer), checksum)

    def began(self, key: Hashable) -> int:
        """Return `began` of the answer that is held; 0 if there is none."""
        digest = _digest(key)
        began, answered, _, _ = _HEAD.unpack_from(self._memory, _slot_offset(digest))
        return began if answered == digest else 0

    def read(self, key: Hashable) -> HeldAnswer | None:
        digest = _digest(key)
        at = _slot_offset(digest)
        began, answered, length, checksum = _HEAD.unpack_from(self._memory, at)
        held = HeldAnswer(began, self._memory[at + _HEAD.size : at + _HEAD.size + min(length, LONGEST)])
        return held if answered == digest and checksum == _checksum(digest, held) else None


def _digest(key: Hashable) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=16).digest()


def _slot_offset(digest: bytes) -> int:
    return _CHANGES.size + digest[0] % _SLOTS * _SLOT_BYTES


def _checksum(digest: bytes, held: HeldAnswer) -> int:
    return zlib.crc32(held.answer, zlib.crc32(digest + struct.pack("<q", held.began)))


SHARED = WorkerMemory()
THROTTLE = Throttle()
