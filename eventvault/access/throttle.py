"""Slows down whoever tries tokens: ten wrong ones within a minute block an address, for a minute at first.

Each further block lasts twice as long as the previous one, five minutes at most. After ten minutes without a block, the
next one lasts a minute again. A block never affects a valid token: the caller asks only after a token was wrong.

The memory has a fixed size, and processes may share it. There is no lock between them, because each may be killed at
any time: a slot that two processes write at once fails its checksum and counts as empty. An address that finds no free
slot replaces the address whose last wrong token or block ended longest ago.
"""

from __future__ import annotations

import hashlib
import mmap
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Callable
from ipaddress import IPv6Address

from eventvault.access.proxies import parse_address

WRONG_TOKENS = 10
"""So many wrong tokens within WINDOW_SECONDS begin a block."""
WINDOW_SECONDS = 60
FIRST_BLOCK_SECONDS = 60
LONGEST_BLOCK_SECONDS = 300
FORGET_SECONDS = 600
"""If no block comes for this long, the next one is a first one again."""

_SECOND = 1_000_000_000
_SLOT = struct.Struct(f"<8sqq{WRONG_TOKENS}qI")
"""The address's digest, the end and the length of its last block, the instants of its wrong tokens, a checksum."""
_CHECKSUM_AT = _SLOT.size - 4
_WAYS = 8
"""How many slots an address may be in: a search reads only these."""
_SETS = 1024


class Throttle:
    """Safe for many threads of many processes, if it is made before they start. now: monotonic nanoseconds."""

    def __init__(self, now: Callable[[], int] = time.monotonic_ns, *, sets: int = _SETS) -> None:
        self._now = now
        self._sets = sets
        self._secret = secrets.token_bytes(16)
        """Whoever does not know it cannot choose addresses that share their slots with a certain other address."""
        self._memory = mmap.mmap(-1, sets * _WAYS * _SLOT.size)
        self._lock = threading.Lock()

    def note_wrong(self, address: str) -> int:
        """Count a wrong token. Returns for how many seconds the address is blocked; 0 if it may try again."""
        digest = self._digest(address)
        with self._lock:
            now = self._now()
            slot = self._find(digest)
            if now < slot.blocked_until:
                return -((now - slot.blocked_until) // _SECOND)
            slot.count_wrong(now)
            self._put(digest, slot)
        return 0

    def _digest(self, address: str) -> bytes:
        return hashlib.blake2b(address_group(address), digest_size=8, key=self._secret).digest()

    def _find(self, digest: bytes) -> _Slot:
        """Return the slot of an address, or an empty slot in the place of the oldest one."""
        first = int.from_bytes(digest[:4], "little") % self._sets * _WAYS
        oldest: _Slot | None = None
        for place in range(first * _SLOT.size, (first + _WAYS) * _SLOT.size, _SLOT.size):
            owner, slot = self._slot_at(place)
            if owner == digest:
                return slot
            if oldest is None or slot.last_instant() < oldest.last_instant():
                oldest = slot
        assert oldest is not None
        return _Slot(oldest.place)

    def _slot_at(self, place: int) -> tuple[bytes, _Slot]:
        content = self._memory[place : place + _SLOT.size]
        owner, until, length, *wrong, checksum = _SLOT.unpack(content)
        if checksum != zlib.crc32(content[:_CHECKSUM_AT]):
            return b"", _Slot(place)
        return owner, _Slot(place, until, length, wrong)

    def _put(self, digest: bytes, slot: _Slot) -> None:
        content = _SLOT.pack(digest, slot.blocked_until, slot.block, *slot.wrong, 0)[:_CHECKSUM_AT]
        self._memory[slot.place : slot.place + _SLOT.size] = content + zlib.crc32(content).to_bytes(4, "little")


class _Slot:
    """The slot of one address. Instants and spans are in nanoseconds. wrong: of the newest wrong tokens; 0: none."""

    def __init__(self, place: int, until: int = 0, block: int = 0, wrong: list[int] | None = None) -> None:
        self.place = place
        self.blocked_until = until
        self.block = block
        self.wrong = wrong or [0] * WRONG_TOKENS

    def last_instant(self) -> int:
        return max(self.blocked_until, *self.wrong)

    def count_wrong(self, now: int) -> None:
        """Count a wrong token, and begin a block if there are too many."""
        self.wrong = [*self.wrong[1:], now]
        if not self.wrong[0] or now - self.wrong[0] >= WINDOW_SECONDS * _SECOND:
            return
        is_first = not self.block or now - self.blocked_until >= FORGET_SECONDS * _SECOND
        self.block = FIRST_BLOCK_SECONDS * _SECOND if is_first else min(2 * self.block, LONGEST_BLOCK_SECONDS * _SECOND)
        self.blocked_until = now + self.block
        self.wrong = [0] * WRONG_TOKENS


def address_group(address: str) -> bytes:
    """Return the address, or for IPv6 its network /64, because one owner has all addresses of such a network."""
    parsed = parse_address(address)
    if parsed is None:
        return b""
    return parsed.packed[:8] if isinstance(parsed, IPv6Address) else parsed.packed
