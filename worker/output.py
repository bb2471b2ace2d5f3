"""The end of what a handler prints: the supervisor drains a pipe and keeps the last bytes, whatever else came."""

from __future__ import annotations

import os
from contextlib import suppress

from eventvault.jobs.job import MAX_OUTPUT_OF_ATTEMPT

LONGEST_OUTPUT = 64 * 1024
"""Bytes of an attempt's output that stay in memory."""
_NOTE_BYTES = 64
_PIPE_BYTES = 64 * 1024
_READS = 4
"""A pipe has 64 KiB: so many reads empty it, and a handler that prints without end keeps nobody from other work."""


class Output:
    """The output of one executor. handle: of the pipe, which is closed with it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        os.set_blocking(handle, False)
        self._tail = bytearray()
        self._dropped = 0

    def drain(self) -> bool:
        """Read what is there, up to a limit. Returns False once nobody can write any more."""
        with suppress(BlockingIOError):
            for _ in range(_READS):
                read = os.read(self.handle, _PIPE_BYTES)
                if not read:
                    return False
                self._tail += read
                self._drop()
        return True

    def take(self) -> str:
        """Return what was printed since the last call: of a long text the end, behind a line that counts the rest."""
        if not self._tail:
            return ""
        count = self._dropped + len(self._tail)
        text = bytes(self._tail)
        if count > MAX_OUTPUT_OF_ATTEMPT:
            text = text[-(MAX_OUTPUT_OF_ATTEMPT - _NOTE_BYTES) :]
            text = b"(%d bytes of output came before)\n" % (count - len(text)) + text
        self._tail.clear()
        self._dropped = 0
        return text.decode(errors="replace")

    def close(self) -> None:
        os.close(self.handle)

    def _drop(self) -> None:
        excess = len(self._tail) - LONGEST_OUTPUT
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess
