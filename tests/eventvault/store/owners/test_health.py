"""Health costs the same at any number of archives and segments, and waits for no slow disk."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

from eventvault.backups import archive_totals
from eventvault.settings import Settings
from eventvault.store.owners import health
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts
from tests.stores import running_service

pytestmark = pytest.mark.slow

LOOKS = {"open", "stat", "lstat", "scandir", "listdir", "statvfs", "readlink", "access", "getxattr", "is_file"}
"""The calls with which Python looks at a disk."""
ASKED = 20
LONG = 30.0


class _Looks:
    """Counts the looks at a disk of this thread and of those that it starts, by the names of the threads."""

    def __init__(self) -> None:
        self.by_thread: Counter[str] = Counter()

    def _count(self, _: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ in LOOKS:
            self.by_thread[threading.current_thread().name] += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        threading.setprofile(self._count)
        sys.setprofile(self._count)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]  # the stubs do not know None


def looks_of_health(service: StoreService) -> int:
    """How often health looks at a disk while nothing is listed, in all threads but the one that lists."""
    service.status()
    looks = _Looks()
    with looks.counting():
        for _ in range(ASKED):
            service.status()
    return sum(count for thread, count in looks.by_thread.items() if thread != "archive-totals")


def fill(service: StoreService, copies: int) -> None:
    """One backup, `copies` of it, and some restores with a segment in each generation."""
    service.append(drafts(1))
    made = service.create_backup().backup
    for number in range(3):
        service.restore(made.name)
        service.append(drafts(1, f"after-{number}"))
        assert service.journal.flush()
    for number in range(copies):
        day, second = divmod(number, 86400)
        name = f"backup_2020-01-{day + 1:02}_{second // 3600:02}{second // 60 % 60:02}{second % 60:02}.tar.gz"
        os.link(made.path, service.settings.backup_dir / name)


def test_a_request_looks_at_the_disk_as_often_with_many_archives_and_segments_as_with_few(
    settings_with: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_totals, "FEW_ARCHIVES", 10)
    few = settings_with({name: str(tmp_path / f"few-{name}") for name in ("STORAGE_DIR", "BACKUP_DIR")})
    with running_service(few) as service:
        fill(service, 0)
        expected = looks_of_health(service)
    with running_service(settings_with({})) as service:
        fill(service, archive_totals.FEW_ARCHIVES + 50)
        count = archive_totals.FEW_ARCHIVES + 51
        processes.wait_until(lambda: service.status()["backup"]["count"] == count, "not all archives are listed")
        assert looks_of_health(service) == expected
    assert expected > 0


def test_many_archives_are_listed_only_for_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_totals, "FEW_ARCHIVES", 0)
    now, listed = [0.0], []

    def list_them(*_: object) -> archive_totals.ArchiveTotals:
        listed.append(now[0])
        now[0] += 2.0
        return archive_totals.ArchiveTotals(count=10_000)

    monkeypatch.setattr(archive_totals, "list_totals", list_them)
    totals = archive_totals.TotalsKeeper(None, list, clock=lambda: now[0])  # type: ignore[arg-type]
    assert totals.current().count == 10_000
    for _ in range(200):
        now[0] += 0.2
        assert totals.current().count == 10_000
        processes.wait_until(lambda: not totals.is_listing, "it is not listed")
    pauses = [later - earlier for earlier, later in itertools.pairwise(listed)]
    assert pauses
    assert min(pauses) >= 19 * 2.0


def test_many_archives_are_listed_again_once_something_tells_of_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_totals, "FEW_ARCHIVES", 0)
    now, mark, listed = [0.0], ["a"], []

    def list_them(*_: object) -> archive_totals.ArchiveTotals:
        listed.append(now[0])
        now[0] += 0.1
        return archive_totals.ArchiveTotals(count=10_000)

    monkeypatch.setattr(archive_totals, "list_totals", list_them)
    totals = archive_totals.TotalsKeeper(None, list, lambda: now[0], lambda: mark[0])  # type: ignore[arg-type]

    def listed_within(seconds: float) -> int:
        before, end = len(listed), now[0] + seconds
        while now[0] < end:
            now[0] += 0.5
            totals.current()
            processes.wait_until(lambda: not totals.is_listing, "it is not listed")
        return len(listed) - before

    assert listed_within(archive_totals.UNCHANGED_SECONDS - 1) == 1
    assert listed_within(archive_totals.UNCHANGED_SECONDS) == 1
    mark[0] = "b"
    assert listed_within(3) == 1
    totals.invalidate()
    assert listed_within(3) == 1


@pytest.mark.parametrize(
    ("module", "part"),
    [(archive_totals, "list_totals"), (health, "read_last"), (health, "describe_disks"), (health, "_staged_restore")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_disk_that_does_not_answer_delays_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, module: ModuleType, part: str
) -> None:
    answered, whole = threading.Event(), getattr(module, part)
    with running_service(settings) as service:
        service.append(drafts(1))
        service.create_backup()
        before = service.status()
        monkeypatch.setattr(module, part, lambda *arguments: answered.wait(LONG) and whole(*arguments))
        monkeypatch.setattr(health, "STUCK_SECONDS", 0.0)
        try:
            service.append(drafts(1, "later"))
            meanwhile = service.status()
        finally:
            answered.set()
        assert (meanwhile["backup"], meanwhile["store"]["events"]) == (before["backup"], 2)
        codes = [problem["code"] for problem in meanwhile["problems"]]
        assert codes == ([] if part == "list_totals" else ["stuck"])
        processes.wait_until(lambda: service.status()["status"] == "ok", "it is called stuck for ever")


def test_one_answer_counts_for_half_a_second_until_something_is_changed_on_request(settings: Settings) -> None:
    service = StoreService(settings, service_starts=True, with_kafka=False, health_shared=LONG)
    service.initialize()
    try:
        service.append(drafts(1))
        assert service.status()["backup"]["count"] == 0
        made = service.create_backup().backup
        assert service.status()["backup"]["latest"]["name"] == made.name
        (settings.backup_dir / "backup_2020-01-01_000000.tar.gz").write_bytes(b"foreign")
        assert service.status()["backup"]["count"] == 1
        service.pin_backup(made.name, pinned=True)
        assert service.status()["backup"]["count"] == 2
        service.restore(made.name)
        assert service.status()["lastRestore"]["source"] == made.name
    finally:
        service.stop()
        service.bus.close()


def test_of_many_archives_with_problems_a_few_are_named_and_the_others_counted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_totals, "MOST_NAMED", 2)
    monkeypatch.setattr(archive_totals, "MOST_LISTED", 3)
    with running_service(settings) as service:
        for number in range(5):
            service.append(drafts(1, f"e{number}"))
            made = service.create_backup(f"number {number}").backup
            service.catalogue.record_problem(made.name, "bad")
        status = service.status()
        assert [problem["code"] for problem in status["problems"]] == ["backup_damaged"] * 3
        assert status["problems"][-1]["message"].startswith("the same is wrong with 3 more archives")
        assert (len(status["backup"]["damaged"]), status["backup"]["damagedCount"]) == (3, 5)
