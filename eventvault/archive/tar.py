"""Builds the tar header blocks of our archives, and parses the header blocks of any tar file.

Sources: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format" (base
256 numbers). No size in a header decides how much memory is allocated here.
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


class TarHeader(NamedTuple):
    """A tar header. name: the bytes, with ustar's prefix. modified: seconds since the epoch. kind: the type flag."""

    name: bytes
    size: int
    modified: int
    kind: bytes


def build_header(name: str, size: int, modified: int) -> bytes:
    """Return the header block of a file, or of a folder if `name` ends in `/`.

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


def parse_header(block: bytes) -> TarHeader:
    """Return the header in a block of 512 bytes. Raises ValueError with the reason if the block is not a header."""
    fields = _FIELDS.unpack(block)
    if not _checksum_fits(_octal(fields[6], "checksum"), block):
        raise ValueError("the checksum of the tar header is wrong")
    name, prefix = _text(fields[0]), _text(fields[15])
    if fields[9] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return TarHeader(name, parse_number(fields[4], "size"), parse_number(fields[5], "time"), fields[7])


def parse_pax(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records `length key=value\\n` of a pax header. Raises ValueError."""
    start, end = 0, len(content.rstrip(b"\0"))
    while start < end:
        digits, space, _ = content[start : start + 12].partition(b" ")
        if not space or not digits.isdigit():
            raise ValueError("a pax record has no length")
        stop = start + int(digits)
        key, equals, value = content[start + len(digits) + 1 : stop].partition(b"=")
        if stop > len(content) or not equals or not value.endswith(b"\n"):
            raise ValueError("a pax record is incomplete")
        yield key, value[:-1]
        start = stop


def parse_number(field: bytes, what: str) -> int:
    """Return the number in octal text, or in GNU's base 256 if the first bit is set. Only a time may be negative."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else int.from_bytes(field[1:], "big")
        if value < 0 and what == "size":
            raise ValueError("the size in a tar header is negative")
        return value
    return _octal(field, what)


def _number(value: int) -> bytes:
    if value <= _LARGEST_OCTAL:
        return b"%011o\0" % value
    return b"\x80" + value.to_bytes(11, "big")


def _octal(field: bytes, what: str) -> int:
    digits = field.strip(b" \0") or b"0"
    if not all(digit in b"01234567" for digit in digits):
        raise ValueError(f"the {what} in a tar header is not a number")
    return int(digits, 8)


def _checksum_fits(checksum: int, block: bytes) -> bool:
    """Return True if the bytes, with blanks as checksum field, add up to the checksum. Old tars add signed bytes."""
    others = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    total = sum(others)
    return checksum == total or checksum == total - 256 * sum(byte > 127 for byte in others)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


assert _FIELDS.size == BLOCK
