"""Nonces name operations, so that one that is sent again is recognised: by the database, or by the registry."""

from __future__ import annotations

import itertools
import os
import secrets


class Nonces:
    """Gives 8 bytes that no other operation has: a random start per process, and a count. Safe for many threads."""

    def __init__(self) -> None:
        self._begin()

    def next(self) -> bytes:
        if self._process != os.getpid():
            self._begin()
        return ((self._start + next(self._count)) % 2**64).to_bytes(8, "big")

    def _begin(self) -> None:
        self._start, self._count, self._process = secrets.randbits(64), itertools.count(), os.getpid()
