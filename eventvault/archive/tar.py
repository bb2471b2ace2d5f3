"""Blocks of a tar file: the headers that we write, and the headers that any tar writes.

Sources: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format" (base
256 numbers). Nothing here allocates by what a header says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from eventvault.archive.layout import BLOCK

FILE, FOLDER = b"0", b"5"
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12s")
_CHECKSUM = slice(148, 156)
_LARGEST_OCTAL = 8**11 - 1


class Header(NamedTuple):
    """A tar header. name: bytes as they stand there, with ustar's prefix. kind: the type flag."""

    name: bytes
    size: int
    modified: int
    kind: bytes


def build_header(name: str, size: int, modified: int) -> bytes:
    """The header block of a file, or of a folder where `name` ends in `/`.

    name: at most 100 bytes. size: in bytes. modified: seconds since the epoch.
    """
    folder = name.endswith("/")
    fields = (
        name.encode("ascii"), b"0000755\0" if folder else b"0000644\0", b"0000000\0", b"0000000\0",
        _number(size), _number(modified), b" " * 8, FOLDER if folder else FILE, b"", b"ustar\0", b"00",
        b"", b"", b"0000000\0", b"0000000\0", b"", b"",
    )  # fmt: skip
    block = _FIELDS.pack(*fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def parse_header(block: bytes) -> Header:
    """The header in a block of 512 bytes. Raises ValueError, saying why, for what is none."""
    fields = _FIELDS.unpack(block)
    if not _sum_is(_octal(fields[6], "checksum"), block):
        raise ValueError("the checksum of the tar header is wrong")
    name, prefix = _text(fields[0]), _text(fields[15])
    if fields[9] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return Header(name, _parse_number(fields[4], "size"), _parse_number(fields[5], "time"), fields[7])


def parse_pax(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a pax header: `length key=value\\n`. Raises ValueError for what is none."""
    start, end = 0, len(content.rstrip(b"\0"))
    while start < end:
        digits, space, _ = content[start : start + 12].partition(b" ")
        if not space or not digits.isdigit():
            raise ValueError("a pax record has no length")
        stop = start + int(digits)
        key, equals, value = content[start + len(digits) + 1 : stop].partition(b"=")
        if stop > len(content) or not equals or not value.endswith(b"\n"):
            raise ValueError("a pax record is not whole")
        yield key, value[:-1]
        start = stop


def _number(value: int) -> bytes:
    if value <= _LARGEST_OCTAL:
        return b"%011o\0" % value
    return b"\x80" + value.to_bytes(11, "big")


def _parse_number(field: bytes, what: str) -> int:
    """Octal text, or GNU's base 256 where the first bit is set; a negative number only as a time."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else int.from_bytes(field[1:], "big")
        if value < 0 and what == "size":
            raise ValueError("the size in a tar header is negative")
        return value
    return _octal(field, what)


def _octal(field: bytes, what: str) -> int:
    digits = field.strip(b" \0") or b"0"
    if not all(digit in b"01234567" for digit in digits):
        raise ValueError(f"the {what} in a tar header is not a number")
    return int(digits, 8)


def _sum_is(said: int, block: bytes) -> bool:
    """Whether the bytes, with blanks in the checksum's place, have this sum; some old programs took them as signed."""
    others = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    total = sum(others)
    return said == total or said == total - 256 * sum(byte > 127 for byte in others)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


assert _FIELDS.size == BLOCK
