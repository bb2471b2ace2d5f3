"""Members are copied from earlier archives, damaged ones too: the new archive is whole and has the same bytes."""

import errno
import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from eventvault import data_folders, files
from eventvault.archive import output, reader
from eventvault.archive import reuse as earlier_module
from eventvault.archive.manifest import Manifest
from eventvault.archive.reuse import reusable_members
from eventvault.archive.writer import WrittenArchive
from tests import format_1, format_2, restoring
from tests.processes import open_beneath

pytestmark = pytest.mark.slow


@pytest.fixture
def tables(staging: Path) -> Path:
    noise = random.Random(7)
    for number, size in enumerate((5 * 2**20, 70_000, 70_000, 300_001), 20):
        (staging / f"{number:06}.ldb").write_bytes(noise.randbytes(size // 2) * 2 + b"x" * (size % 2))
    return staging


def known_in(folder: Path) -> dict[str, str]:
    return {path.name: blake3(path.read_bytes()).hexdigest() for path in folder.glob("*.ldb")}


def write(
    path: Path, folder: Path, about: Manifest, *paths: Path, known: bool = True, **more
) -> tuple[WrittenArchive, list]:
    with reusable_members(paths, about.store_id, about.compression) as archives:
        written = format_2.write_archive(
            path, folder, about, digests=known_in(folder) if known else {}, reusable=archives, **more
        )
    return written, archives.unusable


@pytest.fixture
def first(tmp_path: Path, tables: Path, about: Manifest) -> Path:
    write(tmp_path / "first.tar.gz", tables, about)
    return tmp_path / "first.tar.gz"


def assert_whole(path: Path, folder: Path, target: Path) -> None:
    reader.verify(path)
    reader.unpack(path, target)
    found = {file.name: file.read_bytes() for file in (target / data_folders.DATABASE).iterdir()}
    assert found == {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("known", [True, False])
def test_what_an_earlier_archive_holds_is_copied_and_the_bytes_are_the_same(known, first, tables, about, tmp_path):
    written, unusable = write(tmp_path / "second.tar.gz", tables, about, first, known=known)

    assert (tmp_path / "second.tar.gz").read_bytes() == first.read_bytes()
    assert written.digest == reader.verify(first).digest
    assert written.copied > 2_000_000
    assert unusable == []


def test_only_content_counts_not_the_name(first, tables, about, tmp_path):
    (tables / "000020.ldb").rename(tables / "000099.ldb")
    changed = bytearray((tables / "000021.ldb").read_bytes())
    changed[5] ^= 1
    (tables / "000021.ldb").write_bytes(changed)

    written, _ = write(tmp_path / "second.tar.gz", tables, about, first, known=False)

    assert written.copied > 2_000_000
    assert_whole(tmp_path / "second.tar.gz", tables, tmp_path / "out")


@pytest.mark.slow
def test_members_come_from_any_archive(first, tables, about, tmp_path):
    (tables / "000030.ldb").write_bytes(random.Random(9).randbytes(1_000_000))
    for name in ("000020", "000023"):
        (tables / f"{name}.ldb").rename(tmp_path / name)
    write(tmp_path / "second.tar.gz", tables, about)
    (tmp_path / "000020").rename(tables / "000020.ldb")

    written, _ = write(tmp_path / "third.tar.gz", tables, about, tmp_path / "second.tar.gz", first)

    assert written.copied > 3_000_000
    assert_whole(tmp_path / "third.tar.gz", tables, tmp_path / "out")


def test_an_archive_of_another_store_is_not_used(first, tables, about, tmp_path):
    other = msgspec.structs.replace(about, store_id="another")

    written, unusable = write(tmp_path / "second.tar.gz", tables, other, first)

    assert (written.copied, unusable) == (0, [])
    assert_whole(tmp_path / "second.tar.gz", tables, tmp_path / "out")


@pytest.mark.slow
def test_a_small_archive_takes_nothing_from_a_larger_one_and_the_other_way_it_does(first, tables, about, tmp_path):
    small = msgspec.structs.replace(about, compression="small")

    made, _ = write(tmp_path / "small.tar.gz", tables, small, first)
    fast, _ = write(tmp_path / "fast.tar.gz", tables, about, tmp_path / "small.tar.gz")

    assert made.copied == 0
    assert fast.copied > 2_000_000
    assert_whole(tmp_path / "fast.tar.gz", tables, tmp_path / "out")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 30)


def cut_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """A bit in the middle of the largest table's first member."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 4]))


def flip_manifest(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-900] ^= 1
    path.write_bytes(content)


def delete(path: Path) -> None:
    path.unlink()


def replace_by_noise(path: Path) -> None:
    path.write_bytes(b"noise" * 1000)


HARMS = [cut, cut_half, flip, flip_manifest, delete, replace_by_noise]


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("harm", HARMS)
def test_an_earlier_archive_that_was_harmed_is_passed_over(harm, known, first, tables, about, tmp_path):
    whole = first.read_bytes()
    harm(first)

    _, unusable = write(tmp_path / "second.tar.gz", tables, about, first, known=known)

    assert (tmp_path / "second.tar.gz").read_bytes() == whole
    assert [each.name for each in unusable] == ([] if harm is delete else ["first.tar.gz"])


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("moment", [1, 2, 4])
def test_an_earlier_archive_that_is_harmed_meanwhile_does_no_harm(harm, moment, first, tables, about, tmp_path):
    whole = first.read_bytes()
    seen = 0

    def meanwhile(_done: int, _total: int) -> None:
        nonlocal seen
        seen += 1
        if seen == moment:
            harm(first)

    write(tmp_path / "second.tar.gz", tables, about, first, progress=meanwhile)

    assert seen >= moment
    assert (tmp_path / "second.tar.gz").read_bytes() == whole
    reader.verify(tmp_path / "second.tar.gz")


@pytest.mark.slow
def test_the_next_archive_that_has_a_member_steps_in(first, tables, about, tmp_path):
    write(tmp_path / "second.tar.gz", tables, about)
    flip(tmp_path / "second.tar.gz")

    written, unusable = write(tmp_path / "third.tar.gz", tables, about, tmp_path / "second.tar.gz", first)

    assert written.copied > 2_000_000
    assert [each.name for each in unusable] == ["second.tar.gz"]
    assert (tmp_path / "third.tar.gz").read_bytes() == first.read_bytes()


def test_members_are_copied_where_the_kernel_has_no_copying(first, tables, about, tmp_path, monkeypatch):
    def refuse(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "copy_file_range", refuse)

    written, _ = write(tmp_path / "second.tar.gz", tables, about, first)

    assert written.copied > 2_000_000
    assert (tmp_path / "second.tar.gz").read_bytes() == first.read_bytes()


def test_a_disk_that_fails_under_the_earlier_archive_is_passed_over(first, tables, about, tmp_path, monkeypatch):
    def fail(*_: object) -> int:
        raise files.SourceUnreadable(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(output, "copy_range", fail)

    written, unusable = write(tmp_path / "second.tar.gz", tables, about, first)

    assert written.copied == 0
    assert ("Input/output error" in unusable[0].problem, unusable[0].damaged) == (True, False)
    assert (tmp_path / "second.tar.gz").read_bytes() == first.read_bytes()


@contextmanager
def reading_back(path: Path, bad: Callable[[memoryview], None]) -> Iterator[None]:
    """Every reading of the members that were copied to `path` goes through `bad`, as from a disk that fails there."""
    real = os.preadv

    def read(handle: int, buffers: list, offset: int) -> int:
        done = real(handle, buffers, offset)
        if path.name in Path(f"/proc/self/fd/{handle}").readlink().name:
            bad(memoryview(buffers[0])[:done])
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", read)
        yield


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOMEM, errno.ESTALE])
def test_an_earlier_archive_is_not_blamed_for_copies_that_cannot_be_read(code, first, tables, about, tmp_path):
    def bad(_content: memoryview) -> None:
        raise OSError(code, os.strerror(code))

    with (
        reusable_members([first], about.store_id, about.compression) as archives,
        reading_back(tmp_path / "second.tar.gz", bad),
        pytest.raises(OSError, match=os.strerror(code)),
    ):
        format_2.write_archive(tmp_path / "second.tar.gz", tables, about, digests=known_in(tables), reusable=archives)

    assert archives.unusable == []
    assert not (tmp_path / "second.tar.gz").exists()


def test_an_earlier_archive_is_not_blamed_for_copies_that_the_disk_changed(first, tables, about, tmp_path):
    def bad(content: memoryview) -> None:
        content[len(content) // 2] ^= 1

    with (
        reusable_members([first], about.store_id, about.compression) as archives,
        reading_back(tmp_path / "second.tar.gz", bad),
        pytest.raises(OSError, match="other bytes than were written"),
    ):
        format_2.write_archive(tmp_path / "second.tar.gz", tables, about, digests=known_in(tables), reusable=archives)

    assert archives.unusable == []
    assert not (tmp_path / "second.tar.gz").exists()


def test_a_full_disk_is_said_although_members_are_copied(first, tables, about, tmp_path, largest_file):
    from eventvault.errors import NoSpace

    with largest_file(1_000_000), pytest.raises(NoSpace):
        write(tmp_path / "second.tar.gz", tables, about, first)
    assert not [path for path in tmp_path.iterdir() if "second" in path.name]


def test_a_wrong_digest_of_the_files_is_not_believed_over_what_is_read(tables, about, tmp_path):
    """Files that are compressed are hashed as they are read, whatever digest the caller has."""
    with reusable_members([], about.store_id, about.compression) as archives:
        known = dict.fromkeys(known_in(tables), "0" * 64)
        format_2.write_archive(tmp_path / "a.tar.gz", tables, about, digests=known, reusable=archives)

    reader.verify(tmp_path / "a.tar.gz")


def test_few_archives_are_opened(first, tables, about, tmp_path, monkeypatch):
    """The newest archive has all contents, so the others are not opened."""
    looked: list[Path] = []
    real: Callable = earlier_module.open_archive

    def noting(path: Path):
        looked.append(path)
        return real(path)

    monkeypatch.setattr(earlier_module, "open_archive", noting)
    with reusable_members([first, first, first], about.store_id, about.compression) as archives:
        archives.open_for({(70_000, known_in(tables)["000021.ldb"])}, set())

    assert looked == [first]


@pytest.mark.slow
def test_archives_that_can_give_nothing_do_not_stand_before_one_that_can(first, tables, about, tmp_path):
    others = []
    for number in range(2 * earlier_module.MAX_ARCHIVES):
        others.append(tmp_path / f"other{number}.tar.gz")
        format_2.write_archive(others[-1], tables, msgspec.structs.replace(about, store_id="another"))

    written, unusable = write(tmp_path / "second.tar.gz", tables, about, *others, first)

    assert written.copied > 2_000_000
    assert unusable == []


def test_no_more_than_a_few_archives_are_open_at_once(first, tables, about):
    folder = first.parent
    with reusable_members([first] * 20, about.store_id, about.compression) as archives:
        archives.open_for({(1, "5" * 64)}, set())
        assert len(open_beneath(folder)) == earlier_module.MAX_ARCHIVES
    with reusable_members([first] * 20, "another", about.compression) as archives:
        archives.open_for({(1, "5" * 64)}, set())
        assert open_beneath(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("table", ["000020.ldb", "000021.ldb", "000023.ldb"])
def test_members_of_format_1_are_compared_with_the_file_that_they_claim_to_hold(
    known, table, tables, about, tmp_path, monkeypatch
):
    """Nothing inflated them when they were made: here memory changed a bit before they were compressed."""
    claimed = {path.read_bytes(): hashlib.sha256(path.read_bytes()).hexdigest() for path in tables.iterdir()}
    rotten = shutil.copytree(tables, tmp_path / "rotten")
    right = (tables / table).read_bytes()
    restoring.flip(rotten / table, -1)
    claimed[(rotten / table).read_bytes()] = claimed[right]
    monkeypatch.setattr(format_1, "_sha256", claimed.__getitem__)
    format_1.write_archive(tmp_path / "first.tar.gz", rotten, about)

    written, unusable = write(tmp_path / "second.tar.gz", tables, about, tmp_path / "first.tar.gz", known=known)

    assert written.copied == 0
    assert [each.name for each in unusable] == ["first.tar.gz"]
    assert "do not hold that file" in unusable[0].problem
    assert_whole(tmp_path / "second.tar.gz", tables, tmp_path / "out")
