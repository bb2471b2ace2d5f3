"""Checks LevelDB's tables (`*.ldb` files) block by block, without opening the database.

Source: `doc/table_format.md`, `table/format.cc`, `table/block.cc` and `table/table_builder.cc` of LevelDB. A table is a
series of blocks without gaps: data blocks, a filter block (optional), the metaindex block, the index block; then a
footer of 48 bytes. A block is followed by a trailer of 5 bytes: how it is compressed, and the masked CRC-32C of the
block and that byte. The index names each data block by a key that is no smaller than the block's last key.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from operator import eq

import cramjam
import google_crc32c

from eventvault.errors import DatabaseDamaged
from eventvault.leveldb import dialect
from eventvault.leveldb.log import MASK_DELTA, mask_checksum
from eventvault.leveldb.manifest import HINT

ReadAt = Callable[[int, int], bytes]
"""(offset, count) → `count` bytes of the table, fewer only at its end."""

FOOTER_BYTES = 48
TRAILER_BYTES = 5
MAGIC = 0xDB4775248B80FB57
MAX_INDEX_BYTES = 64 * 2**20
"""The most bytes of a decompressed index block; the index of a table of 2 GB has about 20 MiB."""

_WINDOW = 120 * 1024
"""Bytes read in one call. The kernel provides larger buffers anew for each call, which took a quarter longer."""
_NO_COMPRESSION, _SNAPPY = 0, 1
_KNOWN_KINDS = (bytes([_NO_COMPRESSION]), bytes([_SNAPPY]))
_SMALL_BLOCK = 64 * 1024
"""With Snappy one byte becomes at most 22, so a block of this size cannot hold much."""
_VARINT_BYTES = 10
_STORED_CRC = struct.Struct("<I").unpack_from


Block = tuple[int, int]
"""The offset of a block, and its size without the trailer."""
Entry = tuple[bytes, int, int]
"""An entry of an index block: its key, and the offset and size of the block that it names."""


def check_table(name: str, size: int, read_at: ReadAt) -> int:
    """Check every byte of a table, which must have `size` bytes: checksums, no gaps, an index in order.

    Returns the number of its data blocks. Raises DatabaseDamaged, which names the table and the byte, and the errors of
    `read_at`.
    """
    try:
        return _check(size, _Reader(read_at))
    except _Damage as damage:
        raise DatabaseDamaged(f"the table {name} is damaged: {damage}", hint=HINT) from damage


def check_blocks(name: str, size: int, read_at: ReadAt, most: int) -> int:
    """Check that LevelDB can read a table, and how much memory that takes, before LevelDB opens it.

    LevelDB decompresses a block as a whole, so bounding the blocks bounds keys and values. most: the most bytes of a
    decompressed block. Returns the memory of the index in bytes. Raises DatabaseDamaged, or OtherDialect if another
    program wrote the table.
    """
    try:
        _check_magic(size, read_at)
        _, index = _footer(read_at(size - FOOTER_BYTES, FOOTER_BYTES))
        for offset, length in _blocks(size, _Reader(read_at)):
            if offset < size - FOOTER_BYTES:
                _check_block(offset, length, read_at, most)
        return _memory_of(index[0], index[1] + TRAILER_BYTES, read_at)
    except _OtherCompression as other:
        raise dialect.other_dialect(str(other)) from other
    except _Damage as damage:
        raise DatabaseDamaged(f"the table {name} is damaged: {damage}", hint=HINT) from damage


def _check_magic(size: int, read_at: ReadAt) -> None:
    if size < FOOTER_BYTES:
        raise _Damage(f"it has {size} bytes")
    other = dialect.of_table(int.from_bytes(read_at(size - 8, 8), "little"))
    if other is not None:
        raise _OtherCompression(other)


def _check_block(offset: int, length: int, read_at: ReadAt, most: int) -> None:
    """Check the kind of a block, and its size if it may be a bomb; its checksum only if the kind is unknown."""
    if length == FOOTER_BYTES:
        return
    if length > _SMALL_BLOCK and (claim := _memory_of(offset, length, read_at)) > most:
        raise _Damage(f"the block at byte {offset} holds {claim} bytes, more than the {most} that are read")
    if read_at(offset + length - TRAILER_BYTES, 1) not in _KNOWN_KINDS:
        _Reader(read_at).block((offset, length - TRAILER_BYTES))


def _memory_of(offset: int, length: int, read_at: ReadAt) -> int:
    """Return how many bytes a block has once it is decompressed, according to its own header."""
    if read_at(offset + length - TRAILER_BYTES, 1) != bytes([_SNAPPY]):
        return length
    return max(length, _varint(read_at(offset, _VARINT_BYTES), 0)[0])


def is_same_but_for_damage(size: int, read_whole: ReadAt, read_damaged: ReadAt) -> bool:
    """Return whether a damaged table is another copy of a whole one, which `check_table` accepted.

    True if they differ only in the footer and in blocks with a wrong checksum in the damaged table, and most bytes are
    the same. Both must have `size` bytes.
    """
    same = 0
    for offset, length in _blocks(size, _Reader(read_whole)):
        whole, damaged = read_whole(offset, length), read_damaged(offset, length)
        if whole == damaged:
            same += length
        elif len(damaged) == length and offset < size - FOOTER_BYTES and _has_right_checksum(damaged):
            return False
        else:
            same += sum(map(eq, whole, damaged))
    return same > size // 2


def _blocks(size: int, reader: _Reader) -> Iterator[Block]:
    """Yield the offset and the length, with the trailer, of each block of a whole table, and at last of the footer."""
    metaindex, index = _footer(reader.read(size - FOOTER_BYTES, FOOTER_BYTES)[:FOOTER_BYTES])
    for place in (index, metaindex):
        _check_within(place, size)
        for _, offset, length in _entries(reader.block(place), place[0]):
            _check_within((offset, length), size)
            yield offset, length + TRAILER_BYTES
        yield place[0], place[1] + TRAILER_BYTES
    yield size - FOOTER_BYTES, FOOTER_BYTES


def _check_within(block: Block, size: int) -> None:
    if _end(block) > size - FOOTER_BYTES:
        raise _Damage(f"it names a block at byte {block[0]} of {block[1]} bytes, beyond its end")


def _has_right_checksum(block: bytes) -> bool:
    return bool(mask_checksum(google_crc32c.value(block[:-4])) == _STORED_CRC(block, len(block) - 4)[0])


class _Damage(Exception):
    """Damage of a table: what is wrong, and at which byte."""


class _OtherCompression(_Damage):
    """The kind of a database that LevelDB cannot read."""


class _Reader:
    """Reads a table mostly forwards, in windows."""

    def __init__(self, read_at: ReadAt) -> None:
        self._read_at = read_at

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes or more, up to a whole window. Raises _Damage if the table ends too early."""
        content = self._read_at(offset, max(count, _WINDOW))
        if len(content) < count:
            raise _Damage(f"it ends at byte {offset + len(content)}")
        return content

    def block(self, block: Block) -> bytes:
        """Return the decompressed content of a block. Raises _Damage if its checksum is wrong."""
        offset, size = block
        if size > MAX_INDEX_BYTES:
            raise _Damage(f"the block at byte {offset} has {size} bytes, more than the {MAX_INDEX_BYTES} that are read")
        content = self.read(offset, size + TRAILER_BYTES)
        checked = content[: size + 1]
        if mask_checksum(google_crc32c.value(checked)) != _STORED_CRC(content, size + 1)[0]:
            raise _wrong_checksum(offset)
        return _decompress(checked, offset)


def _wrong_checksum(offset: int) -> _Damage:
    return _Damage(f"the checksum of the block at byte {offset} is wrong")


def _check(size: int, reader: _Reader) -> int:
    if size < FOOTER_BYTES:
        raise _Damage(f"it has {size} bytes")
    metaindex, index = _footer(reader.read(size - FOOTER_BYTES, FOOTER_BYTES)[:FOOTER_BYTES])
    if _end(index) != size - FOOTER_BYTES or _end(metaindex) != index[0]:
        raise _Damage(f"its footer at byte {size - FOOTER_BYTES} does not name its last two blocks")
    others = [(offset, length) for _, offset, length in _entries(reader.block(metaindex), metaindex[0])]
    count, covered = _check_data(reader, _entries(reader.block(index), index[0]), metaindex[0])
    for block in (*others, metaindex):
        if block[0] != covered or _end(block) > index[0]:
            raise _Damage(f"no block covers the bytes from {covered} to {block[0]}")
        reader.block(block)
        covered = _end(block)
    return count


def _check_data(reader: _Reader, entries: Iterator[Entry], limit: int) -> tuple[int, int]:
    """Check the data blocks, which the entries of the index name. Returns their number, and the end of the last one.

    limit: no data block may end beyond it. The loop runs once for about 2 KB of a database, so it calls few functions.
    """
    checksum, stored_crc = google_crc32c.value, _STORED_CRC
    count = covered = window_start = 0
    window = previous = b""
    for key, offset, size in entries:
        end = offset + size + TRAILER_BYTES
        if offset != covered or end > limit:
            raise _Damage(f"no block covers the bytes from {covered} to {min(offset, limit)}")
        if key[:-8] <= previous[:-8] and count and not _follows(key, previous):
            raise _Damage(f"the index is not in order at the block at byte {offset}")
        if end > window_start + len(window):
            window, window_start = reader.read(offset, end - offset), offset
        start, stop = offset - window_start, end - window_start - 4
        crc = checksum(window[start:stop])
        if ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF != stored_crc(window, stop)[0]:
            raise _wrong_checksum(offset)
        count, covered, previous = count + 1, end, key
    return count, covered


def _end(block: Block) -> int:
    """Return the end of the block's trailer."""
    return sum(block) + TRAILER_BYTES


def _footer(footer: bytes) -> tuple[Block, Block]:
    """Return the metaindex block and the index block."""
    if int.from_bytes(footer[-8:], "little") != MAGIC:
        raise _Damage("it does not end as a table does")
    numbers = []
    position = 0
    for _ in range(4):
        number, position = _varint(footer, position)
        numbers.append(number)
    if footer[position:-8].strip(b"\0"):
        raise _Damage("the padding of its footer is not zero")
    return (numbers[0], numbers[1]), (numbers[2], numbers[3])


def _follows(key: bytes, previous: bytes) -> bool:
    """Compare in LevelDB's order of internal keys: by the user's key, then by the last 8 bytes, the largest first."""
    return (previous[:-8], key[:-9:-1]) < (key[:-8], previous[:-9:-1])


def _decompress(checked: bytes, offset: int) -> bytes:
    content, kind = checked[:-1], checked[-1]
    if kind == _NO_COMPRESSION:
        return content
    if kind != _SNAPPY:
        raise _OtherCompression(dialect.of_compression(kind, content[:8]))
    try:
        if cramjam.snappy.decompress_raw_len(content) > MAX_INDEX_BYTES:
            raise _Damage(f"the block at byte {offset} claims to hold more than {MAX_INDEX_BYTES} bytes")
        return bytes(cramjam.snappy.decompress_raw(content))
    except cramjam.DecompressionError as error:
        raise _Damage(f"the block at byte {offset} cannot be decompressed: {error}") from error


def _entries(content: bytes, offset: int) -> Iterator[Entry]:
    """Yield the entries of an index block that lies at `offset`; like `_check_data`, it calls few functions."""
    end = len(content) - 4 - 4 * int.from_bytes(content[-4:], "little")
    if len(content) < 4 or end < 0:
        raise _Damage(f"the block at byte {offset} is too short")
    key, position = b"", 0
    while position < end:
        shared, fresh, length = content[position : position + 3]
        position += 3
        if (shared | fresh | length) >= 0x80:
            shared, fresh, length, position = _long_entry(content, position - 3)
        value = position + fresh
        if shared > len(key) or value + length > end:
            raise _Damage(f"an entry of the block at byte {offset} does not fit")
        key = key[:shared] + content[position:value] if shared else content[position:value]
        handle = content[value : value + length]
        if length == 5 and (handle[0] & handle[1] & handle[3]) >= 0x80 > handle[2] | handle[4]:
            block_offset = handle[0] & 0x7F | (handle[1] & 0x7F) << 7 | handle[2] << 14
            size = handle[3] & 0x7F | handle[4] << 7
            position = value + length
        else:
            block_offset, position = _varint(content, value)
            size, position = _varint(content, position)
            if position != value + length:
                raise _Damage(f"an entry of the block at byte {offset} names no block")
        yield key, block_offset, size


def _long_entry(content: bytes, position: int) -> tuple[int, int, int, int]:
    """Read the three numbers at the head of an entry. Returns them, and the position after them."""
    shared, position = _varint(content, position)
    fresh, position = _varint(content, position)
    length, position = _varint(content, position)
    return shared, fresh, length, position


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Return the value of a varint of at most 64 bits, and the position after it."""
    value = shift = 0
    for byte in content[position : position + 10]:
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise _Damage("a number in it is cut off")
