"""Only tables that are the same files as before need not be read again."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from eventvault import data_folders
from eventvault.archive.manifest import FileRecord, Manifest
from eventvault.backups import table_digests
from tests.eventvault.archive_folder import manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint"
    path.mkdir()
    for number in (5, 7):
        (path / f"{number:06}.ldb").write_bytes(os.urandom(40_000))
    (path / "000009.log").write_bytes(b"log")
    return path


@pytest.fixture
def about(folder: Path) -> Manifest:
    files = [FileRecord(p.name, p.stat().st_size, blake3(p.read_bytes()).hexdigest()) for p in folder.iterdir()]
    return manifest("a.tar.gz", files=files)


@pytest.fixture
def remembered(tmp_path: Path, folder: Path, about: Manifest) -> Path:
    table_digests.save_digests(tmp_path, about, table_digests.read_fingerprints(folder))
    return tmp_path


def known(storage: Path, folder: Path, about: Manifest) -> dict[str, str]:
    digests = table_digests.load_digests(storage, about, table_digests.read_fingerprints(folder))
    return {name: digest.blake3 for name, digest in digests.items()}


def test_tables_that_were_read_are_known_and_logs_never(remembered, folder, about):
    found = known(remembered, folder, about)

    assert found == {file.name: file.blake3 for file in about.files if file.name.endswith(".ldb")}
    assert set(found) == {"000005.ldb", "000007.ldb"}


def test_a_link_to_a_table_is_that_table(remembered, folder, about, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    os.link(folder / "000005.ldb", linked / "000005.ldb")

    assert set(known(remembered, linked, about)) == {"000005.ldb"}


def test_a_copy_is_read_again(remembered, folder, about, tmp_path):
    shutil.copytree(folder, tmp_path / "copied")

    assert known(remembered, tmp_path / "copied", about) == {}


def test_a_table_with_another_end_is_read_again_although_all_else_is_the_same(remembered, folder, about):
    path = folder / "000005.ldb"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"abc")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert set(known(remembered, folder, about)) == {"000007.ldb"}


def test_a_table_that_was_written_to_is_read_again(remembered, folder, about):
    with (folder / "000005.ldb").open("r+b") as file:
        file.write(b"abc")

    assert set(known(remembered, folder, about)) == {"000007.ldb"}


@pytest.mark.parametrize("other", ["store", "generation"])
def test_another_store_or_generation_knows_nothing(other, remembered, folder, about):
    more = {"store": {"store_id": "x"}, "generation": {"generation": msgspec.structs.replace(about.generation, id="x")}}

    assert known(remembered, folder, msgspec.structs.replace(about, **more[other])) == {}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b'"\xff"', b'{"format": 3, "store": "s", "generation": "g1", "tables": {}}']
)
def test_what_cannot_be_read_is_not_believed(content, remembered, folder, about):
    (remembered / data_folders.ARCHIVED_TABLES).write_bytes(content)

    assert known(remembered, folder, about) == {}
    assert table_digests.load_damage(remembered) is None


def checked(storage: Path, folder: Path, about: Manifest) -> set[bool]:
    digests = table_digests.load_digests(storage, about, table_digests.read_fingerprints(folder))
    return {digest.checked for digest in digests.values()}


def test_tables_of_a_finished_backup_are_checked(remembered, folder, about):
    assert checked(remembered, folder, about) == {True}


def test_a_file_of_an_earlier_version_says_what_was_read_but_nothing_was_checked(remembered, folder, about):
    path = remembered / data_folders.ARCHIVED_TABLES
    document = msgspec.json.decode(path.read_bytes())
    del document["damage"], document["checksum"]
    for table in document["tables"].values():
        del table["checked"]
    path.write_bytes(msgspec.json.encode(document))

    assert set(known(remembered, folder, about)) == {"000005.ldb", "000007.ldb"}
    assert checked(remembered, folder, about) == {False}
    assert table_digests.load_damage(remembered) is None


DAMAGE = table_digests.Damage("the table 000005.ldb is damaged", "restore")


def test_damage_stays_until_the_next_finished_backup(remembered, folder, about):
    table_digests.save_damage(remembered, about.store_id, about.generation.id, DAMAGE)

    assert table_digests.load_damage(remembered) == (about.generation.id, DAMAGE)
    assert set(known(remembered, folder, about)) == {"000005.ldb", "000007.ldb"}
    table_digests.save_digests(remembered, about, table_digests.read_fingerprints(folder))
    assert table_digests.load_damage(remembered) is None


def test_damage_stays_while_new_tables_are_not_checked_yet(remembered, folder, about):
    table_digests.save_damage(remembered, about.store_id, about.generation.id, DAMAGE)

    table_digests.save_digests(remembered, about, table_digests.read_fingerprints(folder), ["000007.ldb"])

    assert checked(remembered, folder, about) == {True, False}
    assert table_digests.load_damage(remembered) == (about.generation.id, DAMAGE)
    table_digests.save_checked(remembered, about.generation.id, ["000007.ldb"])
    assert checked(remembered, folder, about) == {True}
    assert table_digests.load_damage(remembered) is None


def test_what_was_checked_in_another_generation_changes_nothing(remembered, folder, about):
    table_digests.save_digests(remembered, about, table_digests.read_fingerprints(folder), ["000007.ldb"])

    table_digests.save_checked(remembered, "g2", ["000007.ldb"])

    assert checked(remembered, folder, about) == {True, False}


def test_damage_of_another_generation_comes_without_digests(remembered, folder, about):
    table_digests.save_damage(remembered, about.store_id, "g2", DAMAGE)

    assert table_digests.load_damage(remembered) == ("g2", DAMAGE)
    assert known(remembered, folder, about) == {}


def test_without_a_file_no_damage_is_known(tmp_path):
    assert table_digests.load_damage(tmp_path) is None


def test_after_damage_every_table_is_read(remembered, folder, about):
    table_digests.forget_digests(remembered)
    table_digests.forget_digests(remembered)

    assert known(remembered, folder, about) == {}


def test_a_damaged_archive_does_not_hide_damage_of_the_database(remembered, folder, about):
    table_digests.save_damage(remembered, about.store_id, about.generation.id, DAMAGE)

    table_digests.forget_digests(remembered)

    assert known(remembered, folder, about) == {}
    assert table_digests.load_damage(remembered) == (about.generation.id, DAMAGE)
