"""A full verification: it proves what a restore would find, marks what is damaged, and what follows from the mark."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eventvault import clock, data_folders
from eventvault.archive import reader, writer
from eventvault.backups import scrub
from eventvault.backups.entry import BackupEntry
from eventvault.backups.scrub import choose
from eventvault.database.registry import open_leveldb
from eventvault.errors import ArchiveDamaged, ArchiveError, BackupNotFound
from eventvault.events import event
from eventvault.leveldb.examine import file_numbers
from eventvault.restore.check import Pace, check_archive
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import put_in_the_way
from tests.stores import running_service


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as running:
        yield running


def append(service: StoreService, count: int, start: int = 0) -> None:
    drafts = [
        event.draft({"type": "t", "id": str(n), "data": os.urandom(200).hex()}, clock.now())
        for n in range(start, start + count)
    ]
    service.append(drafts)


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 8]))


def inlined(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Chores run as ever; gives the names of those that read records."""
    read: list[str] = []
    run = service.chores.run

    def noting(name: str, **arguments: object) -> dict[str, object]:
        if arguments.get("records"):
            read.append(name)
        return run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", noting)
    return read


def test_a_good_archive_is_verified_and_proven(service: StoreService, settings: Settings) -> None:
    append(service, 20)
    made = service.create_backup().backup

    verified = service.verify_backup(made.name)

    assert (made.records_verified, verified.records_verified) == (False, True)
    assert verified.verified is not None
    assert made.verified is not None
    assert verified.verified >= made.verified
    assert (verified.sha256, verified.problem) == (made.sha256, None)
    assert service.list_backups() == [verified]
    assert service.status()["metrics"]["archives_verified"] == 1
    assert service.status()["backup"]["oldestVerified"] == verified.verified
    assert [path for path in settings.storage_dir.iterdir() if path.name.startswith(".restoring")] == []


def test_one_that_is_not_there_is_not_found(service: StoreService) -> None:
    with pytest.raises(BackupNotFound):
        service.verify_backup("backup_2024-12-27_120000.tar.gz")


@pytest.mark.parametrize("place", [0, 3000, -100, -1])
def test_a_flipped_bit_is_found_named_and_marked(place: int, service: StoreService, settings: Settings) -> None:
    append(service, 50)
    made = service.create_backup().backup
    path = Path(made.path)
    stamp = path.stat()
    flip(path, place % made.size)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    with pytest.raises(ArchiveError) as raised:
        service.verify_backup(made.name)

    (entry,) = service.list_backups()
    assert (entry.problem, entry.verified, entry.records_verified) == (raised.value.message, None, False)
    status = service.status()
    assert (status["status"], status["backup"]["damaged"]) == ("degraded", [made.name])
    assert made.name in status["problems"][0]["message"]
    assert status["metrics"]["archives_damaged"] == 1
    with pytest.raises(ArchiveError):
        service.restore(made.name)
    assert service.status()["store"]["events"] == 50


def test_after_damage_the_next_backup_is_fresh_and_health_recovers_without_the_damaged_one(
    service: StoreService, settings: Settings
) -> None:
    append(service, 50)
    made = service.create_backup().backup
    flip(Path(made.path), made.size // 2)
    with pytest.raises(ArchiveError):
        service.verify_backup(made.name)
    assert not (settings.storage_dir / data_folders.ARCHIVED_TABLES).exists()

    again = service.backups.create_if_changed()

    assert again is not None
    assert service.verify_backup(again.backup.name).records_verified
    service.delete_backup(made.name)
    assert service.status()["status"] == "ok"


def test_damage_that_was_archived_is_found_by_leveldbs_own_checksums(service: StoreService, tmp_path: Path) -> None:
    """Every checksum of the archive is right: the live table had rotted before."""
    append(service, 3000)
    made = service.create_backup().backup
    folder = tmp_path / "unpacked"
    manifest = reader.unpack(Path(made.path), folder).manifest
    database = folder / "event_registry_db"
    with closing(open_leveldb(database)) as db:
        db.compact_range()
    names = file_numbers([path.name for path in database.iterdir()], "ldb").values()
    largest = max((database / name for name in names), key=lambda path: path.stat().st_size)
    flip(largest, largest.stat().st_size // 2)
    (database / "LOCK").unlink()
    for path in [*database.glob("LOG*"), database / "EVENTVAULT"]:
        path.unlink(missing_ok=True)
    writer.write_archive(tmp_path / "rotten.tar.gz", database, manifest)
    reader.verify(tmp_path / "rotten.tar.gz")

    with pytest.raises(ArchiveDamaged, match="holds a database that is damaged"):
        check_archive(archive=str(tmp_path / "rotten.tar.gz"), scratch=str(tmp_path), records=True)
    assert not list(tmp_path.glob(".restoring*"))


def test_what_was_verified_is_not_read_record_by_record_again(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventvault.restore import prepare

    append(service, 20)
    made = service.create_backup().backup
    service.verify_backup(made.name)
    read: list[str] = []
    run = service.chores.run

    def here(name: str, **arguments: object) -> dict[str, object]:
        return getattr(prepare, name)(**arguments) if name == "prepare_restore" else run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", here)
    monkeypatch.setattr(prepare, "check_together", lambda *_: read.append("read"))

    assert service.restore(made.name).events == 20
    assert read == []
    unproven = service.create_backup().backup
    service.restore(unproven.name)
    assert read == ["read"]


def test_an_archive_that_is_another_one_by_now_is_read_again(service: StoreService) -> None:
    append(service, 20)
    made = service.create_backup("one").backup
    service.verify_backup(made.name)
    append(service, 5, 100)
    other = service.create_backup("two").backup
    Path(other.path).rename(made.path)

    assert not service.list_backups()[0].records_verified


def test_the_rolling_check_reads_records_only_where_they_were_not_read_before(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(service, 20)
    made = service.create_backup().backup
    read = inlined(service, monkeypatch)

    service.scrub.run()
    service.scrub.run()

    assert read == ["check_archive"]
    assert service.list_backups()[0].records_verified
    assert service.status()["jobs"]["scrub"]["lastOutcome"] == f"{made.name} is good"


def test_the_rolling_check_finds_damage_although_the_records_were_read_before(service: StoreService) -> None:
    append(service, 20)
    made = service.create_backup().backup
    service.scrub.run()
    stamp = Path(made.path).stat()
    flip(Path(made.path), made.size // 2)
    os.utime(made.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    service.scrub.run()

    assert service.list_backups()[0].problem
    assert service.status()["jobs"]["scrub"]["lastOutcome"] == f"{made.name} is damaged"
    service.scrub.run()
    assert "nothing to check" in service.status()["jobs"]["scrub"]["lastOutcome"]


def test_the_rolling_check_survives_what_cannot_be_checked(service: StoreService, settings: Settings) -> None:
    append(service, 1)
    service.create_backup()
    put_in_the_way(settings.backup_dir)

    service.scrub.run()

    assert service.status()["jobs"]["scrub"]["lastOutcome"].startswith("failed")


def entry(name: str, verified: int | None, problem: str | None = None) -> BackupEntry:
    return BackupEntry(name=name, path=name, size=1, created=1, verified=verified, problem=problem)


def test_the_one_that_was_verified_longest_ago_is_next_and_one_that_never_was_before_it() -> None:
    a, b, c = entry("a", 3), entry("b", 2), entry("c", None)
    assert choose([a, b, c]) == c
    assert choose([a, b]) == b
    assert choose([a, entry("b", 1, "damaged")]) == a
    assert choose([]) is None


class Jobs:
    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []

    def every(self, name: str, interval: int, delay: int, job: Callable[[], None]) -> None:
        self.asked.append((name, interval, delay))

    def stop(self) -> None: ...


@pytest.mark.parametrize(
    ("interval", "asked"),
    [
        ("0", []),
        ("1000", [("scrub", 1000, 1000)]),
        ("86400000", [("scrub", 86_400_000, scrub.FIRST_DELAY_MS)]),
    ],
)
def test_the_rolling_check_is_asked_for_as_the_setting_says(
    interval: str, asked: list[tuple[str, int, int]], settings: Settings
) -> None:
    from eventvault.settings import load

    jobs = Jobs()
    chosen = load({**settings.to_environment(), "SCRUB_INTERVAL": interval})
    scrub.ArchiveScrub(chosen, None, lambda _name: entry("a", 1), jobs).start()  # type: ignore[arg-type]
    assert jobs.asked == asked


def test_a_rate_makes_work_wait_and_never_hurry() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(100, now=lambda: now[0], sleep=sleep)
    pace.wait(50, 1000)
    now[0] += 10
    pace.wait(200, 1000)
    pace.wait(1100, 2000)

    assert slept == [0.5, 0.5]
