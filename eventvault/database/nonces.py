"""Nonces name operations, so that the database or the registry recognises an operation that is sent again."""

from __future__ import annotations

import itertools
import os
import secrets


class Nonces:
    """Returns 8 bytes that no other operation has: a random start per process plus a count. Safe for many threads."""

    def __init__(self) -> None:
        self._begin()

    def next(self) -> bytes:
        if self._process != os.getpid():
            self._begin()
        return ((self._start + next(self._count)) % 2**64).to_bytes(8, "big")

    def _begin(self) -> None:
        self._start, self._count, self._process = secrets.randbits(64), itertools.count(), os.getpid()
