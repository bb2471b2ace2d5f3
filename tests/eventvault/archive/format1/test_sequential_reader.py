"""The reader that finds the first damaged byte accepts what the parallel reader accepts."""

from pathlib import Path

import pytest

from eventvault.archive import layout, reader
from eventvault.archive.format1.sequential_reader import check_sequentially
from eventvault.archive.source import open_archive
from eventvault.errors import ArchiveDamaged


def test_a_good_archive_is_accepted_and_gives_its_manifest(own: Path) -> None:
    with open_archive(own) as archive:
        assert check_sequentially(archive) == reader.verify(own).manifest


def test_damage_is_named_with_its_place(own: Path) -> None:
    content = bytearray(own.read_bytes())
    content[len(layout.opening_header(1))] ^= 0xFF
    own.write_bytes(content)
    with open_archive(own) as archive, pytest.raises(ArchiveDamaged, match=r"at byte [0-9]+: "):
        check_sequentially(archive)
