"""The seal proves that the holder of a key made an archive."""

from __future__ import annotations

import hashlib
import hmac
from functools import partial
from pathlib import Path

import pytest
from blake3 import blake3

from eventvault.archive import reader, seal
from eventvault.archive.seal import SealedRoot
from tests import format_1, format_2

KEY = bytes(range(32))
ROOT = blake3(b"an archive").digest()


def sealed(key: bytes = KEY, root: bytes = ROOT) -> SealedRoot:
    return SealedRoot(root.hex(), seal.seal_root(key, root).hex())


def test_a_seal_is_the_hmac_of_the_root() -> None:
    assert sealed().seal == hmac.new(KEY, ROOT, hashlib.sha256).hexdigest()
    assert seal.fits(KEY, sealed())


@pytest.mark.parametrize("position", range(0, 256, 7))
def test_another_key_another_root_and_another_seal_do_not_fit(position: int) -> None:
    def flipped(value: bytes) -> bytes:
        return (int.from_bytes(value) ^ 1 << position).to_bytes(32)

    assert not seal.fits(flipped(KEY), sealed())
    assert not seal.fits(KEY, SealedRoot(flipped(ROOT).hex(), sealed().seal))
    assert not seal.fits(KEY, SealedRoot(ROOT.hex(), flipped(bytes.fromhex(sealed().seal)).hex()))


@pytest.mark.parametrize("text", ["", "00", "zz", "é", "0" * 63, "0" * 66])
def test_a_seal_that_is_none_does_not_fit(text: str) -> None:
    assert not seal.fits(KEY, SealedRoot(ROOT.hex(), text))
    assert not seal.fits(KEY, SealedRoot(text, sealed().seal))


def test_the_reader_finds_the_seal_that_the_writer_set(staging: Path, about, tmp_path: Path) -> None:
    written = format_2.write_archive(tmp_path / "a.tar.gz", staging, about, seal=partial(seal.seal_root, KEY))

    found = reader.read_seal(tmp_path / "a.tar.gz")

    assert found is not None
    assert f"blake3:{found.root}" == written.digest
    assert seal.fits(KEY, found)
    assert reader.verify(tmp_path / "a.tar.gz").digest == written.digest


def test_an_archive_that_is_not_sealed_or_of_format_1_has_no_seal(staging: Path, about, tmp_path: Path) -> None:
    format_2.write_archive(tmp_path / "a.tar.gz", staging, about)
    format_1.write_archive(tmp_path / "b.tar.gz", staging, about)
    assert [reader.read_seal(tmp_path / name) for name in ("a.tar.gz", "b.tar.gz")] == [None, None]
