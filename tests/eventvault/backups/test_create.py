"""Backups of a registry that is in use: their content, their names, and which requests wait."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventvault import clock
from eventvault.archive import reader
from eventvault.backups import create
from eventvault.errors import (
    ArchiveDamaged,
    BackupNotFound,
    BackupsChanged,
    BackupsUnavailable,
    EventVaultError,
    NoSpace,
)
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.mounts import read_only
from tests.restoring import (
    drafts,
    flip,
    leftovers,
    make_archive,
    make_foreign_archive,
    make_text_archive,
    opened,
    prefixes,
    problem_codes,
    put_in_the_way,
)
from tests.stores import running_service

pytestmark = pytest.mark.slow

NAME = re.compile(r"backup_\d{4}-\d\d-\d\d_\d{6}(_[a-z0-9-]{1,60})?(_\d+)?\.tar\.gz")


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        service.append(drafts(5))
        yield service


@pytest.fixture
def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> int:
    """All backups are made at the same time."""
    instant = clock.parse("2026-01-31T12:34:56.789Z")
    monkeypatch.setattr(clock, "now", lambda: instant)
    return instant


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except EventVaultError as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


@contextmanager
def stopped_chore(service: StoreService, *names: str) -> Iterator[threading.Event]:
    """Make a chore wait before it begins until the context ends; the event is set when it waits."""
    reached, go_on = threading.Event(), threading.Event()
    run = service.chores.run

    def slow(name: str, **arguments: Any) -> dict[str, Any]:
        if not names or name in names:
            reached.set()
            assert go_on.wait(60)
        return run(name, **arguments)

    service.chores.run = slow  # type: ignore[method-assign]
    try:
        yield reached
    finally:
        go_on.set()
        service.chores.run = run  # type: ignore[method-assign]


def test_the_digest_is_the_archives_root(service: StoreService) -> None:
    backup = service.create_backup("x").backup

    assert backup.digest == reader.verify(Path(backup.path)).digest
    assert backup.sha256 is None
    assert backup.size == Path(backup.path).stat().st_size
    assert backup.verified is not None


def test_any_tar_extracts_it_and_plyvel_alone_opens_it(service: StoreService, tmp_path: Path) -> None:
    backup = service.create_backup().backup
    subprocess.run(["tar", "xzf", backup.path, "-C", tmp_path], check=True)

    with opened(tmp_path / "event_registry_db") as db:
        events = [orjson.loads(value) for value in db.iterator(prefix=b"e", include_key=False)]

    assert [found["id"] for found in events] == [f"live-{number}" for number in range(5)]
    assert orjson.loads((tmp_path / "manifest.json").read_bytes())["events"] == 5


@pytest.mark.slow
def test_what_it_says_of_itself_is_exact_under_load(service: StoreService, tmp_path: Path) -> None:
    done = threading.Event()
    acknowledged = [5]

    def write() -> None:
        number = 0
        while not done.is_set():
            acknowledged.append(service.append(drafts(7, f"load{number}")).last_sequence)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            before = acknowledged[-1]
            backup = service.create_backup().backup
            folder = tmp_path / str(number)
            folder.mkdir()
            subprocess.run(["tar", "xzf", backup.path, "-C", folder], check=True)
            with opened(folder / "event_registry_db") as db:
                found = [orjson.loads(value)["sequence"] for value in db.iterator(prefix=b"e", include_key=False)]
            assert found == list(range(1, len(found) + 1))
            assert backup.events == backup.sequence == len(found) >= before
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize(
    ("label", "slug"),
    [
        ("manual-backup", "_manual-backup"),
        ("Vor dem Umzug — Größe & Café", "_vor-dem-umzug-groe-cafe"),
        ("../../etc/passwd", "_etc-passwd"),
        ("備份", ""),
        ("---", ""),
        ("x" * 200, "_" + "x" * 60),
        ("😀 done\n", "_done"),
        (None, ""),
    ],
)  # fmt: skip
def test_a_label_is_kept_as_given_and_its_slug_is_in_the_name(
    service: StoreService, frozen_clock: int, label: str | None, slug: str
) -> None:
    backup = service.create_backup(label).backup

    assert backup.label == label
    assert backup.name == f"backup_2026-01-31_123456{slug}.tar.gz"
    assert NAME.fullmatch(backup.name)
    assert backup.created == frozen_clock
    assert service.list_backups()[0].label == label


def test_two_in_one_second_have_two_names(service: StoreService, frozen_clock: int) -> None:
    names = [service.create_backup("same").backup.name for _ in range(3)]

    assert names == [f"backup_2026-01-31_123456_same{number}.tar.gz" for number in ("", "_2", "_3")]
    assert len(service.list_backups()) == 3


def test_the_newest_is_the_first_in_the_list(service: StoreService) -> None:
    made = [service.create_backup(label).backup.name for label in ("z", "a", "m")]

    assert [entry.name for entry in service.list_backups()] == made[::-1]


def test_a_second_request_with_the_same_label_joins_one_that_waits(service: StoreService) -> None:
    with stopped_chore(service, "write_archive") as reached:
        first = in_thread(lambda: service.create_backup("same"))
        assert reached.wait(60)
        second = in_thread(lambda: service.create_backup("same"))
        processes.wait_until(lambda: len(service.backups.requests._waiting) == 1, "the second waits")
        others = [in_thread(lambda label=label: service.create_backup(label)) for label in ("same", "same", "other")]
        processes.wait_until(lambda: len(service.backups.requests._waiting) == 2, "the other waits")
        service.append(drafts(1, "meanwhile"))
    made = []
    for thread, results in (first, second, *others):
        thread.join(60)
        made.append(results[0].backup)

    assert made[0].name != made[1].name, "the checkpoint of the first was taken: the second must not join it"
    assert (made[0].events, made[1].events) == (5, 6)
    assert made[1].name == made[2].name == made[3].name
    assert made[4].name not in (made[0].name, made[1].name)
    assert len(service.list_backups()) == 3


def test_a_failed_backup_fails_for_all_who_joined_it_and_the_next_one_works(service: StoreService) -> None:
    run = service.chores.run

    def full(name: str, **arguments: Any) -> dict[str, Any]:
        raise NoSpace("full", hint="free some")

    service.chores.run = full  # type: ignore[method-assign]
    with pytest.raises(NoSpace):
        service.create_backup()
    service.chores.run = run  # type: ignore[method-assign]

    assert service.create_backup().backup.events == 5
    assert service.backups.counts["failed"] == 1


def test_a_backup_and_a_restore_at_the_same_time_both_end(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap begins between the start of a checkpoint and the pause of the writes."""
    name = service.create_backup().backup.name
    in_checkpoint, swapping = threading.Event(), threading.Event()
    take_checkpoint, swap = create.take_checkpoint, service.bus.swapping

    def slow(database: Path, staging: Path, hold: Any, **more: Any) -> Any:
        in_checkpoint.set()
        swapping.wait(60)
        time.sleep(0.3)  # the swap takes its locks
        return take_checkpoint(database, staging, hold, **more)

    def noting() -> AbstractContextManager[Any]:
        swapping.set()
        return swap()

    monkeypatch.setattr(create, "take_checkpoint", slow)
    monkeypatch.setattr(service.bus, "swapping", noting)
    backup, made = in_thread(lambda: service.create_backup("meanwhile"))
    assert in_checkpoint.wait(60)
    restore, restored = in_thread(lambda: service.restore(name))
    backup.join(90)
    restore.join(90)

    assert made, "the backup hangs"
    assert restored, "the restore hangs"
    assert made[0].backup.events == 5
    assert restored[0].events == 5
    assert service.append(drafts(1, "after")).last_sequence == 6


def test_a_database_that_is_opened_again_meanwhile_does_not_disturb_a_backup(service: StoreService) -> None:
    with stopped_chore(service, "write_archive") as reached:
        thread, made = in_thread(lambda: service.create_backup())
        assert reached.wait(60)
        service.bus.reopen()
        service.append(drafts(1, "after"))
    thread.join(60)

    assert made[0].backup.events == 5


def test_what_a_restore_left_while_the_backup_was_made_is_kept(service: StoreService) -> None:
    """The backup's checkpoint is older than the swap, so it lacks the events appended in between."""
    first = service.create_backup().backup.name
    service.past._started_at = time.monotonic() - 3600  # readers of before had their time
    with stopped_chore(service, "write_archive") as reached:
        thread, made = in_thread(lambda: service.create_backup("older"))
        assert reached.wait(60)
        service.append(drafts(1, "only-in-the-previous"))
        generation = service.status()["store"]["generation"]
        service.restore(first)
    thread.join(60)

    assert made
    assert service.previous.folder(generation).is_dir()


@pytest.mark.parametrize("most", [0, 1, 3])
def test_what_restores_left_beyond_the_newest_ones_goes_with_the_next_good_backup(
    settings_with: Callable[..., Settings], most: int
) -> None:
    with running_service(settings_with({"KEEP_UNDO": str(most)})) as service:
        first = service.create_backup().backup.name
        left = []
        for number in range(5):
            service.append(drafts(1, f"left-{number}"))
            undo = service.restore(first).undo
            assert undo is not None
            left.append(undo.name)
        service.past._started_at = time.monotonic() - 3600  # readers of before had their time
        assert service.previous.names() == sorted(left), "nothing goes before there is a backup"

        service.create_backup()

        assert service.previous.names() == sorted(left[5 - most :])


def test_what_a_reader_may_still_hold_goes_later_by_itself(settings_with: Callable[..., Settings]) -> None:
    with running_service(settings_with({"KEEP_UNDO": "0"})) as service:
        hold_and_let_go(service)


def hold_and_let_go(service: StoreService) -> None:
    first = service.create_backup().backup.name
    service.restore(first)
    (kept,) = service.previous.names()
    generation = kept.removeprefix("previous-")
    service.past._started_at = time.monotonic() - 3600
    with service.lease_generation(generation):
        service.create_backup()
        assert (service.settings.storage_dir / kept).is_dir()
    service.past._last_used[generation] = time.monotonic() - 3600

    processes.wait_until(lambda: not (service.settings.storage_dir / kept).exists(), "it is still there")


def test_an_archive_that_is_copied_in_is_listed_and_restored(service: StoreService, settings: Settings) -> None:
    make_archive(settings.backup_dir / "from-a-friend.tar.gz", "friend", label="theirs")

    (entry,) = service.list_backups()
    assert (entry.name, entry.origin, entry.events, entry.label) == ("from-a-friend.tar.gz", "found", 3, "theirs")
    service.restore(entry.name)

    assert prefixes(service) == {"friend": 3}
    assert (settings.backup_dir / "from-a-friend.tar.gz").exists()


def test_a_foreign_archive_is_listed_with_unknown_values_and_restored(
    service: StoreService, settings: Settings
) -> None:
    make_foreign_archive(settings.backup_dir / "backup_2024-12-27_120000.tar.gz")

    (entry,) = service.list_backups()
    assert entry.created == clock.parse("2024-12-27T12:00:00Z")
    assert (entry.events, entry.sequence, entry.generation, entry.verified, entry.label) == (None,) * 5
    assert entry.problem is None
    assert service.backup_manifest(entry.name) == {}
    assert service.restore(entry.name).events == 3

    assert prefixes(service) == {"foreign": 3}


def test_an_archive_that_is_deleted_by_hand_is_gone_from_the_list(service: StoreService) -> None:
    entry = service.create_backup().backup
    Path(entry.path).unlink()

    assert service.list_backups() == []
    assert service.status()["backup"]["count"] == 0
    with pytest.raises(BackupNotFound):
        service.restore(entry.name)


def test_a_backup_folder_that_is_deleted_comes_back_with_the_next_backup_once_that_is_accepted(
    service: StoreService, settings: Settings
) -> None:
    service.create_backup()
    settings.backup_dir.rename(settings.backup_dir.with_name("deleted"))

    status = service.status()
    assert status["status"] == "degraded"
    assert status["backup"]["available"] is False
    service.append(drafts(1, "goes-on"))
    with pytest.raises(BackupsChanged):
        service.create_backup()
    service.accept_problem("backups_changed")
    backup = service.create_backup().backup

    assert [entry.name for entry in service.list_backups()] == [backup.name]
    assert (settings.backup_dir / ".installation").read_text() == service.catalogue.installation
    assert service.status()["status"] == "ok"


def test_a_backup_into_what_is_no_folder_fails_and_the_service_goes_on(
    service: StoreService, settings: Settings
) -> None:
    put_in_the_way(settings.backup_dir)

    with pytest.raises(BackupsUnavailable) as caught:
        service.create_backup()

    assert caught.value.hint
    assert service.append(drafts(1, "goes-on")).last_sequence == 6
    assert not leftovers(settings.storage_dir)
    settings.backup_dir.unlink()
    processes.wait_until(lambda: "backups_changed" in problem_codes(service), "the folder is not missed")
    service.accept_problem("backups_changed")
    assert service.create_backup().backup.events == 6


@pytest.mark.root
def test_a_backup_into_a_read_only_folder_fails_and_the_service_goes_on(
    service: StoreService, settings: Settings
) -> None:
    first = service.create_backup().backup.name
    with read_only(settings.backup_dir):
        with pytest.raises(BackupsUnavailable):
            service.create_backup()
        assert [entry.name for entry in service.list_backups()] == [first]
        assert service.append(drafts(1, "goes-on")).last_sequence == 6
        assert service.restore(first).events == 5

    assert service.create_backup().backup.events == 5
    assert not leftovers(settings.backup_dir, settings.storage_dir)


def test_an_archive_that_does_not_read_back_is_no_backup(
    service: StoreService, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventvault.backups import chores

    fsync = os.fsync

    def and_flip(handle: int) -> None:
        fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if ".tar.gz." in path.name:
            flip(path, path.stat().st_size // 2)

    monkeypatch.setattr(os, "fsync", and_flip)
    service.chores.run = lambda name, **arguments: getattr(chores, name)(**arguments)  # type: ignore[method-assign]
    with pytest.raises(ArchiveDamaged):
        service.create_backup()

    assert service.list_backups() == []
    assert not leftovers(settings.backup_dir, settings.storage_dir)


def test_a_backup_that_cannot_be_entered_in_the_catalogue_is_not_left(
    service: StoreService, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> Any:
        raise NoSpace("full", hint="free some")

    monkeypatch.setattr(service.catalogue, "record_created", full)
    with pytest.raises(NoSpace):
        service.create_backup()

    assert not list(settings.backup_dir.glob("*.tar.gz"))


def test_the_archive_just_made_is_not_rotated_away_when_the_clock_was_ahead(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings_with({"MAX_BACKUPS": "1"})) as service:
        service.append(drafts(1))
        now = clock.now
        monkeypatch.setattr(clock, "now", lambda: now() + 10**12)
        service.create_backup()
        monkeypatch.setattr(clock, "now", now)
        made = service.create_backup().backup.name

        assert made in [entry.name for entry in service.list_backups()]


def test_alien_files_in_the_backup_folder_harm_nothing(service: StoreService, settings: Settings) -> None:
    make_text_archive(settings.backup_dir / "text.tar.gz")
    (settings.backup_dir / "zeros.tar.gz").write_bytes(bytes(100))
    (settings.backup_dir / "notes.txt").write_text("hello")
    (settings.backup_dir / "folder.tar.gz").mkdir()

    names = {entry.name for entry in service.list_backups()}

    assert names == {"text.tar.gz", "zeros.tar.gz"}
    assert service.status()["status"] == "ok"
    for name in names:
        with pytest.raises(EventVaultError):
            service.restore(name)
    assert prefixes(service) == {"live": 5}


def test_what_a_killed_process_left_half_written_is_removed_by_the_next_store(settings: Settings) -> None:
    settings.backup_dir.mkdir(parents=True)
    half = settings.backup_dir / ".backup_2026-01-01_000000.tar.gz.0a1b2c3d.tmp"
    upload = settings.backup_dir / ".upload.0a1b2c3d.tmp"
    half.touch()
    upload.touch()

    with running_service(settings, service_starts=False):
        assert not half.exists()
        assert upload.exists(), "whoever receives it may be at it"
