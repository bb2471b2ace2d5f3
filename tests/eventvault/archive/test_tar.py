import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault.archive import tar

undisturbed = settings(deadline=None, database=None)


def with_checksum(block: bytearray, total: int | None = None) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) if total is None else total)
    return bytes(block)


@pytest.mark.slow
@undisturbed
@given(
    name=st.from_regex(r"[A-Za-z0-9._-]{1,80}/?", fullmatch=True),
    size=st.integers(0, 2**40),
    modified=st.integers(0, 2**36),
)
def test_a_header_comes_back_and_tarfile_agrees(name, size, modified):
    block = tar.build_header(name, size, modified)
    folder = name.endswith("/")
    expected = tar.TarHeader(name.encode(), size, modified, tar.FOLDER if folder else tar.FILE)
    assert tar.parse_header(block) == expected
    theirs = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    assert (theirs.name, theirs.size, theirs.mtime) == (name.rstrip("/"), size, modified)
    assert theirs.isdir() == folder


def test_the_prefix_of_a_long_name_is_put_before_it():
    long = "a" * 90 + "/" + "b" * 90
    assert tar.parse_header(tarfile.TarInfo(long).tobuf(tarfile.USTAR_FORMAT)).name == long.encode()


def test_gnu_headers_have_no_prefix():
    block = bytearray(tarfile.TarInfo("name").tobuf(tarfile.GNU_FORMAT))
    block[345:357] = b"12345670000\0"
    assert tar.parse_header(with_checksum(block)).name == b"name"


def test_a_checksum_of_signed_bytes_is_taken():
    block = bytearray(tarfile.TarInfo("n\xe4me").tobuf(tarfile.GNU_FORMAT, "latin-1"))
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    assert tar.parse_header(with_checksum(block, signed)).name == b"n\xe4me"


def test_a_wrong_checksum_is_refused():
    block = bytearray(tar.build_header("name", 1, 2))
    block[0] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        tar.parse_header(bytes(block))


@pytest.mark.parametrize("field", [b"-0000000001\0", b"9", b"0x10", b"\xff" * 12, b"\xff" + bytes(10) + b"\1"])
def test_a_size_that_is_none_is_refused(field):
    block = bytearray(tar.build_header("name", 1, 2))
    block[124:136] = field.ljust(12, b"\0")
    with pytest.raises(ValueError, match="size"):
        tar.parse_header(with_checksum(block))


def test_pax_records_come_in_order():
    content = b"30 mtime=1700000000.123456789\n16 path=caf\xc3\xa9/x\n11 a=b=c\n\n\n" + bytes(100)
    assert list(tar.parse_pax(content)) == [
        (b"mtime", b"1700000000.123456789"),
        (b"path", b"caf\xc3\xa9/x"),
        (b"a", b"b=c\n\n"),
    ]


def test_pax_records_of_tarfile_are_read():
    entry = tarfile.TarInfo("\u20ac" * 100)
    entry.pax_headers = {"comment": "with\nnewlines = and signs", "SCHILY.xattr.user.x": "y" * 3000}
    block = entry.tobuf(tarfile.PAX_FORMAT)
    size = tar.parse_header(block[:512]).size
    found = {key.decode(): value.decode() for key, value in tar.parse_pax(block[512 : 512 + size])}
    assert found == {**entry.pax_headers, "path": entry.name}


@pytest.mark.parametrize(
    "content", [b"path=x\n", b"0 a=b\n", b"3 a\n", b"99 a=b\n", b"6 a=bc\n", b" 6 a=b\n", b"99999999999999 a=b\n"]
)
def test_pax_records_that_are_not_whole_are_refused(content):
    with pytest.raises(ValueError, match="pax record"):
        list(tar.parse_pax(content))


@undisturbed
@given(st.binary(max_size=600))
def test_no_pax_header_does_more_than_raise_a_value_error(content):
    try:
        for key, value in tar.parse_pax(content):
            assert len(key) + len(value) < len(content)
    except ValueError:
        pass


@pytest.mark.slow
@undisturbed
@given(st.binary(min_size=512, max_size=512), st.booleans())
def test_no_block_does_more_than_raise_a_value_error(block, right_sum):
    try:
        header = tar.parse_header(with_checksum(bytearray(block)) if right_sum else block)
    except ValueError:
        return
    assert header.size >= 0


def test_a_folder_with_a_file_made_of_headers_is_a_tar_file():
    content = tar.build_header("db/", 0, 7) + tar.build_header("db/x", 3, 7) + b"abc".ljust(512, b"\0") + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["db", "db/x"]
        assert archive.extractfile("db/x").read() == b"abc"
