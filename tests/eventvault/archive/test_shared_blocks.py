"""On XFS and btrfs a new archive shares the blocks of unchanged tables with an earlier one; elsewhere it copies."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from eventvault import data_folders
from eventvault.archive import reader
from eventvault.archive.manifest import Manifest
from eventvault.archive.reuse import reusable_members
from eventvault.archive.writer import WrittenArchive
from eventvault.errors import ArchiveDamaged
from tests import format_2

pytestmark = pytest.mark.slow


def never(_name: str, _offset: int) -> None:
    """When members were read: never."""


def lately(_name: str, _offset: int) -> int:
    return 5


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def tables(staging: Path) -> Path:
    noise = random.Random(8)
    for number, size in enumerate((9 * 2**20 + 77, 3 * 2**20, 2_000_001), 20):
        (staging / f"{number:06}.ldb").write_bytes(noise.randbytes(size))
    return staging


@pytest.fixture(params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, folder_on: Callable[[str], Path]) -> Path:
    return folder_on(request.param)


def write(
    path: Path, folder: Path, about: Manifest, *earlier: Path, read: Callable[[str, int], int | None] = never
) -> WrittenArchive:
    known = {file.name: blake3(file.read_bytes()).hexdigest() for file in folder.glob("*.ldb")}
    with reusable_members(earlier, about.store_id, about.compression, read) as archives:
        return format_2.write_archive(path, folder, about, digests=known, reusable=archives)


def used(disk: Path) -> int:
    handle = os.open(disk, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    os.sync()
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def assert_whole(path: Path, folder: Path, target: Path) -> None:
    reader.unpack(path, target)
    unpacked = {file.name: file.read_bytes() for file in (target / data_folders.DATABASE).iterdir()}
    assert unpacked == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_unchanged_tables_take_no_space_again(sharing: Path, tables: Path, about: Manifest, tmp_path: Path) -> None:
    first = write(sharing / "first.tar.gz", tables, about)
    before = used(sharing)
    (tables / "000040.ldb").write_bytes(random.Random(9).randbytes(1_000_000))

    second = write(sharing / "second.tar.gz", tables, about, sharing / "first.tar.gz")

    assert first.cloned == 0
    assert second.cloned > 14_000_000
    assert second.copied - second.cloned < 20_000
    assert used(sharing) - before < 4 * 2**20
    (sharing / "first.tar.gz").unlink()
    assert_whole(sharing / "second.tar.gz", tables, tmp_path / "out")
    third = write(tmp_path / "third.tar.gz", tables, about)
    assert (tmp_path / "third.tar.gz").read_bytes() == (sharing / "second.tar.gz").read_bytes()
    assert third.cloned == 0


def test_damage_in_an_earlier_archive_is_not_shared(sharing: Path, tables: Path, about: Manifest) -> None:
    write(sharing / "first.tar.gz", tables, about)
    flip(sharing / "first.tar.gz", 5 * 2**20)
    with pytest.raises(ArchiveDamaged):
        reader.verify(sharing / "first.tar.gz")

    second = write(sharing / "second.tar.gz", tables, about, sharing / "first.tar.gz")

    assert (second.copied, second.cloned) == (0, 0)
    reader.verify(sharing / "second.tar.gz")


def test_an_earlier_archive_is_named_for_shared_blocks_that_cannot_be_read(
    sharing: Path, tables: Path, about: Manifest
) -> None:
    write(sharing / "first.tar.gz", tables, about)
    real = os.preadv

    def read(handle: int, buffers: list[memoryview], offset: int) -> int:
        if "second" in Path(f"/proc/self/fd/{handle}").readlink().name and 2**20 < offset < 9 * 2**20:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(handle, buffers, offset)

    with (
        reusable_members([sharing / "first.tar.gz"], about.store_id, about.compression) as archives,
        pytest.MonkeyPatch.context() as patch,
    ):
        known = {file.name: blake3(file.read_bytes()).hexdigest() for file in tables.glob("*.ldb")}
        patch.setattr(os, "preadv", read)
        with pytest.raises(OSError, match="Input/output"):  # the fake disk fails whatever is written there
            format_2.write_archive(sharing / "second.tar.gz", tables, about, digests=known, reusable=archives)

    assert [(each.name, each.damaged) for each in archives.unusable] == [("first.tar.gz", False)]


def test_blocks_that_were_read_lately_are_shared_unread(sharing: Path, tables: Path, about: Manifest) -> None:
    """Damage since then shows that nobody read them; the next reading of either archive finds it."""
    write(sharing / "first.tar.gz", tables, about)
    flip(sharing / "first.tar.gz", 5 * 2**20)

    second = write(sharing / "second.tar.gz", tables, about, sharing / "first.tar.gz", read=lately)

    assert second.cloned > 14_000_000
    assert {clone.read for clone in second.clones} == {5}
    with pytest.raises(ArchiveDamaged):
        reader.verify(sharing / "second.tar.gz")


def test_unread_blocks_make_the_same_archive_as_blocks_that_are_read(
    sharing: Path, tables: Path, about: Manifest, tmp_path: Path
) -> None:
    write(sharing / "first.tar.gz", tables, about)
    (tables / "000040.ldb").write_bytes(random.Random(9).randbytes(1_000_000))

    unread = write(sharing / "unread.tar.gz", tables, about, sharing / "first.tar.gz", read=lately)
    read = write(sharing / "read.tar.gz", tables, about, sharing / "first.tar.gz")

    assert (sharing / "unread.tar.gz").read_bytes() == (sharing / "read.tar.gz").read_bytes()
    assert [clone._replace(read=None) for clone in unread.clones] == list(read.clones)
    assert_whole(sharing / "unread.tar.gz", tables, tmp_path / "out")


def test_between_two_file_systems_members_are_copied(
    sharing: Path, tables: Path, about: Manifest, tmp_path: Path
) -> None:
    write(tmp_path / "first.tar.gz", tables, about)

    second = write(sharing / "second.tar.gz", tables, about, tmp_path / "first.tar.gz")

    assert second.copied > 14_000_000
    assert second.cloned == 0
    assert (sharing / "second.tar.gz").read_bytes() == (tmp_path / "first.tar.gz").read_bytes()


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "linkless", "limited"])
def test_where_nothing_can_be_shared_members_are_copied(
    kind: str, folder_on: Callable[[str], Path], tables: Path, about: Manifest
) -> None:
    disk = folder_on(kind)
    write(disk / "first.tar.gz", tables, about)

    second = write(disk / "second.tar.gz", tables, about, disk / "first.tar.gz", read=lately)

    assert second.copied > 14_000_000
    assert second.cloned == 0
    assert (disk / "second.tar.gz").read_bytes() == (disk / "first.tar.gz").read_bytes()
    flip(disk / "first.tar.gz", 5 * 2**20)
    third = write(disk / "third.tar.gz", tables, about, disk / "first.tar.gz", read=lately)
    assert third.copied == 0, "copied bytes are always read"
