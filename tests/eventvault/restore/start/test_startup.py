"""The start of a store: with a lost database, with a foreign one, and after another start."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventvault.archive.source import open_archive
from eventvault.chores import Chores
from eventvault.errors import ArchiveDamaged, DatabaseMissing, EventVaultError
from eventvault.restore.builder import Builder
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
    make_foreign_archive,
    make_foreign_database,
    opened,
    prefixes,
    problem_codes,
)
from tests.stores import running_service

pytestmark = pytest.mark.slow

NODE = Path(__file__).resolve().parents[3] / "fixtures" / "node"


@pytest.fixture
def lost(settings: Settings) -> list[str]:
    """An installation with two backups whose storage/ is lost; the names of the backups, oldest first."""
    with running_service(settings) as service:
        service.append(drafts(2))
        names = [service.create_backup().backup.name]
        service.append(drafts(1, "newer"))
        names.append(service.create_backup().backup.name)
    shutil.rmtree(settings.storage_dir)
    return names


def test_a_lost_database_is_not_taken_for_an_empty_one(settings: Settings, lost: list[str]) -> None:
    with running_service(settings) as service:
        status = service.status()
        (problem,) = status["problems"]
        assert (status["status"], problem["code"]) == ("degraded", "database_missing")
        assert "AUTO_RECOVER" in problem["hint"]
        for attempt in (lambda: service.append(drafts(1)), lambda: ids(service), service.create_backup):
            with pytest.raises(DatabaseMissing):
                attempt()
        assert [entry.name for entry in service.list_backups()] == lost[::-1]
        assert not settings.database.exists()

        service.restore(lost[0])

        assert prefixes(service) == {"live": 2}
        assert service.status()["status"] == "ok"


def test_a_lost_database_that_was_restored_by_request_has_had_its_start(settings: Settings, lost: list[str]) -> None:
    """A store that takes over later must not restore what was put into restore/ meanwhile."""
    started: list[bool] = []
    service = StoreService(
        settings, service_starts=True, on_started=lambda: started.append(True), with_kafka=False, health_shared=0.0
    )
    service.initialize()
    try:
        assert not started
        service.restore(lost[0])
        assert started
    finally:
        service.stop()
        service.bus.close()


def test_auto_recover_restores_the_newest(
    settings_with: Callable[..., Settings], settings: Settings, lost: list[str]
) -> None:
    with running_service(settings_with({"AUTO_RECOVER": "true"})) as service:
        assert prefixes(service) == {"live": 2, "newer": 1}
        assert service.status()["lastRestore"]["source"] == lost[1]
        assert service.append(drafts(1, "after")).last_sequence == 4


def test_auto_recover_restores_the_newest_good_one(
    settings_with: Callable[..., Settings], settings: Settings, lost: list[str]
) -> None:
    flip(settings.backup_dir / lost[1], 900)
    shutil.rmtree(settings.backup_dir / "journal")

    with running_service(settings_with({"AUTO_RECOVER": "true"})) as service:
        assert problem_codes(service)[:1] == ["database_missing"]
        assert lost[1] in service.status()["problems"][0]["message"]
        service.accept_problem("recovery_incomplete")
        processes.wait_until(lambda: service.state == "serving", "the accepted recovery is not done")
        assert prefixes(service) == {"live": 2}
        assert problem_codes(service) == []


def test_auto_recover_without_a_good_one_refuses(
    settings_with: Callable[..., Settings], settings: Settings, lost: list[str]
) -> None:
    for name in lost:
        flip(settings.backup_dir / name, 900)
    shutil.rmtree(settings.backup_dir / "journal")

    with running_service(settings_with({"AUTO_RECOVER": "true"})) as service:
        assert problem_codes(service)[:1] == ["database_missing"]
        with pytest.raises(DatabaseMissing):
            service.append(drafts(1))
    assert not settings.database.exists()


def cut_off(settings: Settings) -> list[bytes]:
    """Truncate all archives; returns their content."""
    paths = sorted(settings.backup_dir.glob("*.tar.gz"))
    whole = [path.read_bytes() for path in paths]
    for path, content in zip(paths, whole, strict=True):
        path.write_bytes(content[:-100])
    return whole


@pytest.mark.parametrize(
    "forgotten", [(), (".catalogue.json",), (".catalogue.json", ".installation", ".installation.json")]
)
@pytest.mark.parametrize("recover", ["false", "true"])
def test_archives_of_ours_that_lost_their_ends_still_say_that_a_database_was_lost(
    settings_with: Callable[..., Settings],
    settings: Settings,
    lost: list[str],
    recover: str,
    forgotten: tuple[str, ...],
) -> None:
    shutil.rmtree(settings.backup_dir / "journal")
    cut_off(settings)
    for name in forgotten:
        (settings.backup_dir / name).unlink()

    with running_service(settings_with({"AUTO_RECOVER": recover})) as service:
        assert "database_missing" in problem_codes(service)
        assert not settings.database.exists()


def test_an_archive_of_another_installation_that_lost_its_end_says_nothing_of_ours(settings: Settings) -> None:
    settings.backup_dir.mkdir(parents=True, exist_ok=True)
    make_archive(settings.backup_dir / "other.tar.gz")
    with running_service(settings) as service:
        assert service.status()["status"] == "ok"
    shutil.rmtree(settings.storage_dir)
    cut_off(settings)

    with running_service(settings) as service:
        assert service.status()["status"] == "ok"


def test_auto_recover_empty_starts_anew(settings_with: Callable[..., Settings], lost: list[str]) -> None:
    with running_service(settings_with({"AUTO_RECOVER": "empty"})) as service:
        assert ids(service) == []
        assert service.append(drafts(1)).last_sequence == 1
        assert [entry.name for entry in service.list_backups()] == lost[::-1]


def test_only_the_database_is_gone_and_it_is_lost_all_the_same(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        service.create_backup()
    shutil.rmtree(settings.database)
    settings.database.mkdir()

    with running_service(settings) as service:
        assert problem_codes(service) == ["database_missing"]


def test_it_is_lost_also_where_backups_was_made_anew_meanwhile(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        settings.backup_dir.rename(settings.backup_dir.with_name("deleted"))
        service.accept_problem("backups_changed")
        service.create_backup()
    shutil.rmtree(settings.storage_dir)

    with running_service(settings) as service:
        assert problem_codes(service) == ["database_missing"]


def test_archives_of_others_count_for_nothing(settings: Settings) -> None:
    settings.backup_dir.mkdir(parents=True)
    make_archive(settings.backup_dir / "backup_2024-12-27_120000.tar.gz")
    make_foreign_archive(settings.backup_dir / "backup_2024-12-28_120000.tar.gz")

    with running_service(settings) as service:
        assert ids(service) == []
        assert service.status()["status"] == "ok"


def test_what_lies_in_restore_brings_a_lost_database_back(settings: Settings, lost: list[str]) -> None:
    settings.restore_dir.mkdir(exist_ok=True)
    shutil.copy(settings.backup_dir / lost[0], settings.restore_dir / "a.tar.gz")

    with running_service(settings) as service:
        assert prefixes(service) == {"live": 2}
        assert service.status()["status"] == "ok"


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE, errno.EACCES])
def test_an_older_archive_in_restore_does_not_replace_a_newest_one_that_cannot_be_read(
    settings: Settings, lost: list[str], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(settings.restore_dir / "old.tar.gz", "old", created="2020-01-01T00:00:00.000Z")
    make_archive(settings.restore_dir / "new.tar.gz", "new", created="2021-01-01T00:00:00.000Z")
    run = Chores.run

    @contextmanager
    def failure_of(call: str, number: int) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
            yield

    def failing(chores: Chores, name: str, **arguments: Any) -> Any:
        if name == "prepare_restore" and arguments["archive"].endswith("new.tar.gz"):
            with open_archive(settings.restore_dir / "new.tar.gz") as archive, failure_of("pread", number):
                archive.read_at(0, 1)
        return run(chores, name, **arguments)

    with monkeypatch.context() as failure:
        failure.setattr(Chores, "run", failing)
        with running_service(settings) as service:
            assert service.status()["store"]["state"] == "failed"  # it is lost, and is not replaced
            assert "new.tar.gz was not restored" in str(service.status()["problems"])
    with running_service(settings) as service:
        assert prefixes(service) == {"new": 3}
        assert service.status()["status"] == "ok" or "skipped" in str(service.status()["problems"])


@pytest.fixture
def in_place(settings: Settings) -> Path:
    """The Node.js fixture's database, extracted into storage/; its folder."""
    settings.storage_dir.mkdir(parents=True)
    with tarfile.open(NODE / "in_its_folder.tar.gz") as archive:
        archive.extractall(settings.storage_dir, filter="data")
    return settings.database


def records() -> int:
    return len(orjson.loads((NODE / "expected.json").read_bytes()))


def test_a_node_js_database_in_place_is_archived_imported_and_swapped(settings: Settings, in_place: Path) -> None:
    before = bytes_of(in_place)

    with running_service(settings) as service:
        status = service.status()
        assert (status["status"], status["problems"]) == ("ok", [])
        assert status["store"]["events"] == status["lastRestore"]["events"] == records()
        assert status["lastRestore"]["notJson"] > 0
        (entry,) = service.list_backups()
        assert service.append(drafts(1, "after")).last_sequence == records() + 1
    (kept,) = settings.storage_dir.glob("previous-*")
    assert bytes_of(kept) == before, "it was written to"
    assert archived(Path(entry.path)) == {name: before[name] for name in archived(Path(entry.path))}
    assert {"CURRENT"} < set(archived(Path(entry.path)))
    assert not leftovers(settings.storage_dir, settings.backup_dir)


def archived(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        return {Path(member.name).name: archive.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def test_it_is_taken_over_once(settings: Settings, in_place: Path) -> None:
    with running_service(settings) as service:
        service.append(drafts(1, "after"))
    with running_service(settings) as service:
        assert service.status()["store"]["events"] == records() + 1
        assert len(service.list_backups()) == 1


def test_its_archive_alone_brings_it_all_back(settings: Settings, in_place: Path, tmp_path: Path) -> None:
    with running_service(settings) as service:
        (entry,) = service.list_backups()
        everything = ids(service)
        service.append(drafts(1, "after"))
        service.restore(entry.name)
        assert ids(service) == everything


def test_it_is_archived_also_where_an_archive_in_restore_takes_its_place(settings: Settings, in_place: Path) -> None:
    """The previous database is removed after the next good backup; only the archive stays."""
    settings.restore_dir.mkdir(parents=True)
    make_archive(settings.restore_dir / "a.tar.gz")
    before = bytes_of(in_place)

    with running_service(settings) as service:
        assert prefixes(service) == {"restored": 3}
        (entry,) = service.list_backups()
    found = archived(Path(entry.path))
    assert found == {name: before[name] for name in found}


def test_one_that_is_held_is_refused_and_names_the_process(settings: Settings) -> None:
    make_foreign_database(settings.database)
    program = "import plyvel, sys; db = plyvel.DB(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, settings.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        before = bytes_of(settings.database)
        with running_service(settings) as service:
            (problem,) = service.status()["problems"]
            assert problem["code"] == "database_locked"
            assert str(holder.pid) in problem["message"]
            with pytest.raises(EventVaultError):
                service.append(drafts(1))
            assert bytes_of(settings.database) == before
            assert service.list_backups() == []
            holder.communicate(b"")
            processes.wait_until(lambda: service.state == "serving", "it does not go on by itself")
            assert prefixes(service) == {"foreign": 3}


def test_one_that_cannot_be_imported_stays_and_its_archives_do_not_pile_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_foreign_database(settings.database)
    before = bytes_of(settings.database)

    def refuse(*_: object, **__: object) -> Any:
        raise ArchiveDamaged("a record is damaged", hint="x")

    with monkeypatch.context() as patched:
        patched.setattr(Builder, "build", refuse)
        with running_service(settings) as service:
            assert problem_codes(service) == ["database_damaged"]
            for _ in range(3):
                service.lifecycle.try_to_open()
            assert service.list_backups() == []
            assert bytes_of(settings.database) == before
    with running_service(settings) as service:
        assert prefixes(service) == {"foreign": 3}


def test_a_damaged_foreign_database_stays_and_is_not_taken_for_an_empty_one(settings: Settings) -> None:
    make_foreign_database(settings.database, records=500)
    (log,) = settings.database.glob("*.log")
    whole = log.read_bytes()
    flip(log, len(whole) // 2)
    before = bytes_of(settings.database)

    with running_service(settings) as service:
        assert problem_codes(service) == ["database_damaged"]
        with pytest.raises(EventVaultError):
            service.append(drafts(1))
    assert bytes_of(settings.database) == before

    log.write_bytes(whole)
    with running_service(settings) as service:
        assert prefixes(service) == {"foreign": 500}


@pytest.mark.parametrize("lost", ["CURRENT", "MANIFEST-000004", "000005.ldb"])
def test_a_foreign_database_that_lost_a_file_is_left_as_it_is_and_taken_over_once_repaired(
    lost: str, settings: Settings
) -> None:
    make_foreign_database(settings.database, records=500)
    make_foreign_database(settings.database, records=500)
    whole = (settings.database / lost).read_bytes()
    (settings.database / lost).unlink()
    before = bytes_of(settings.database)

    with running_service(settings) as service:
        assert problem_codes(service) == ["database_damaged"]
    assert bytes_of(settings.database) == before

    (settings.database / lost).write_bytes(whole)
    with running_service(settings) as service:
        assert prefixes(service) == {"foreign": 500}


def test_our_database_that_was_extracted_by_hand_is_simply_opened(settings: Settings, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz")
    settings.storage_dir.mkdir(parents=True)
    subprocess.run(["tar", "xzf", archive, "-C", settings.storage_dir, "event_registry_db"], check=True)

    with running_service(settings) as service:
        assert prefixes(service) == {"restored": 3}
        assert service.list_backups() == []


def test_a_backup_folder_that_is_no_folder_degrades_health_and_nothing_else(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
    shutil.rmtree(settings.backup_dir)
    settings.backup_dir.write_text("in the way")

    with running_service(settings) as service:
        assert service.status()["status"] == "degraded"
        assert service.append(drafts(1, "goes-on")).last_sequence == 3
        settings.backup_dir.unlink()
        service.accept_problem("backups_changed")
        assert service.create_backup().backup.events == 3
        assert service.status()["status"] == "ok"


def test_a_start_makes_the_folders_and_an_empty_registry(settings: Settings) -> None:
    with running_service(settings) as service:
        assert service.status()["store"]["events"] == 0
        assert service.status()["status"] == "ok"
    assert settings.restore_dir.is_dir()
    with opened(settings.database):
        pass


def test_an_archive_without_events_is_not_recovered_where_a_newer_one_had_some(
    settings_with: Callable[..., Settings], settings: Settings
) -> None:
    with running_service(settings) as service:
        service.create_backup()
        service.append(drafts(2))
        damaged = Path(service.create_backup().backup.path)
    shutil.rmtree(settings.storage_dir)
    shutil.rmtree(settings.backup_dir / "journal")
    flip(damaged, 900)

    with running_service(settings_with({"AUTO_RECOVER": "true"})) as service:
        assert problem_codes(service) == ["database_missing"]
