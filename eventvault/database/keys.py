"""The keys in LevelDB; `docs/format.md` describes all of them.

Text inside a key is UTF-8 with zero bytes escaped and an end mark, so that no text is a prefix of another's key and
keys sort as the texts do. Source of the encoding: FoundationDB's tuple layer, byte strings.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

SCHEMA_VERSION = 1
"""Increase it when earlier versions cannot read the databases that this version writes."""

EVENT = b"e"
IDENTITY = b"i"
TYPE = b"t"
SUBJECT = b"s"
SOURCE = b"o"
KAFKA = b"k"
REQUEST = b"q"
REQUEST_ORDER = b"r"
QUARANTINED = b"d"
QUARANTINE_LIST = b"l"
AFTER_REQUESTS = b"s"
OUTBOX = b"x"
AFTER_OUTBOX = b"y"
MESSAGE = b"w"

META_SCHEMA = b"mschema"
META_STORE = b"mstore"
META_ENCODED = b"mencoded"
META_QUARANTINE = b"mquarantine"
META_PUBLISHED = b"mpublished"

ZERO, ESCAPED_ZERO, _END = b"\x00", b"\x00\xff", b"\x00\x01"
_SEQUENCE = struct.Struct(">Q")
_IDENTITY_VALUE = struct.Struct(">Q8s")
NONCE_BYTES = 8
_REQUEST_ORDER = struct.Struct(">QQ16s")


def event_key(sequence: int) -> bytes:
    return EVENT + _SEQUENCE.pack(sequence)


def identity_key(event_id: str, source: str) -> bytes:
    """Return the key of an identity. The id comes first, so that an event can be found by its id alone."""
    return identity_prefix(event_id) + _escape(source) + _END


def identity_keys(event_ids: Sequence[str], sources: Sequence[str]) -> list[bytes]:
    """Return `identity_key` of each event, in less time."""
    if any(map(_has_zero, (event_ids, sources))):
        return list(map(identity_key, event_ids, sources))
    pairs = zip(event_ids, sources, strict=True)
    return [f"i{event_id}\0\1{source}\0\1".encode() for event_id, source in pairs]


def identity_prefix(event_id: str) -> bytes:
    return IDENTITY + _escape(event_id) + _END


def identity_beginning(text: str) -> bytes:
    """Return the prefix of the identity keys of all ids that begin with `text`."""
    return IDENTITY + _escape(text)


def id_of_identity(key: bytes) -> str:
    """Return the id in an identity key."""
    return key[len(IDENTITY) : key.index(_END)].replace(ESCAPED_ZERO, ZERO).decode()


def identity_value(sequence: int, nonce: bytes) -> bytes:
    """Return an identity's value. nonce: 8 bytes that name the append, so that a retry recognises its own events."""
    return _IDENTITY_VALUE.pack(sequence, nonce)


def read_identity_value(value: bytes) -> tuple[int, bytes]:
    return _IDENTITY_VALUE.unpack(value)


def first_two_sequences(identity_values: Iterable[bytes], upto: int) -> list[int]:
    """Return at most two of the sequences up to `upto`: enough to see that there are several."""
    sequences = (read_identity_value(value)[0] for value in identity_values)
    return list(islice((sequence for sequence in sequences if sequence <= upto), 2))


def index_prefix(index: bytes, text: str) -> bytes:
    """Return how the keys of an index entry begin, before the sequence. index: TYPE, SUBJECT or SOURCE."""
    return index + _escape(text) + _END


def index_prefixes(index: bytes, texts: Collection[str]) -> list[bytes]:
    """Return `index_prefix` of each text, in less time."""
    if _has_zero(texts):
        return [index_prefix(index, text) for text in texts]
    beginning = index.decode()
    return [f"{beginning}{text}\0\1".encode() for text in texts]


def index_key(index: bytes, text: str, sequence: int) -> bytes:
    return index_prefix(index, text) + _SEQUENCE.pack(sequence)


class IndexPrefixes(dict[str, bytes]):
    """Text → its `index_prefix`, built once per text: for a write of many events with few different texts."""

    def __init__(self, index: bytes) -> None:
        super().__init__()
        self._index = index

    def __missing__(self, text: str) -> bytes:
        prefix = self[text] = index_prefix(self._index, text)
        return prefix


pack_sequence = _SEQUENCE.pack
"""Returns the bytes of a sequence at the end of a key and at the start of an `identity_value`."""


def request_key(request_id: bytes) -> bytes:
    """Return the key of a request. request_id: 16 bytes, as in `eventvault.keyed_request.KeyedRequest`."""
    return REQUEST + request_id


def request_order_key(sequence: int, recorded: int = 0, request_id: bytes = b"") -> bytes:
    """Return a key that sorts requests by their appends. sequence: the last one after the append."""
    return REQUEST_ORDER + _REQUEST_ORDER.pack(sequence, recorded, request_id)


def read_request_order(key: bytes) -> tuple[int, int, bytes]:
    """Return the sequence, the recorded time in microseconds, and the request's id."""
    return _REQUEST_ORDER.unpack(key[len(REQUEST_ORDER) :])


def outbox_key(last: int) -> bytes:
    """Return the key of consecutive events that are to be published. last: the last one's sequence."""
    return OUTBOX + _SEQUENCE.pack(last)


def outbox_put(first: int, last: int) -> tuple[bytes, bytes]:
    """Return the key and the value of consecutive events that are to be published. The value of one event is empty."""
    return outbox_key(last), b"" if first == last else _SEQUENCE.pack(first)


def run_of_outbox(key: bytes, value: bytes) -> tuple[int, int]:
    """Return the first and the last sequence of a key in the outbox."""
    last = sequence_of(key)
    return min(last, int.from_bytes(value, "big") if value else last), last


def message_key(recorded: int, sequence: int) -> bytes:
    """Return the key of a message to publish that is not an event of this database. recorded: in microseconds."""
    return MESSAGE + _SEQUENCE.pack(recorded) + _SEQUENCE.pack(sequence)


def recorded_of_message(key: bytes) -> int:
    """Return the recorded time in the key of a message, in microseconds."""
    return int.from_bytes(key[len(MESSAGE) : -8], "big")


def sequence_of(key: bytes) -> int:
    """Return the sequence at the end of an event's key, an index key or an outbox key."""
    return int.from_bytes(key[-8:], "big")


def text_of(key: bytes) -> str:
    """Return the text of an index key."""
    return key[1:-10].replace(b"\x00\xff", b"\x00").decode()


def after_index_entry(index: bytes, text: str) -> bytes:
    """Return a key that sorts after all keys of an index entry and before the next text's keys."""
    return index_prefix(index, text) + b"\xff" * 9


def _has_zero(texts: Iterable[str]) -> bool:
    return "\0" in "".join(texts)


def _escape(text: str) -> bytes:
    return text.encode().replace(ZERO, ESCAPED_ZERO)
