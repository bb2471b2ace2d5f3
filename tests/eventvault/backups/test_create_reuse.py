"""Backups that copy members of earlier archives, also if an earlier one is damaged."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventvault import data_folders
from eventvault.archive import output, reader
from eventvault.archive.seal import seal_root
from eventvault.backups import chores
from eventvault.backups.entry import BackupEntry
from eventvault.backups.installation_key import ensure_key
from eventvault.errors import EventVaultError
from eventvault.files import SourceUnreadable
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import format_2
from tests.eventvault.archive.format2.conftest import Forgery, make_file
from tests.filled import fill
from tests.stores import running_service

pytestmark = pytest.mark.slow


class Watched:
    """The service and the results of the chores that wrote archives."""

    def __init__(self, service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = service
        self.answers: list[dict[str, Any]] = []
        run = service.chores.run

        def noting(name: str, **arguments: Any) -> dict[str, Any]:
            answer = run(name, **arguments)
            if name == "write_archive":
                self.answers.append(answer)
            return answer

        monkeypatch.setattr(service.chores, "run", noting)

    def back_up(self, label: str) -> BackupEntry:
        return self.service.create_backup(label).backup

    @property
    def copied(self) -> list[bool]:
        """Return, for each archive, whether most of it was copied."""
        return [answer["copied"] > answer["size"] // 2 for answer in self.answers]


@pytest.fixture
def watched(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    fill(settings.database, 3_000_000)
    with running_service(settings) as service:
        yield Watched(service, monkeypatch)


def assert_sound(watched: Watched, entry: BackupEntry) -> None:
    assert watched.service.verify_backup(entry.name, records=True).checked == "records"


def test_a_second_backup_copies_and_is_whole_without_the_first(watched: Watched) -> None:
    first, second = watched.back_up("one"), watched.back_up("two")

    assert watched.copied == [False, True]
    Path(first.path).unlink()
    assert_sound(watched, second)
    assert watched.service.restore(second.name).events == second.events


def test_only_new_tables_are_checked(watched: Watched, settings: Settings) -> None:
    for label in ("one", "two"):
        watched.back_up(label)

    tables = {path.name for path in settings.database.glob("*.ldb")}
    assert tables
    assert [set(answer["checked"]) for answer in watched.answers] == [tables, set()]


def test_tables_that_an_earlier_version_archived_are_checked_once(watched: Watched, settings: Settings) -> None:
    watched.back_up("one")
    path = settings.storage_dir / "archived_tables.json"
    document = orjson.loads(path.read_bytes())
    for table in document["tables"].values():
        del table["checked"]
    path.write_bytes(orjson.dumps(document))

    for label in ("two", "three"):
        watched.back_up(label)

    first, second, third = (answer["checked"] for answer in watched.answers)
    assert first == second
    assert third == []
    assert watched.copied == [False, True, True]


def test_after_a_restore_members_are_found_by_their_content(watched: Watched) -> None:
    first = watched.back_up("one")
    watched.service.restore(first.name)

    second = watched.back_up("two")

    assert watched.copied == [False, True]
    assert_sound(watched, second)


def test_without_the_memory_of_tables_members_are_found_by_their_content(watched: Watched, settings: Settings) -> None:
    watched.back_up("one")
    (settings.storage_dir / "archived_tables.json").write_bytes(b"nonsense")

    second = watched.back_up("two")

    assert watched.copied == [False, True]
    assert_sound(watched, second)


@pytest.mark.parametrize(("key", "copied"), [(None, True), (bytes(32), False)], ids=["our key", "another key"])
def test_without_the_catalogue_members_are_copied_only_if_the_seal_proves_the_archive(
    watched: Watched, settings: Settings, tmp_path: Path, key: bytes | None, copied: bool
) -> None:
    """Whoever can write an archive of our store could give a table's digest to other bytes."""
    first = Path(watched.back_up("one").path)
    about = reader.unpack(first, tmp_path / "unpacked").manifest
    first.unlink()
    own_seal = partial(seal_root, key or ensure_key(settings))
    format_2.write_archive(first, tmp_path / "unpacked" / "event_registry_db", about, seal=own_seal)
    (settings.backup_dir / ".catalogue.json").unlink()
    watched.service.verify_backup(first.name)

    watched.back_up("two")

    assert watched.copied == [False, copied]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [Path.unlink, truncate, flip])
def test_an_earlier_one_that_is_harmed_between_two_backups_does_no_harm(
    harm: Callable[[Path], None], watched: Watched
) -> None:
    first = watched.back_up("one")
    harm(Path(first.path))

    second = watched.back_up("two")

    assert watched.copied == [False, False]
    assert_sound(watched, second)


def test_a_disk_that_rots_in_silence_is_noticed_by_the_next_backup(watched: Watched) -> None:
    """Size and times of the earlier archive are the same as when it was verified; only its bytes differ."""
    first = watched.back_up("one")
    path = Path(first.path)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(first.size // 3)  # in the members of the first table
        byte = file.read(1)
        file.seek(first.size // 3)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    second = watched.back_up("two")

    assert watched.copied == [False, False]
    found = {entry.name: entry for entry in watched.service.list_backups()}
    assert "checksum" in (found[first.name].problem or "")
    assert found[second.name].problem is None
    assert_sound(watched, second)
    third = watched.back_up("three")
    assert watched.copied == [False, False, True]
    assert_sound(watched, third)


def test_an_archive_that_gives_our_tables_digests_to_other_bytes_is_not_taken_from(watched: Watched) -> None:
    """Its index, its root and its manifest with our installation's id are right; only our seal is missing."""
    path = Path(watched.back_up("one").path)
    forgery = Forgery(path)
    for name, file in forgery.files.items():
        if name.endswith(".ldb"):
            other = make_file(b"x" * file.size)
            file.data = other.data
    path.write_bytes(forgery.build())
    watched.service.settings.storage_dir.joinpath(data_folders.ARCHIVED_TABLES).unlink()

    second = watched.back_up("two")

    assert watched.copied == [False, False]
    assert_sound(watched, second)
    with pytest.raises(EventVaultError, match="is not the file"):
        watched.service.verify_backup(path.name)


def test_damaged_archives_are_not_taken_from_and_not_counted(watched: Watched) -> None:
    first = watched.back_up("one")
    flip(Path(first.path))
    with pytest.raises(EventVaultError):
        watched.service.verify_backup(first.name)

    again = watched.service.backups.create_if_changed()

    assert again is not None
    assert watched.copied == [False, False]


def test_changing_to_small_makes_a_small_one(settings: Settings, watched: Watched) -> None:
    import msgspec

    from eventvault.backups.create import BackupMaker

    first = watched.back_up("one")
    service = watched.service
    small = settings.__class__(**{**vars(settings), "archive_compression": "small"})
    maker = BackupMaker(small, service.bus, service.catalogue, service.chores, service.remover, service.previous)

    made = maker.create("two").backup

    assert made.size < first.size
    assert service.backup_manifest(made.name)["compression"] == "small"
    assert msgspec.to_builtins(made)["problem"] is None
    assert_sound(watched, made)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOMEM])
def test_an_earlier_archive_that_the_disk_cannot_read_is_not_called_damaged(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    first, run = watched.back_up("one"), watched.service.chores.run

    def running(name: str, **arguments: Any) -> dict[str, Any]:
        return chores.write_archive(**arguments) if name == "write_archive" else run(name, **arguments)

    def failing(*_: object) -> int:
        raise SourceUnreadable(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(output, "copy_range", failing)
        patch.setattr(output, "clone_range", failing)
        patch.setattr(watched.service.chores, "run", running)
        second = watched.back_up("two")

    entries = {entry.name: entry for entry in watched.service.list_backups()}
    assert (entries[first.name].problem, entries[second.name].problem) == (None, None)
    assert entries[first.name].verified is not None
    assert_sound(watched, second)
    assert watched.service.status()["status"] == "ok"
