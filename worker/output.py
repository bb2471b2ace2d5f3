"""The output of a handler: the supervisor drains a pipe and keeps the last bytes."""

from __future__ import annotations

import os
from contextlib import suppress

from eventvault.jobs.job import MAX_OUTPUT_OF_ATTEMPT

LONGEST_OUTPUT = 64 * 1024
"""Most bytes of an attempt's output that stay in memory."""
_NOTE_BYTES = 64
_PIPE_BYTES = 64 * 1024
_READS = 4
"""Most reads at a time. They empty a pipe of 64 KiB, but a handler that prints without end does not block the loop."""


class Output:
    """The output of one executor. handle: the descriptor of the pipe; `close` closes it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        os.set_blocking(handle, False)
        self._tail = bytearray()
        self._dropped = 0

    def drain(self) -> bool:
        """Read what is in the pipe, up to a limit. Returns False once no process can write to it any more."""
        with suppress(BlockingIOError):
            for _ in range(_READS):
                read = os.read(self.handle, _PIPE_BYTES)
                if not read:
                    return False
                self._tail += read
                self._drop()
        return True

    def take(self) -> str:
        """Return the output since the last call; of a long text only the end, after a line that counts the rest."""
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
