"""Restores while the service runs: refused ones, staged ones, and the previous databases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock, data_folders
from eventvault.database import keys, opening
from eventvault.database.registry import open_leveldb
from eventvault.database.values import ScanQuery
from eventvault.errors import (
    ArchiveError,
    ArchiveTooNew,
    BackupNotFound,
    BackupProtected,
    DatabaseDamaged,
    DatabaseLocked,
    DatabaseMissing,
    EventVaultError,
    InvalidInput,
    NoSpace,
    RestoreRunning,
)
from eventvault.operations.operation import Operation
from eventvault.restore import estimate, prepare, space
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import (
    bytes_of,
    drafts,
    flip,
    ids,
    leftovers,
    make_archive,
    make_database,
    make_foreign_archive,
    make_text_archive,
    opened,
    prefixes,
    problem_codes,
    waiting_chore,
)
from tests.stores import running_service

pytestmark = pytest.mark.slow

NOT_OURS = ("LOCK", "LOG", "LOG.old")


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        service.append(drafts(5))
        yield service


def kept(settings: Settings) -> list[Path]:
    return sorted(settings.storage_dir.glob("previous-*"))


@pytest.mark.parametrize("name", ["backup_2024-12-27_120000.tar.gz", "never.tar.gz"])
def test_an_unknown_backup_is_not_found(service: StoreService, name: str) -> None:
    with pytest.raises(BackupNotFound):
        service.restore(name)


@pytest.mark.parametrize("name", ["../a.tar.gz", "/etc/passwd", ".hidden.tar.gz", "", "a\0.tar.gz"])
def test_a_name_is_a_name_and_never_a_path(service: StoreService, name: str) -> None:
    with pytest.raises(InvalidInput):
        service.restore(name)


def test_writers_and_readers_go_on_after_it(service: StoreService) -> None:
    name = service.create_backup().backup.name
    service.append(drafts(2, "lost"))

    restored = service.restore(name)

    assert (restored.events, restored.not_json, restored.staged, restored.source) == (5, 0, False, name)
    assert service.append(drafts(1, "after")).last_sequence == 6
    assert prefixes(service) == {"live": 5, "after": 1}
    assert service.status()["lastRestore"]["events"] == 5
    assert service.status()["status"] == "ok"
    assert not leftovers(service.settings.storage_dir)


def truncate(path: Path) -> None:
    os.truncate(make_archive(path), 400)


def flip_a_bit(path: Path) -> None:
    flip(make_archive(path), -700)


def write_text(path: Path) -> None:
    make_text_archive(path)


def touch(path: Path) -> None:
    path.touch()


def truncate_foreign(path: Path) -> None:
    os.truncate(make_foreign_archive(path), 300)


@pytest.mark.parametrize("spoil", [truncate, flip_a_bit, write_text, touch, truncate_foreign])
def test_a_bad_archive_is_refused_and_touches_nothing(service: StoreService, spoil: Callable[[Path], None]) -> None:
    bad = service.settings.backup_dir / "bad.tar.gz"
    spoil(bad)
    content = bad.read_bytes()
    generation = service.status()["store"]["generation"]

    with pytest.raises(ArchiveError) as caught:
        service.restore("bad.tar.gz")

    assert caught.value.hint
    assert prefixes(service) == {"live": 5}
    assert service.status()["store"]["generation"] == generation
    assert service.append(drafts(1, "after")).last_sequence == 6
    assert bad.read_bytes() == content
    assert not kept(service.settings)
    assert not leftovers(service.settings.storage_dir, service.settings.backup_dir)


def test_an_archive_of_a_database_in_a_later_format_is_refused(service: StoreService, tmp_path: Path) -> None:
    folder = tmp_path / "event_registry_db"
    make_database(folder)
    with closing(open_leveldb(folder)) as db:
        db.put(keys.META_SCHEMA, b"99")
    with tarfile.open(service.settings.backup_dir / "new.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="event_registry_db")

    with pytest.raises(ArchiveTooNew):
        service.restore("new.tar.gz")

    assert prefixes(service) == {"live": 5}


def test_a_plain_tar_of_our_database_with_a_flipped_bit_is_refused(service: StoreService, tmp_path: Path) -> None:
    """It has no checksums but those of LevelDB's blocks."""
    folder = tmp_path / "event_registry_db"
    make_database(folder, events=200)
    with closing(open_leveldb(folder)) as db:
        db.compact_range()
    for table in folder.glob("*.ldb"):
        flip(table, 200)
    with tarfile.open(service.settings.backup_dir / "plain.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="event_registry_db")

    with pytest.raises(ArchiveError, match=r"plain\.tar\.gz"):
        service.restore("plain.tar.gz")

    assert prefixes(service) == {"live": 5}


def test_two_at_once_are_one_and_a_conflict(service: StoreService) -> None:
    make_archive(service.settings.backup_dir / "a.tar.gz")
    make_archive(service.settings.backup_dir / "b.tar.gz", "other")
    with waiting_chore(service) as reached:
        thread = threading.Thread(target=service.restore, args=("a.tar.gz",))
        thread.start()
        assert reached.wait(60)
        with pytest.raises(RestoreRunning, match=r"a\.tar\.gz"):
            service.restore("b.tar.gz")
        assert service.append(drafts(1, "meanwhile")).last_sequence == 6
    thread.join(60)

    assert prefixes(service) == {"restored": 3}
    service.restore("b.tar.gz")
    assert prefixes(service) == {"other": 3}


def test_an_archive_is_not_removed_while_it_is_restored(service: StoreService) -> None:
    name = service.create_backup().backup.name
    service.create_backup()
    with waiting_chore(service) as reached:
        thread = threading.Thread(target=service.restore, args=(name,))
        thread.start()
        assert reached.wait(60)
        with pytest.raises(BackupProtected):
            service.delete_backup(name)
    thread.join(60)

    assert service.status()["lastRestore"]["source"] == name
    service.delete_backup(name)


def test_an_archive_that_goes_away_just_before_it_is_read_is_not_found(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = service.settings.backup_dir / "a.tar.gz"
    restore, run = service.restorer.restore, service.chores.run

    def late(wanted: Any, **more: Any) -> Any:
        path.unlink()
        return restore(wanted, **more)

    def later(name: str, **arguments: Any) -> dict[str, Any]:
        path.unlink()
        return run(name, **arguments)

    for where, change in ((service.restorer, ("restore", late)), (service.chores, ("run", later))):
        make_archive(path)
        with monkeypatch.context() as patched:
            patched.setattr(where, *change)
            with pytest.raises(BackupNotFound):
                service.restore("a.tar.gz")
    assert prefixes(service) == {"live": 5}
    assert not leftovers(service.settings.storage_dir)


def test_health_shows_the_restore_that_is_under_way(service: StoreService) -> None:
    make_archive(service.settings.backup_dir / "a.tar.gz")
    idle = service.status()["jobs"]["restore"]
    assert idle.pop("running") is False
    assert set(idle.values()) == {None}

    began = clock.now() // 1000 * 1000
    with waiting_chore(service) as reached:
        thread = threading.Thread(target=service.restore, args=("a.tar.gz",))
        thread.start()
        assert reached.wait(60)
        status = service.status()
    thread.join(60)

    running = status["jobs"]["restore"]
    assert (running["running"], running["source"]) == (True, "a.tar.gz")
    assert began <= clock.parse(running["since"]) <= clock.now()
    assert status["status"] == "ok"
    assert service.status()["jobs"]["restore"] == {"running": False, **idle}


def test_the_same_request_that_is_sent_again_is_answered_and_not_done_again(service: StoreService) -> None:
    make_archive(service.settings.backup_dir / "a.tar.gz")
    first = service.restore("a.tar.gz", operation=Operation("one"))
    service.append(drafts(1, "after"))

    assert service.restore("a.tar.gz", operation=Operation("one")) == first
    assert prefixes(service) == {"restored": 3, "after": 1}


def test_a_staged_one_waits_for_the_next_start_of_the_service(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(5))
        make_archive(settings.backup_dir / "a.tar.gz")
        assert service.restore("a.tar.gz", staged=True).staged
        assert service.append(drafts(1, "still")).last_sequence == 6
    with running_service(settings, service_starts=False) as service:
        assert prefixes(service) == {"live": 5, "still": 1}, "a store that takes over applies nothing"
    with running_service(settings) as service:
        assert prefixes(service) == {"restored": 3}
        service.append(drafts(1, "after"))
    with running_service(settings) as service:
        assert prefixes(service) == {"restored": 3, "after": 1}
        assert not leftovers(settings.storage_dir)


def test_of_two_staged_the_later_one_counts(settings: Settings) -> None:
    with running_service(settings) as service:
        make_archive(settings.backup_dir / "a.tar.gz", "first")
        make_archive(settings.backup_dir / "b.tar.gz", "second")
        service.restore("a.tar.gz", staged=True)
        service.restore("b.tar.gz", staged=True)
    with running_service(settings) as service:
        assert prefixes(service) == {"second": 3}
        assert not leftovers(settings.storage_dir)


def test_a_restore_that_is_applied_drops_one_that_was_staged(settings: Settings) -> None:
    with running_service(settings) as service:
        make_archive(settings.backup_dir / "a.tar.gz", "staged")
        make_archive(settings.backup_dir / "b.tar.gz", "applied")
        service.restore("a.tar.gz", staged=True)
        (note,) = service.restore("b.tar.gz").notes
        assert "a.tar.gz" in note
        assert service.status()["lastRestore"]["notes"] == [note]
        assert not leftovers(settings.storage_dir)
    with running_service(settings) as service:
        assert prefixes(service) == {"applied": 3}


def test_a_staged_one_is_shown_until_it_is_applied(settings: Settings) -> None:
    with running_service(settings) as service:
        make_archive(settings.backup_dir / "a.tar.gz")
        service.restore("a.tar.gz", staged=True)
    with running_service(settings, service_starts=False) as service:
        staged = service.status()["jobs"]["restore"]["staged"]
        assert (staged["source"], staged["events"]) == ("a.tar.gz", 3)
    with running_service(settings) as service:
        assert service.status()["jobs"]["restore"]["staged"] is None


def test_health_answers_whatever_lies_where_a_staged_one_would(service: StoreService) -> None:
    (service.settings.storage_dir / data_folders.STAGED_RESTORE).write_bytes(b"{")

    assert service.status()["jobs"]["restore"]["staged"] is None


def test_a_retry_of_a_start_does_not_apply_what_was_staged_meanwhile(
    settings_with: Callable[..., Settings], settings: Settings
) -> None:
    """The database is missing, so the start is tried every second; staged means the next start of the service."""
    with running_service(settings) as service:
        service.append(drafts(2))
        name = service.create_backup().backup.name
    settings.database.rename(settings.storage_dir / "away")

    with running_service(settings) as service:
        with pytest.raises(DatabaseMissing):
            service.append(drafts(1))
        service.restore(name, staged=True)
        service.lifecycle.try_to_open()
        service.lifecycle.try_to_open()
        assert service.state == "failed"
    with running_service(settings) as service:
        assert prefixes(service) == {"live": 2}


def test_what_was_there_is_kept_whole(service: StoreService) -> None:
    make_archive(service.settings.backup_dir / "a.tar.gz")
    service.restore("a.tar.gz")

    (previous,) = kept(service.settings)
    with opened(previous) as db:
        assert sum(1 for _ in db.iterator(prefix=b"e")) == 5


def test_a_previous_database_that_was_copied_back_by_hand_does_not_block_a_restore(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        make_archive(settings.backup_dir / "a.tar.gz")
        service.restore("a.tar.gz")
    (previous,) = kept(settings)
    settings.database.rename(settings.storage_dir / "not-wanted")
    shutil.copytree(previous, settings.database)

    with running_service(settings) as service:
        assert prefixes(service) == {"live": 2}
        service.restore("a.tar.gz")
        assert prefixes(service) == {"restored": 3}
    assert len(kept(settings)) == 2


def test_a_restore_without_room_leaves_everything_as_it_was(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(service.settings.backup_dir / "a.tar.gz")
    service.chores.run = lambda name, **arguments: getattr(prepare, name)(**arguments)  # type: ignore[method-assign]

    def full(*_: object, **__: object) -> None:
        raise NoSpace("unpacking failed", hint="free some")

    monkeypatch.setattr(prepare.reader, "unpack", full)
    with pytest.raises(NoSpace):
        service.restore("a.tar.gz")

    assert prefixes(service) == {"live": 5}
    assert not leftovers(service.settings.storage_dir)


def test_a_disk_error_in_the_child_process_is_said_and_not_a_missing_answer(service: StoreService) -> None:
    archive = make_archive(service.settings.backup_dir / "a.tar.gz")
    with pytest.raises(EventVaultError, match="No such file"):
        service.chores.run("prepare_restore", archive=str(archive) + "x", staging="/nowhere", replaces=None)


def spoil_log(database: Path) -> None:
    """Flip a bit in a record that good ones follow."""
    (log,) = database.glob("*.log")
    flip(log, log.stat().st_size // 3)


def spoil_manifest(database: Path) -> None:
    (manifest,) = database.glob("MANIFEST-*")
    flip(manifest, 20)


def lose_table(database: Path) -> None:
    with closing(open_leveldb(database)) as db:
        db.compact_range()
    next(iter(database.glob("*.ldb"))).unlink()


def lose_current(database: Path) -> None:
    (database / "CURRENT").write_bytes(b"MANIFEST-999999\n")


@pytest.mark.parametrize("spoil", [spoil_log, spoil_manifest, lose_table, lose_current])
def test_a_damaged_database_is_refused_restored_by_request_and_kept(
    settings: Settings, spoil: Callable[[Path], None]
) -> None:
    with running_service(settings) as service:
        for number in range(40):
            service.append(drafts(5, f"live{number}"))
        name = service.create_backup().backup.name
    spoil(settings.database)
    before = bytes_of(settings.database, NOT_OURS)

    with running_service(settings) as service:
        status = service.status()
        assert status["status"] == "degraded"
        (problem,) = status["problems"]
        assert problem["code"] == "database_damaged"
        assert "restore" in problem["hint"]
        with pytest.raises(DatabaseDamaged):
            service.append(drafts(1))
        with pytest.raises(DatabaseDamaged):
            service.create_backup()
        assert [entry.name for entry in service.list_backups()] == [name]
        assert bytes_of(settings.database, NOT_OURS) == before

        assert service.restore(name).events == 200

        assert service.append(drafts(1, "after")).last_sequence == 201
        assert service.status()["status"] == "ok"
    (previous,) = kept(settings)
    assert bytes_of(previous, NOT_OURS) == before


def test_a_flipped_bit_in_a_table_is_never_passed_on_as_data(settings: Settings) -> None:
    """LevelDB opens such a database, and by default reads on silently, with events changed or missing."""
    make_database(settings.database, "live", 300, data="x" * 50)
    with running_service(settings) as service:
        name = service.create_backup().backup.name
        everything = ids(service)
    with closing(open_leveldb(settings.database)) as db:
        db.compact_range()
    table = max(settings.database.glob("*.ldb"), key=lambda path: path.stat().st_size)
    whole = table.read_bytes()
    found = Counter(look_at_flipped(settings, table, whole, position) for position in range(60, len(whole), 800))

    assert set(found) <= {"whole", "refused"}
    assert found["refused"] > 5
    flip(table, 700)
    with running_service(settings) as service:
        with pytest.raises(DatabaseDamaged):
            ids(service)
        assert problem_codes(service) == ["database_damaged"]
        service.restore(name)
        assert ids(service) == everything
        assert service.status()["status"] == "ok"


def test_a_flipped_bit_in_the_footer_of_a_table_is_damage(settings: Settings) -> None:
    """The footer has no checksum: a wrong offset makes LevelDB read beyond the end of the table."""
    make_database(settings.database, "live", 300, data="x" * 50)
    with closing(open_leveldb(settings.database)) as db:
        db.compact_range()
    table = max(settings.database.glob("*.ldb"), key=lambda path: path.stat().st_size)
    whole = table.read_bytes()
    footer = len(whole) - 48
    found = {look_at_flipped(settings, table, whole, footer + byte) for byte in range(8)}

    assert found == {"whole", "refused"}, "the place of the filter is not read, that of the index is"


def look_at_flipped(settings: Settings, table: Path, whole: bytes, position: int) -> str:
    table.write_bytes(whole)
    flip(table, position)
    try:
        with running_service(settings) as service:
            found = service.scan(ScanQuery(limit=1000)).events
    except DatabaseDamaged:
        return "refused"
    finally:
        table.write_bytes(whole)
    good = all(b"x" * 50 in value for value in found) and len(found) == 300
    return "whole" if good else "changed"


def test_a_damaged_database_is_replaced_by_what_lies_in_restore(settings: Settings) -> None:
    with running_service(settings) as service:
        for number in range(40):
            service.append(drafts(5, f"live{number}"))
    spoil_log(settings.database)
    before = bytes_of(settings.database, NOT_OURS)
    make_archive(settings.restore_dir / "a.tar.gz")

    with running_service(settings) as service:
        assert prefixes(service) == {"restored": 3}
        assert service.status()["status"] == "ok"
    (previous,) = kept(settings)
    assert bytes_of(previous, NOT_OURS) == before


def test_a_torn_tail_is_no_damage_and_the_journal_has_its_event(settings: Settings) -> None:
    with running_service(settings) as service:
        for number in range(20):
            service.append(drafts(1, f"live{number}"))
    (log,) = settings.database.glob("*.log")
    os.truncate(log, log.stat().st_size - 3)

    with running_service(settings) as service:
        assert service.status()["status"] == "ok"
        assert service.status()["store"]["events"] == 20


def test_a_database_of_a_later_format_is_refused_and_left_alone(settings: Settings) -> None:
    make_database(settings.database)
    with closing(open_leveldb(settings.database)) as db:
        db.put(keys.META_SCHEMA, b"99")

    with running_service(settings) as service:
        assert problem_codes(service) == ["database_too_new"]
        with pytest.raises(EventVaultError):
            service.append(drafts(1))
    with opened(settings.database) as db:
        assert db.get(keys.META_SCHEMA) == b"99"


def test_a_stale_lock_is_harmless(settings: Settings) -> None:
    make_database(settings.database)
    (settings.database / "LOCK").write_bytes(b"left over")

    with running_service(settings) as service:
        assert service.append(drafts(1)).last_sequence == 4


def test_a_restore_of_a_database_that_another_process_holds_names_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_SECONDS", 0.2)
    make_database(settings.database)
    settings.backup_dir.mkdir(parents=True)
    make_archive(settings.backup_dir / "a.tar.gz", "other")
    make_database(settings.storage_dir / "previous-0123456789abcdef")
    program = "import plyvel, sys; db = plyvel.DB(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, settings.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with running_service(settings) as service:
            (problem,) = service.status()["problems"]
            assert problem["code"] == "database_locked"
            assert str(holder.pid) in problem["message"]
            for attempt in (
                lambda: service.append(drafts(1)),
                lambda: service.restore("a.tar.gz"),
                lambda: service.undo("previous-0123456789abcdef"),
            ):
                with pytest.raises(DatabaseLocked, match=str(holder.pid)):
                    attempt()
            assert (settings.database / "LOCK").exists()
            holder.communicate(b"")
            processes.wait_until(lambda: service.state == "serving", "it does not go on by itself")
            assert prefixes(service) == {"restored": 3}
            assert service.status()["status"] == "ok"


def test_a_disk_without_room_for_the_archive_is_said_with_the_bytes_before_anything_begins(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = service.create_backup().backup.name
    before = ids(service)
    monkeypatch.setattr(space, "free_bytes", lambda _: 10)
    service.chores.cancel()  # nothing is begun

    with pytest.raises(NoSpace) as caught:
        service.restore(name)

    assert caught.value.details["needed"] > caught.value.details["free"] == 10
    assert ids(service) == before


def test_a_disk_that_fills_up_while_a_foreign_archive_is_unpacked_is_said_with_the_bytes(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_foreign_archive(service.settings.backup_dir / "node.tar.gz")

    def full(*_: object, **__: object) -> dict[str, Any]:
        raise NoSpace("unpacking failed", hint="free some")

    monkeypatch.setattr(service.chores, "run", full)
    with pytest.raises(NoSpace, match="unpacking failed") as caught:
        service.restore("node.tar.gz")

    assert caught.value.details["needed"] > 0
    assert caught.value.details["free"] > 0


@pytest.mark.parametrize("staged", [False, True])
def test_restores_of_archives_teach_how_long_a_restore_takes(service: StoreService, *, staged: bool) -> None:
    backup = service.create_backup().backup

    service.restore(backup.name, staged=staged, operation=Operation("one"))
    service.restore(backup.name, operation=Operation("one"))

    assert [took.size for took in estimate.read_durations(service.settings.storage_dir)] == [backup.size] * (
        2 if staged else 1
    )


def test_a_restore_whose_preparation_is_gone_fails_and_changes_nothing(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.append(drafts(2))
    name = service.create_backup().backup.name
    service.append(drafts(1, "more"))
    before = ids(service)
    build = service.restorer.builder.build

    def losing(*arguments: Any, **more: Any) -> Any:
        intent = build(*arguments, **more)
        shutil.rmtree((service.settings.storage_dir / intent.new_database).parent)
        return intent

    monkeypatch.setattr(service.restorer.builder, "build", losing)
    with pytest.raises(EventVaultError, match="is gone before it was used"):
        service.restore(name)

    assert ids(service) == before
    assert service.list_undo() == []
    assert service.status()["lastRestore"] is None
