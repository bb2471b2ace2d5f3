"""Reads a WriteBatch, the form of a record in a write-ahead log: `db/write_batch.cc` of LevelDB."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from eventvault.errors import DatabaseDamaged
from eventvault.leveldb.manifest import HINT

HEAD = struct.Struct("<QI")
"""LevelDB's sequence number of the first operation, and the number of operations."""
MAX_OPERATIONS = 2_000_000
"""The most operations of a batch in an untrusted database. Each takes up to 60 bytes of memory in addition."""

CUT_OFF = "it holds a batch that is cut off, under a right checksum"
_FEW_BYTES = 2**20
_MAX_SHIFT = 28
"""The largest shift in a length of 32 bits."""
_PUT = 1


def check_count(name: str, batch: bytes) -> None:
    """Raise DatabaseDamaged, which names the log `name`, if a long batch has more operations than fit into memory."""
    if len(batch) <= _FEW_BYTES:
        return
    try:
        too_many = next(islice(_operations(batch), MAX_OPERATIONS, None), None)
    except IndexError as error:
        raise DatabaseDamaged(f"{name} is damaged: {CUT_OFF}", hint=HINT) from error
    if too_many is not None:
        raise DatabaseDamaged(f"{name} has a record of more than {MAX_OPERATIONS} operations", hint=HINT)


def put_keys(batch: bytes) -> Iterator[bytes]:
    """Yield the keys that a batch puts. Raises IndexError if it is truncated."""
    return (batch[start:end] for tag, start, end in _operations(batch) if tag == _PUT)


def _operations(batch: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the tag of each operation, and the start and end of its key."""
    position = HEAD.size
    while position < len(batch):
        tag = batch[position]
        start, end = _locate_string(batch, position + 1)
        position = _locate_string(batch, end)[1] if tag == _PUT else end
        if position > len(batch):
            raise IndexError(position)
        yield tag, start, end


def _locate_string(batch: bytes, position: int) -> tuple[int, int]:
    """Return the start and end of a byte string, whose length (a varint) is at `position`."""
    length = shift = 0
    while shift <= _MAX_SHIFT:
        byte = batch[position]
        position += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return position, position + length
        shift += 7
    raise IndexError(position)
