"""The keys in LevelDB; `docs/format.md` describes all of them.

Text inside a key is UTF-8 with zero bytes escaped and an end mark, so that no text is a prefix of another's key and
keys sort as the texts do. Source of the encoding: FoundationDB's tuple layer, byte strings.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import islice

SCHEMA_VERSION = 1
"""Increase it when earlier versions cannot read what this version writes."""

EVENT = b"e"
IDENTITY = b"i"
TYPE = b"t"
SUBJECT = b"s"
SOURCE = b"o"
KAFKA = b"k"

META_SCHEMA = b"mschema"
META_STORE = b"mstore"
META_ENCODED = b"mencoded"

_SEQUENCE = struct.Struct(">Q")
_IDENTITY_VALUE = struct.Struct(">Q8s")
NONCE_BYTES = 8


def event_key(sequence: int) -> bytes:
    return EVENT + _SEQUENCE.pack(sequence)


def identity_key(event_id: str, source: str) -> bytes:
    """The id comes first, so that an event can be found by its id alone."""
    return identity_prefix(event_id) + _text(source)


def identity_prefix(event_id: str) -> bytes:
    return IDENTITY + _text(event_id)


def identity_value(sequence: int, nonce: bytes) -> bytes:
    """nonce: 8 bytes that name the append, so that a retry recognises its own events."""
    return _IDENTITY_VALUE.pack(sequence, nonce)


def read_identity_value(value: bytes) -> tuple[int, bytes]:
    return _IDENTITY_VALUE.unpack(value)


def first_two_sequences(identity_values: Iterable[bytes], upto: int) -> list[int]:
    """Return the sequences up to `upto`, at most two: enough to see that there are several."""
    sequences = (read_identity_value(value)[0] for value in identity_values)
    return list(islice((sequence for sequence in sequences if sequence <= upto), 2))


def index_prefix(index: bytes, text: str) -> bytes:
    """index: TYPE, SUBJECT or SOURCE. The sequence follows the prefix in each key."""
    return index + _text(text)


def index_key(index: bytes, text: str, sequence: int) -> bytes:
    return index_prefix(index, text) + _SEQUENCE.pack(sequence)


def sequence_of(key: bytes) -> int:
    """Return the sequence at the end of an event's key or an index key."""
    return int.from_bytes(key[-8:], "big")


def _text(text: str) -> bytes:
    return text.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x01"
