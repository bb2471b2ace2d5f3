"""The catalogue: the folder decides which archives exist, and the catalogue adds what it does not show."""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock, data_folders, small_files
from eventvault.archive import seal
from eventvault.archive.manifest import Manifest
from eventvault.archive.proof import Trust
from eventvault.backups import catalogue_file
from eventvault.backups.catalogue import MANY_NEW, Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.errors import (
    ArchiveDamaged,
    BackupNotFound,
    BackupsUnavailable,
    InvalidInput,
)
from tests import format_2
from tests.eventvault.archive_folder import ANOTHER_KEY, FIRST, KEY, NOON, ROOT, Folder, listed, manifest


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "backups")


def test_an_archive_that_was_made_here_is_listed_with_all_that_is_known(folder: Folder) -> None:
    path = folder.put("a.tar.gz")
    entry = folder.catalogue().record_created("a.tar.gz", sha256="5" * 64, verified=9)
    assert entry == BackupEntry(
        name="a.tar.gz", path=str(path), size=path.stat().st_size, created=clock.parse(NOON), label="a label",
        events=42, sequence=42, generation=FIRST.id, verified=9, own_verified=9, sha256="5" * 64, checked="digests",
        content_checked=True, origin="created", origin_proven=True, installation="here",
        arrived=path.stat().st_mtime_ns // 1000, unique_bytes=path.stat().st_size,
    )  # fmt: skip
    assert folder.catalogue().entries() == [entry]
    assert folder.catalogue().entry("a.tar.gz") == entry


def test_the_newest_is_first_by_manifest_by_name_and_by_the_time_of_the_file(folder: Folder) -> None:
    folder.put("manifest.tar.gz", created="2024-12-27T12:00:00.500Z")
    (folder.path / "backup_2024-12-27_120001.tar.gz").write_bytes(b"foreign")
    unnamed = folder.path / "unnamed.tar.gz"
    unnamed.write_bytes(b"foreign")
    os.utime(unnamed, (0, clock.parse("2024-12-27T12:00:00Z") // 1_000_000))
    entries = folder.catalogue().entries()
    assert [entry.name for entry in entries] == [
        "backup_2024-12-27_120001.tar.gz", "manifest.tar.gz", "unnamed.tar.gz",
    ]  # fmt: skip
    assert [clock.format_milliseconds(entry.created)[17:] for entry in entries] == ["01.000Z", "00.500Z", "00.000Z"]


@pytest.mark.slow
def test_many_new_archives_are_read_once_however_many_ask(folder: Folder) -> None:
    first = folder.put("0.tar.gz")
    for number in range(1, MANY_NEW + 20):
        first.with_name(f"{number}.tar.gz").hardlink_to(first)
    read = list[str]()

    def reading(path: Path) -> Manifest:
        read.append(path.name)
        time.sleep(0.001)  # so that another thread comes in between
        return folder.read_manifest(path)

    catalogue = Catalogue(folder.path, "here", reading, read_seal=folder.read_seal)
    with ThreadPoolExecutor(4) as pool:
        lists = [asked.result(60) for asked in [pool.submit(catalogue.entries) for _ in range(4)]]

    assert [len(entries) for entries in lists] == [MANY_NEW + 20] * 4
    assert len(read) == len(set(read)) == MANY_NEW + 20


def test_only_plain_files_with_the_right_ending_are_archives(folder: Folder, tmp_path: Path) -> None:
    real = folder.put("real.tar.gz")
    folder.put(".hidden.tar.gz")
    folder.put(".real.tar.gz.1234.tmp")
    folder.put("notes.txt")
    (folder.path / "folder.tar.gz").mkdir()
    (folder.path / "link.tar.gz").symlink_to(real)
    os.mkfifo(folder.path / "pipe.tar.gz")
    (folder.path / "line\nbreak.tar.gz").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(folder.path) + b"/\xff.tar.gz")).write_bytes(b"")
    catalogue = folder.catalogue()
    assert listed(catalogue) == ["real.tar.gz"]
    for name in ("folder.tar.gz", "link.tar.gz", "pipe.tar.gz", "none.tar.gz"):
        with pytest.raises(BackupNotFound):
            catalogue.entry(name)
    for name in (".hidden.tar.gz", "../backups/real.tar.gz", "notes.txt"):
        with pytest.raises(InvalidInput):
            catalogue.entry(name)


def test_an_archive_that_is_being_copied_in_is_listed_with_its_problem_until_it_is_whole(folder: Folder) -> None:
    content = folder.put("a.tar.gz", installation="elsewhere").read_bytes()
    path = folder.path / "a.tar.gz"
    path.write_bytes(content[:-10])
    catalogue = folder.catalogue()
    (entry,) = catalogue.entries()
    assert entry.problem is not None
    assert "still being copied" in entry.problem
    assert (entry.events, entry.sequence, entry.label, entry.generation, entry.sha256) == (None,) * 5
    before = path.stat()
    path.write_bytes(content[:-10] + content[-10:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (entry,) = catalogue.entries()
    assert (entry.problem, entry.events, entry.origin) == (None, 42, "found")


def test_an_archive_that_was_made_here_and_lost_its_end_is_still_one_that_was_made_here(folder: Folder) -> None:
    path = folder.put("a.tar.gz")
    content = path.read_bytes()
    catalogue = folder.catalogue()
    catalogue.record_created("a.tar.gz", sha256="5" * 64, verified=9)

    path.write_bytes(content[:-10])
    for entry in (catalogue.entry("a.tar.gz"), catalogue.entries()[0], folder.catalogue().entries()[0]):
        assert (entry.origin, bool(entry.problem), entry.verified) == ("created", True, None)

    folder.put("a.tar.gz", installation="elsewhere")
    assert catalogue.entry("a.tar.gz").origin == "found"


def test_a_problem_that_comes_from_a_look_is_looked_at_again_even_if_the_archive_was_pinned(folder: Folder) -> None:
    """If a disk cannot be read for a moment, neither size nor time of the file change."""
    folder.put("a.tar.gz")
    fails = True

    def read_manifest(path: Path) -> Manifest:
        if fails:
            raise ArchiveDamaged("the disk says: Input/output error")
        return folder.read_manifest(path)

    catalogue = Catalogue(folder.path, "here", read_manifest, lambda _path: "own", read_seal=lambda _path: None)
    assert catalogue.set_pinned("a.tar.gz", pinned=True).problem
    assert catalogue.entry("a.tar.gz").problem
    fails = False
    for entry in (catalogue.entry("a.tar.gz"), catalogue.entries()[0]):
        assert (entry.problem, entry.pinned, entry.events) == (None, True, 42)


def test_a_foreign_archive_has_unknown_values_and_no_problem(folder: Folder) -> None:
    (folder.path / "node.tar.gz").write_bytes(b"foreign")
    (entry,) = folder.catalogue().entries()
    assert (entry.problem, entry.events, entry.origin) == (None, None, "found")


def test_an_archive_deleted_by_hand_is_gone_and_one_copied_in_is_there(folder: Folder) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    assert listed(catalogue) == ["a.tar.gz"]
    (folder.path / "a.tar.gz").rename(folder.path / "b.tar.gz")
    assert listed(catalogue) == ["b.tar.gz"]
    with pytest.raises(BackupNotFound, match=r"there is no backup a\.tar\.gz"):
        catalogue.set_pinned("a.tar.gz", pinned=True)


def test_what_is_known_belongs_to_the_very_file_and_only_the_pin_stays_when_it_is_replaced(folder: Folder) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    catalogue.record_uploaded("a.tar.gz", sha256="5" * 64, verified=9)
    catalogue.set_pinned("a.tar.gz", pinned=True)
    folder.put("a.tar.gz", events=43, installation="elsewhere")
    for entry in (catalogue.entry("a.tar.gz"), catalogue.entries()[0], folder.catalogue().entries()[0]):
        assert (entry.events, entry.origin, entry.verified, entry.sha256, entry.pinned) == (
            43, "found", None, None, True,
        )  # fmt: skip


def test_pins_problems_and_verifications_outlive_the_process(folder: Folder) -> None:
    folder.put("a.tar.gz")
    catalogue = folder.catalogue()
    catalogue.record_created("a.tar.gz", sha256="5" * 64, verified=9)
    catalogue.set_pinned("a.tar.gz", pinned=True)
    catalogue.record_problem("a.tar.gz", "one byte is wrong")
    entry = folder.catalogue().entry("a.tar.gz")
    assert (entry.pinned, entry.problem, entry.verified, entry.origin) == (True, "one byte is wrong", None, "created")
    folder.catalogue().record_verified("a.tar.gz", verified=11)
    entry = folder.catalogue().entry("a.tar.gz")
    assert (entry.problem, entry.verified, entry.sha256) == (None, 11, "5" * 64)
    folder.catalogue().set_pinned("a.tar.gz", pinned=False)
    assert not folder.catalogue().entry("a.tar.gz").pinned


def test_an_upload_counts_as_verified_when_its_records_were_read(folder: Folder) -> None:
    folder.put("a.tar.gz")
    entry = folder.catalogue().record_uploaded("a.tar.gz", checked="records")
    assert (entry.origin, entry.verified, entry.checked) == ("uploaded", 77, "records")


def test_an_archive_counts_as_verified_by_its_digests_as_soon_as_something_proves_them(folder: Folder) -> None:
    folder.put("a.tar.gz", installation="elsewhere")
    folder.seal_with(ANOTHER_KEY)
    catalogue = folder.catalogue()
    uploaded = catalogue.record_uploaded("a.tar.gz", digest=f"blake3:{ROOT.hex()}")
    assert (uploaded.origin_proven, uploaded.verified, uploaded.checked) == (False, None, None)
    for trusted in (Trust(keys=(ANOTHER_KEY.hex(),)), Trust(checksums=frozenset([ROOT.hex()]))):
        folder.trust = trusted
        (entry,) = catalogue.entries()
        assert (entry.origin_proven, entry.verified, entry.checked) == (True, 77, "digests")
        folder.trust = Trust()
        assert catalogue.entries()[0].checked is None
    folder.key = ANOTHER_KEY
    assert catalogue.entry("a.tar.gz").checked == "digests"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b'{"format": 1, "archives": {"a.tar.gz": {"identity": "?"}}}'),
        lambda path: path.write_bytes(b'{"format": 99, "archives": {}}'),
    ],
    ids=["missing", "empty", "cut", "wrong type", "unknown format"],
)
def test_a_lost_catalogue_is_rebuilt_and_knows_which_archives_were_made_here(folder: Folder, spoil: Any) -> None:
    folder.put("ours.tar.gz")
    folder.put("renamed.tar.gz", name="before.tar.gz")
    folder.put("alien.tar.gz", installation="elsewhere")
    folder.put("unsealed.tar.gz")
    catalogue = folder.catalogue()
    catalogue.record_created("ours.tar.gz", digest=f"blake3:{ROOT.hex()}", verified=9)
    folder.key = KEY
    folder.seal_with(KEY, "ours.tar.gz", "renamed.tar.gz")
    spoil(folder.path / data_folders.CATALOGUE)
    for rebuilt in (catalogue, folder.catalogue()):
        origins = {entry.name: entry.origin for entry in rebuilt.entries()}
        assert {name for name, origin in origins.items() if origin == "created"} == {"ours.tar.gz"}
        assert set(origins.values()) == {"created", "found"}
    assert folder.catalogue().entry("ours.tar.gz").origin == "created"
    assert len(catalogue_file.load(folder.path)) == 4


def test_a_catalogue_that_cannot_be_read_is_kept_for_a_look(folder: Folder) -> None:
    (folder.path / data_folders.CATALOGUE).write_bytes(b"{spoilt")
    folder.catalogue().entries()
    assert (folder.path / ".catalogue.json.damaged").read_bytes() == b"{spoilt"


@pytest.mark.slow
def test_each_flipped_bit_of_the_catalogue_is_detected_and_its_archives_are_read_again(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.catalogue().record_created("a.tar.gz", digest=f"blake3:{ROOT.hex()}", verified=9)
    folder.key = KEY
    folder.seal_with(KEY)
    path = folder.path / data_folders.CATALOGUE
    content = path.read_bytes()

    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        (entry,) = folder.catalogue().entries()
        assert (entry.origin, entry.sequence, entry.generation, entry.verified) == (
            "created",
            42,
            FIRST.id,
            None,
        )
        damaged = path.with_name(".catalogue.json.damaged")
        assert damaged.read_bytes() == flipped
        damaged.unlink()


def test_a_catalogue_of_0_1_0_without_a_checksum_is_read(folder: Folder) -> None:
    folder.put("a.tar.gz")
    folder.catalogue().set_pinned("a.tar.gz", pinned=True)
    path = folder.path / data_folders.CATALOGUE
    lines = path.read_bytes().splitlines(keepends=True)
    assert b'"checksum"' in lines[1]
    path.write_bytes(b"".join(lines[:1] + lines[2:]))

    assert folder.catalogue().entry("a.tar.gz").pinned
    assert not list(folder.path.glob("*.damaged"))


def test_a_catalogue_that_the_disk_does_not_give_is_no_damage(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put("a.tar.gz")
    folder.catalogue().set_pinned("a.tar.gz", pinned=True)
    catalogue = folder.catalogue()

    def fail(_path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(small_files, "read_bytes", fail)
        with pytest.raises(BackupsUnavailable):
            catalogue.entries()
    assert catalogue.entry("a.tar.gz").pinned


def test_each_archive_is_looked_into_once_also_over_a_restart(folder: Folder) -> None:
    for number in range(200):
        folder.put(f"{number:03d}.tar.gz")
    catalogue = folder.catalogue()
    assert len(catalogue.entries()) == 200
    assert len(catalogue.entries()) == 200
    assert len(folder.catalogue().entries()) == 200
    assert len(folder.looks) == 200


def test_a_real_archive_is_read_by_default_and_half_of_it_is_a_problem(tmp_path: Path) -> None:
    database, backups = tmp_path / "db", tmp_path / "backups"
    database.mkdir()
    backups.mkdir()
    (database / "CURRENT").write_text("MANIFEST-000002\n")
    sealed = partial(seal.seal_root, KEY)
    written = format_2.write_archive(backups / "a.tar.gz", database, manifest("a.tar.gz"), seal=sealed)
    catalogue = Catalogue(backups, "here", key=lambda: KEY)
    (entry,) = catalogue.entries()
    assert (entry.size, entry.events, entry.origin, entry.problem) == (written.size, 42, "created", None)
    os.truncate(backups / "a.tar.gz", written.size // 2)
    (entry,) = catalogue.entries()
    assert (entry.events, entry.origin) == (None, "created")
    assert entry.problem is not None
    assert "does not end as an archive does" in entry.problem
