"""Messages between supervisor and executor: JSON of `eventvault.jobs.messages` on a stream, each behind its length."""

from __future__ import annotations

import struct

_LENGTH = struct.Struct("<I")
LONGEST_FRAME = 4 * 2**20
"""Bytes: a payload or a result, and what is around it."""


class BrokenFrame(Exception):
    """What came is no frame of ours, such as what a handler wrote to a descriptor that is not its own."""


def frame(message: bytes) -> bytes:
    return _LENGTH.pack(len(message)) + message


class Frames:
    """Takes the bytes of a stream as they come, and gives the whole messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """Return the messages that are complete now. Raises BrokenFrame."""
        self._bytes += received
        messages = []
        start = 0
        while len(self._bytes) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes, start)
            if length > LONGEST_FRAME:
                raise BrokenFrame(f"a frame of {length} bytes")
            end = start + _LENGTH.size + length
            if len(self._bytes) < end:
                break
            messages.append(bytes(self._bytes[start + _LENGTH.size : end]))
            start = end
        del self._bytes[:start]
        return messages
