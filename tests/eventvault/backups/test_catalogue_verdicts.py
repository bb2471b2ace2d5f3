"""What a check enters in the catalogue, and for which file: foreign archives, those that cannot be checked, and files
that changed meanwhile.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import plyvel
import pytest

from eventvault.archive import reader
from eventvault.archive.reuse import reusable_members
from eventvault.errors import ArchiveError, ArchiveIncomplete, ArchiveUnreadable, EventVaultError, NoSpace
from eventvault.restore.check import Pace, check_archive
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, flip, make_foreign_archive, make_foreign_database
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as running:
        running.append(drafts(20))
        yield running


def test_the_scrub_does_without_the_records_where_they_have_no_room(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(service.create_backup().backup.path)
    path.rename(path.with_name("copied.tar.gz"))
    run = service.chores.run

    def without_room(name: str, **arguments: Any) -> dict[str, Any]:
        if arguments["depth"] == "records":
            raise NoSpace("the disk is full")
        return run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", without_room)
    service.scrub.run()

    (entry,) = service.list_backups()
    assert service.status()["jobs"]["scrub"]["lastOutcome"] == "copied.tar.gz is good"
    assert (entry.checked, entry.content_checked) == ("digests", False)
    assert entry.verified
    with pytest.raises(NoSpace):
        service.verify_backup("copied.tar.gz")


def test_an_archive_that_cannot_be_checked_leaves_the_others_their_turn(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [service.create_backup(label).backup.name for label in ("one", "two", "three")]
    tried: list[str] = []

    def killed(_name: str, archive: str, **_more: Any) -> dict[str, Any]:
        tried.append(Path(archive).name)
        raise EventVaultError("the process ended with status -9 and no answer")

    monkeypatch.setattr(service.chores, "run", killed)
    for _ in range(4):
        service.scrub.run()

    assert tried == [*names, names[0]]


def make_rotten_foreign(path: Path, folder: Path) -> Path:
    """A plain tar.gz of another program's database, with a flipped bit in a table."""
    folder = make_foreign_database(folder, 2000)
    with closing(plyvel.DB(str(folder))) as db:
        db.compact_range()
    table = max(folder.glob("*.ldb"), key=lambda found: found.stat().st_size)
    flip(table, table.stat().st_size // 2)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="event_registry_db")
    return path


def test_a_foreign_archive_is_checked_by_reading_every_record(service: StoreService, tmp_path: Path) -> None:
    path = make_rotten_foreign(service.settings.backup_dir / "node.tar.gz", tmp_path / "node")
    upload = service.settings.backup_dir / ".upload-1.tmp"
    upload.write_bytes(path.read_bytes())

    with pytest.raises(ArchiveError, match="damaged"):
        service.verify_backup("node.tar.gz")
    with pytest.raises(ArchiveError, match="damaged"):
        service.adopt_upload(str(upload), "uploaded.tar.gz")

    assert [(entry.name, bool(entry.problem)) for entry in service.list_backups()] == [("node.tar.gz", True)]


def test_a_foreign_archive_is_read_no_faster_than_the_rate_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_foreign_archive(tmp_path / "node.tar.gz")
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(Pace, "wait", lambda _self, done, total: told.append((done, total)))

    answer = check_archive(archive=str(path), scratch=str(tmp_path), depth="members", rate=1)

    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert answer == {"digest": None, "sha256": sha256, "sealed": None, "checked": "records", "records": False}
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert not list(tmp_path.glob(".restoring*"))


def meanwhile(service: StoreService, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Run something between the reading of an archive and the entry of the result in the catalogue."""
    run = service.chores.run

    def acting(name: str, **arguments: Any) -> dict[str, Any]:
        try:
            return run(name, **arguments)
        finally:
            act()

    monkeypatch.setattr(service.chores, "run", acting)


def test_a_good_copy_that_took_the_place_of_a_damaged_archive_is_not_marked(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = service.create_backup().backup
    path = Path(made.path)
    copy = path.with_name("copy.tmp")
    copy.write_bytes(path.read_bytes())
    flip(path, made.size // 2)
    meanwhile(service, monkeypatch, lambda: copy.replace(path))

    with pytest.raises(ArchiveError):
        service.verify_backup(made.name)

    assert service.list_backups()[0].problem is None
    assert service.status()["metrics"]["archives_damaged"] == 0


def test_what_took_the_place_of_a_good_archive_is_not_called_good(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = service.create_backup().backup
    path = Path(made.path)
    copy = path.with_name("copy.tmp")
    copy.write_bytes(path.read_bytes())
    flip(copy, made.size // 2)
    meanwhile(service, monkeypatch, lambda: copy.replace(path))

    with pytest.raises(ArchiveIncomplete, match="while it was read"):
        service.verify_backup(made.name)

    (entry,) = service.list_backups()
    assert (entry.verified, entry.content_checked) == (None, False)


def test_an_archive_that_cannot_be_opened_is_not_called_damaged(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = service.create_backup().backup

    def refused(_name: str, **_arguments: Any) -> dict[str, Any]:
        raise ArchiveUnreadable("opening it failed: Permission denied")

    monkeypatch.setattr(service.chores, "run", refused)

    with pytest.raises(ArchiveUnreadable):
        service.verify_backup(made.name)
    service.scrub.run()

    assert service.list_backups() == [made]
    assert service.status()["jobs"]["scrub"]["lastOutcome"].startswith("failed")


def test_what_the_system_says_when_an_archive_is_opened_is_no_word_on_its_bytes(tmp_path: Path) -> None:
    loop = tmp_path / "a.tar.gz"
    loop.symlink_to(loop)
    with pytest.raises(ArchiveUnreadable, match="symbolic links"):
        reader.verify(loop)
    with reusable_members([loop], "s", "fast") as earlier:
        earlier.open_for({(1, "5" * 64)}, ())
    assert earlier.unusable == []
