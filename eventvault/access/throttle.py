"""Slows down whoever tries tokens: ten wrong ones within a minute block an address, for a minute at first.

Each further block lasts twice as long as the one before, five minutes at most; ten minutes without one and the next
lasts a minute again. A block never concerns a right token: the caller asks only after a token was wrong.

The memory is of fixed size, and may be shared by processes. Nothing is locked between them, as each may be killed at
any time: what two write at once fails its checksum, and counts as not there. An address that finds no free slot takes
that of the one whose last wrong token, or whose block, is over for the longest time.
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
"""So many within WINDOW_SECONDS begin a block."""
WINDOW_SECONDS = 60
FIRST_BLOCK_SECONDS = 60
LONGEST_BLOCK_SECONDS = 300
FORGET_SECONDS = 600
"""So long after a block, the next one is a first one again."""

_SECOND = 1_000_000_000
_SLOT = struct.Struct(f"<8sqq{WRONG_TOKENS}qI")
"""The address's digest, the end of its last block, how long that was, the instants of its wrong tokens, checksum."""
_CHECKSUM_AT = _SLOT.size - 4
_WAYS = 8
"""Slots that an address may have: it is found by looking at these."""
_SETS = 1024


class Throttle:
    """Safe for many threads of many processes, if it is made before they are. now: monotonic nanoseconds."""

    def __init__(self, now: Callable[[], int] = time.monotonic_ns, *, sets: int = _SETS) -> None:
        self._now = now
        self._sets = sets
        self._secret = secrets.token_bytes(16)
        """Without it nobody can choose addresses that share their slots with another one."""
        self._memory = mmap.mmap(-1, sets * _WAYS * _SLOT.size)
        self._lock = threading.Lock()

    def note_wrong(self, address: str) -> int:
        """Note a wrong token. Returns for how many seconds the address is blocked: 0 if it may go on trying."""
        digest = self._digest(address)
        with self._lock:
            now = self._now()
            slot = self._find(digest)
            if now < slot.blocked_until:
                return -((now - slot.blocked_until) // _SECOND)
            slot.note(now)
            self._note(digest, slot)
        return 0

    def _digest(self, address: str) -> bytes:
        return hashlib.blake2b(address_group(address), digest_size=8, key=self._secret).digest()

    def _find(self, digest: bytes) -> _Slot:
        """Return the slot of an address, or the one that it takes."""
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

    def _note(self, digest: bytes, slot: _Slot) -> None:
        content = _SLOT.pack(digest, slot.blocked_until, slot.block, *slot.wrong, 0)[:_CHECKSUM_AT]
        self._memory[slot.place : slot.place + _SLOT.size] = content + zlib.crc32(content).to_bytes(4, "little")


class _Slot:
    """What is known of one address; instants and spans in nanoseconds. wrong: the newest ones, 0 for none."""

    def __init__(self, place: int, until: int = 0, block: int = 0, wrong: list[int] | None = None) -> None:
        self.place = place
        self.blocked_until = until
        self.block = block
        self.wrong = wrong or [0] * WRONG_TOKENS

    def last_instant(self) -> int:
        return max(self.blocked_until, *self.wrong)

    def note(self, now: int) -> None:
        """Note a wrong token, and begin a block if that are too many."""
        self.wrong = [*self.wrong[1:], now]
        if not self.wrong[0] or now - self.wrong[0] >= WINDOW_SECONDS * _SECOND:
            return
        is_first = not self.block or now - self.blocked_until >= FORGET_SECONDS * _SECOND
        self.block = FIRST_BLOCK_SECONDS * _SECOND if is_first else min(2 * self.block, LONGEST_BLOCK_SECONDS * _SECOND)
        self.blocked_until = now + self.block
        self.wrong = [0] * WRONG_TOKENS


def address_group(address: str) -> bytes:
    """Return what stands for an address and for those that its owner has too: of IPv6 the network /64."""
    parsed = parse_address(address)
    if parsed is None:
        return b""
    return parsed.packed[:8] if isinstance(parsed, IPv6Address) else parsed.packed
