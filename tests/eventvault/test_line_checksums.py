"""A line with its checksum: written to the letter, and any change of it is noticed."""

from __future__ import annotations

import pytest

from eventvault.line_checksums import CRC32, SHA256, LineChecksum

TEXT = b'{"job":"a","text":"\xc3\xa9 \\n"}'
LINES = {
    CRC32: b'{"job":"a","text":"\xc3\xa9 \\n","crc32":"66aba4e6"}\n',
    SHA256: b'{"job":"a","text":"\xc3\xa9 \\n","checksum":"sha256:'
    b'c0a01655a65de07fba761ebf54a36c36bce46bf59674a3e4718e2e7df40639c8"}\n',
}
both = pytest.mark.parametrize("checksum", LINES, ids=["crc32", "sha256"])


@both
def test_a_line_is_written_to_the_letter_and_its_object_is_read(checksum: LineChecksum) -> None:
    line = checksum.line_of(TEXT)
    assert line == LINES[checksum]
    assert checksum.check(line) == TEXT
    assert checksum.check(line.removesuffix(b"\n")) == TEXT


@both
def test_a_line_without_a_checksum_is_told_from_a_wrong_one(checksum: LineChecksum) -> None:
    line = LINES[checksum]
    other = LINES[SHA256 if checksum is CRC32 else CRC32]
    assert [checksum.check(each) for each in (TEXT, TEXT + b"\n", other, b"", line + b"\n")] == [None] * 5
    assert checksum.check(line.replace(b'"a"', b'"b"')) == b""


@both
def test_no_flipped_bit_of_a_line_gives_another_object(checksum: LineChecksum) -> None:
    line = LINES[checksum]
    for bit in range(8 * len(line)):
        damaged = bytearray(line)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not checksum.check(bytes(damaged)), bit
