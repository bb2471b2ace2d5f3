"""Writes LevelDB databases byte by byte, as LevelDB would and as it never would; all checksums are right."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from eventvault.leveldb.log import mask_checksum
from eventvault.leveldb.table import MAGIC
from tests.eventvault.leveldb.log_writer import BLOCK, HEADER, fragment

RAW, SNAPPY = 0, 1
BYTEWISE = b"leveldb.BytewiseComparator"


class Block(NamedTuple):
    """A data block as it is stored. last: the user's key that the index has for it."""

    content: bytes
    last: bytes
    kind: int = RAW


def varint(number: int) -> bytes:
    content = b""
    while number >= 0x80:
        content += bytes([number & 0x7F | 0x80])
        number >>= 7
    return content + bytes([number])


def sized(text: bytes) -> bytes:
    return varint(len(text)) + text


def internal(key: bytes, sequence: int = 1) -> bytes:
    return key + struct.pack("<Q", sequence << 8 | 1)


def entry(key: bytes, value: bytes, shared: int = 0) -> bytes:
    """key: as it is stored, without what it shares with the one before."""
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def block(*entries: bytes, restarts: Sequence[int] = (0,)) -> bytes:
    return b"".join(entries) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def rows(records: dict[bytes, bytes], sequence: int = 1) -> Block:
    """An honest data block."""
    return Block(block(*(entry(internal(key, sequence), value) for key, value in records.items())), max(records))


def zeros(count: int) -> bytes:
    """Return the Snappy form of so many zeros, which has a twentieth of their size."""
    whole, rest = divmod(count - 1, 64)
    copies = b"\xfe\x01\x00" * whole
    return varint(count) + b"\x00\x00" + copies + (bytes([(rest - 1) << 2 | 2]) + b"\x01\x00" if rest else b"")


def snappy(literal: bytes, more_zeros: int, ending: bytes) -> bytes:
    """Return the Snappy form of `literal`, which ends in a zero, then zeros, then `ending`."""

    def of(text: bytes) -> bytes:
        return b"\xf8" + struct.pack("<I", len(text) - 1)[:3] + text

    whole, rest = divmod(more_zeros, 64)
    copies = b"\xfe\x01\x00" * whole + (bytes([(rest - 1) << 2 | 2]) + b"\x01\x00" if rest else b"")
    return varint(len(literal) + more_zeros + len(ending)) + of(literal) + copies + of(ending)


def zero_value(key: bytes, size: int) -> Block:
    """A block with one value of so many zeros; it is small."""
    head = varint(0) + varint(len(internal(key))) + varint(size) + internal(key)
    return Block(snappy(head + b"\0", size - 1, struct.pack("<II", 0, 1)), key, SNAPPY)


def with_trailer(content: bytes, kind: int = RAW) -> bytes:
    checksum = mask_checksum(google_crc32c.value(content + bytes([kind])))
    return content + bytes([kind]) + struct.pack("<I", checksum)


def table(
    *blocks: Block,
    index: bytes | None = None,
    index_kind: int = RAW,
    handles: Sequence[tuple[int, int]] = (),
    magic: int = MAGIC,
    metaindex: bytes = block(),
    footer: Sequence[int] = (),
) -> bytes:
    """Return a table. index, handles, footer: replace the index block, where the blocks lie, the footer's numbers."""
    content, places = b"", []
    for each in blocks:
        places.append((len(content), len(each.content)))
        content += with_trailer(each.content, each.kind)
    places = list(handles) or places
    if index is None:
        keys = [each.last for each in blocks] + [blocks[-1].last if blocks else b""] * (len(places) - len(blocks))
        index = block(*(entry(internal(key), varint(a) + varint(b)) for key, (a, b) in zip(keys, places, strict=True)))
    meta, start = (len(content), len(metaindex)), len(content) + len(metaindex) + 5
    content += with_trailer(metaindex) + with_trailer(index, index_kind)
    numbers = list(footer) or [*meta, start, len(index)]
    return content + b"".join(map(varint, numbers)).ljust(40, b"\0")[:40] + struct.pack("<Q", magic)


def edit(*fields: bytes, comparator: bytes = BYTEWISE, next_file: int = 90, last: int = 1000, log: int = 50) -> bytes:
    head = b"\x01" + sized(comparator) + b"\x02" + varint(log) + b"\x09\x00\x03" + varint(next_file)
    return head + b"\x04" + varint(last) + b"".join(fields)


def new_file(number: int, size: int, smallest: bytes = b"", largest: bytes = b"\xff", level: int = 0) -> bytes:
    return (
        b"\x07" + bytes([level]) + varint(number) + varint(size) + sized(internal(smallest)) + sized(internal(largest))
    )


def batch(*operations: bytes, sequence: int = 1001, count: int | None = None) -> bytes:
    return struct.pack("<QI", sequence, len(operations) if count is None else count) + b"".join(operations)


def put(key: bytes, value: bytes) -> bytes:
    return b"\x01" + sized(key) + sized(value)


def log_of(records: Sequence[bytes]) -> bytes:
    """As `write_log`, for long records."""
    parts: list[bytes] = []
    position = 0
    for record in records:
        start, begun = 0, False
        while not begun or start < len(record):
            room = BLOCK - position % BLOCK
            if room < HEADER:
                parts.append(bytes(room))
                position += room
                continue
            payload = record[start : start + room - HEADER]
            start += len(payload)
            ended = start == len(record)
            parts.append(
                fragment({(False, True): 1, (False, False): 2, (True, False): 3}.get((begun, ended), 4), payload)
            )
            position += HEADER + len(payload)
            begun = True
    return b"".join(parts)


def database(
    folder: Path,
    *tables: bytes,
    log: bytes | Sequence[bytes] = (),
    edits: Sequence[bytes] | None = None,
    comparator: bytes = BYTEWISE,
) -> Path:
    """Write a database. log: its records, or its bytes. edits: of the MANIFEST, instead of one for these tables."""
    folder.mkdir(parents=True)
    for number, content in enumerate(tables, 10):
        (folder / f"{number:06d}.ldb").write_bytes(content)
    files = (new_file(number, len(content)) for number, content in enumerate(tables, 10))
    records = list(edits) if edits is not None else [edit(*files, comparator=comparator)]
    (folder / "MANIFEST-000004").write_bytes(log_of(records))
    (folder / "CURRENT").write_bytes(b"MANIFEST-000004\n")
    (folder / "000050.log").write_bytes(log if isinstance(log, bytes) else log_of(list(log)))
    return folder
