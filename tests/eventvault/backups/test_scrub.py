"""The scrub: which archive comes next, what it reads, and what is shown of the result."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault.backups import scrub
from eventvault.backups.entry import BackupEntry
from eventvault.backups.scrub import choose
from eventvault.settings import Settings, load
from eventvault.store.service import StoreService
from tests.restoring import append_random, flip, put_in_the_way
from tests.stores import running_service


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as running:
        yield running


def record_readers(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the chores that read records, and run them."""
    read: list[str] = []
    run = service.chores.run

    def noting(name: str, **arguments: object) -> dict[str, object]:
        if arguments.get("depth") == "records":
            read.append(name)
        return run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", noting)
    return read


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("which", ["the same archive", "another archive"])
@pytest.mark.parametrize("records", [False, True])
def test_a_request_to_verify_does_not_wait_for_the_scrub(
    which: str, records: bool, service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_random(service, 20)
    names = [service.create_backup(label).backup.name for label in ("one", "two")]
    scrubbing, release = threading.Event(), threading.Event()
    run = service.chores.run

    def held(name: str, **arguments: Any) -> dict[str, Any]:
        if arguments.get("rate"):
            scrubbing.set()
            assert release.wait(60)
        return run(name, **arguments)

    monkeypatch.setattr(service.chores, "run", held)
    scrub_run = threading.Thread(target=service.scrub.run)
    scrub_run.start()
    try:
        assert scrubbing.wait(60)
        name = names[0] if which == "the same archive" else names[1]
        assert service.verify_backup(name, records=records).checked == ("records" if records else "digests")
    finally:
        release.set()
        scrub_run.join()
    assert service.status()["jobs"]["scrub"]["lastOutcome"] == f"{names[0]} is good"


@pytest.mark.slow
def test_the_scrub_tells_the_sha_256_of_the_file_and_nothing_forgets_it(service: StoreService) -> None:
    append_random(service, 20)
    made = service.create_backup().backup
    assert made.sha256 is None
    service.scrub.run()
    sha256 = hashlib.sha256(Path(made.path).read_bytes()).hexdigest()
    assert service.list_backups()[0].sha256 == sha256
    assert service.verify_backup(made.name).sha256 == sha256


@pytest.mark.slow
def test_the_scrub_reads_records_only_where_they_were_not_read_before(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_random(service, 20)
    made = service.create_backup().backup
    read = record_readers(service, monkeypatch)

    service.scrub.run()
    assert read == []  # its tables were checked when it was made
    Path(made.path).rename(Path(made.path).with_name("copied.tar.gz"))
    service.scrub.run()
    service.scrub.run()

    assert read == ["check_archive"]
    (entry,) = service.list_backups()
    assert (entry.content_checked, entry.checked) == (True, "digests")
    assert service.status()["jobs"]["scrub"]["lastOutcome"] == "copied.tar.gz is good"


@pytest.mark.slow
def test_the_scrub_finds_damage_although_the_records_were_read_before(service: StoreService) -> None:
    append_random(service, 20)
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


@pytest.mark.slow
def test_the_scrub_survives_what_cannot_be_checked(service: StoreService, settings: Settings) -> None:
    append_random(service, 1)
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

    def next_run(self, name: str) -> int | None: ...

    def stop(self) -> None: ...


@pytest.mark.parametrize(
    ("interval", "asked"),
    [
        ("0", []),
        ("1000", [("scrub", 1000, 1000)]),
        ("86400000", [("scrub", 86_400_000, scrub.FIRST_DELAY_MS)]),
    ],
)
def test_the_scrub_is_asked_for_as_the_setting_says(
    interval: str, asked: list[tuple[str, int, int]], settings: Settings
) -> None:
    jobs = Jobs()
    chosen = load({**settings.to_environment(), "SCRUB_INTERVAL": interval})
    scrub.ArchiveScrub(chosen, None, lambda _name: entry("a", 1), jobs).start()  # type: ignore[arg-type]
    assert jobs.asked == asked


def test_an_archive_that_was_verified_in_the_future_is_checked_before_the_others() -> None:
    entries = [entry("a", verified=5), entry("b", verified=900), entry("c", verified=7)]
    chosen = choose(entries, {"a": 8}, now=10)
    assert chosen is not None
    assert chosen.name == "b"
