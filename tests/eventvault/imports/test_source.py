"""The text of a file to import: compressed or not, whole or cut off."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from backports import zstd

from eventvault.errors import InvalidInput
from eventvault.imports import source as source_module
from eventvault.imports.source import CHUNK, NAMING_BYTES, ImportSource
from tests.eventvault.imports.reading import Trickle

TEXT = b"".join(b'{"type":"a","id":"%d"}\n' % number for number in range(20_000))
PACKERS = {"gzip": gzip.compress, "zstd": zstd.compress}


def text_of(content: bytes, step: int = 2**20) -> tuple[bytes, str | None]:
    source = ImportSource(Trickle(content, step))
    return b"".join(source.chunks()), source.broken


@pytest.mark.parametrize("kind", PACKERS)
def test_compression_is_recognised_by_the_first_bytes(kind: str) -> None:
    assert text_of(PACKERS[kind](TEXT)) == (TEXT, None)


@pytest.mark.parametrize("kind", PACKERS)
def test_several_members_are_one_text_however_they_arrive(kind: str) -> None:
    packed = PACKERS[kind](TEXT[:100]) + PACKERS[kind](b"") + PACKERS[kind](TEXT[100:])
    assert text_of(packed, step=1000) == (TEXT, None)
    assert text_of(PACKERS[kind](TEXT[:50]) + PACKERS[kind](TEXT[50:90]), step=1) == (TEXT[:90], None)


def test_a_skippable_frame_of_zstd_is_no_text() -> None:
    assert text_of(b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd" + zstd.compress(TEXT)) == (TEXT, None)


def test_zeros_behind_a_member_are_padding() -> None:
    assert text_of(gzip.compress(TEXT) + bytes(1024)) == (TEXT, None)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
def test_of_a_file_that_is_cut_off_the_text_before_is_read_and_the_end_is_named(kind: str, share: float) -> None:
    packed = PACKERS[kind](TEXT)
    text, broken = text_of(packed[: max(5, int(len(packed) * share))])
    assert TEXT.startswith(text)
    assert broken is not None
    assert f"ends within its {kind} data" in broken


@pytest.mark.parametrize("kind", PACKERS)
def test_damaged_bytes_end_the_text_and_are_named(kind: str) -> None:
    packed = bytearray(PACKERS[kind](TEXT))
    packed[len(packed) // 2 : len(packed) // 2 + 200] = bytes(200)
    text, broken = text_of(bytes(packed))
    assert len(text) < len(TEXT) or broken is not None
    assert broken is not None


def test_a_wrong_checksum_of_a_member_is_named() -> None:
    packed = bytearray(gzip.compress(TEXT))
    packed[-6] ^= 1
    text, broken = text_of(bytes(packed))
    assert TEXT.startswith(text)
    assert broken is not None
    assert "damaged" in broken


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_is_inflated_in_bounded_memory(kind: str) -> None:
    packed = PACKERS[kind](bytes(2**26))
    tracemalloc.start()
    try:
        assert sum(len(piece) for piece in ImportSource(Trickle(packed)).chunks()) == 2**26
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_no_piece_is_larger_than_a_chunk() -> None:
    assert max(map(len, ImportSource(Trickle(gzip.compress(bytes(2**22)))).chunks())) <= CHUNK


def test_a_byte_order_mark_is_no_text() -> None:
    assert text_of(b"\xef\xbb\xbf" + TEXT, step=1000) == (TEXT, None)
    assert text_of(gzip.compress(b"\xef\xbb\xbf" + TEXT)) == (TEXT, None)
    assert text_of(b"") == (b"", None)
    assert text_of(b"\xef\xbb") == (b"\xef\xbb", None)


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_is_refused_with_the_command_that_converts_it(mark: bytes) -> None:
    with pytest.raises(InvalidInput, match="UTF-16") as caught:
        text_of(mark + "{}".encode("utf-16-le"))
    assert "iconv" in caught.value.hint


@pytest.mark.slow
def test_an_import_is_named_after_its_first_bytes() -> None:
    beginning = bytes(NAMING_BYTES)
    names = {ImportSource(Trickle(content)).digest for content in (beginning + b"a", beginning + b"b", beginning[1:])}
    assert len(names) == 2
    assert source_module.NAMING_BYTES == 2**20
