"""Reads a WriteBatch, the form of a record in a write-ahead log: `db/write_batch.cc` of LevelDB."""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEAD = struct.Struct("<QI")
"""LevelDB's sequence number of the first operation, and the number of operations."""
_PUT = 1


def put_keys(batch: bytes) -> Iterator[bytes]:
    """Yield the keys that a batch puts. Raises IndexError if it is truncated."""
    position = HEAD.size
    while position < len(batch):
        tag = batch[position]
        key, position = _read_bytes(batch, position + 1)
        if tag == _PUT:
            _, position = _read_bytes(batch, position)
        if position > len(batch):
            raise IndexError(position)
        if tag == _PUT:
            yield key


def _read_bytes(batch: bytes, position: int) -> tuple[bytes, int]:
    """Read a byte string with its length (a varint) before it. Returns it and the position after it."""
    length = shift = 0
    while True:
        byte = batch[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return batch[position : position + length], position + length
        shift += 7
