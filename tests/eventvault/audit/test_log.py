"""The log never stops those whose deeds it notes, and no entry is lost."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.audit import log as logs
from eventvault.audit.log import AuditLog
from tests import processes
from tests.eventvault.audit.audits import Audit, entry

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path)


@pytest.fixture
def log(audit: Audit) -> Iterator[AuditLog]:
    log = AuditLog(audit.storage, audit.backups)
    yield log
    log.stop()


def numbers(audit: Audit) -> list[int]:
    return [int(line.operation, 16) for line in audit.lines() if line.action == "pin"]


def deliver(log: AuditLog, audit: Audit, count: int) -> None:
    """Let a second pass until so many entries are in the chain."""

    def are_there() -> bool:
        log.each_second()
        return len(numbers(audit)) == count and not log.waiting.size()

    processes.wait_until(are_there, "the entries are not delivered")


def test_an_entry_is_in_the_chain_when_the_call_returns(log: AuditLog, audit: Audit) -> None:
    for number in range(5):
        log.write(entry(number))
        assert numbers(audit)[-1] == number
    assert audit.verify().bad is None
    assert log.problems() == []


def test_many_threads_write_one_chain(log: AuditLog, audit: Audit) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 10):
            log.write(entry(number))

    threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 80, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    deliver(log, audit, 80)
    assert audit.verify().bad is None


def test_entries_wait_in_storage_while_backup_dir_is_away(log: AuditLog, audit: Audit) -> None:
    log.write(entry(0))
    audit.backups.rename(audit.backups.with_name("away"))
    for number in (1, 2, 3):
        log.write(entry(number))
    assert [each.operation for each in log.waiting.read()[0]] == [f"{number:016x}" for number in (1, 2, 3)]
    (problem,) = log.problems()
    assert (problem.code, problem.about) == ("audit_waits", str(audit.folder))
    assert "in STORAGE_DIR" in problem.message
    audit.backups.with_name("away").rename(audit.backups)
    assert audit.verify().waiting == 3
    deliver(log, audit, 4)
    log.write(entry(4))
    assert numbers(audit) == [0, 1, 2, 3, 4]
    assert log.problems() == []
    assert audit.verify().bad is None


def test_an_entry_that_comes_first_after_that_is_not_before_those_that_wait(log: AuditLog, audit: Audit) -> None:
    audit.backups.rename(audit.backups.with_name("away"))
    log.write(entry(0))
    audit.backups.with_name("away").rename(audit.backups)
    log.write(entry(1))
    assert numbers(audit) == [0, 1]


def test_entries_wait_in_memory_where_no_folder_takes_them(log: AuditLog, audit: Audit) -> None:
    for folder in (audit.backups, audit.storage):
        folder.rename(folder.with_name(f"{folder.name}-away"))
    for number in range(3):
        log.write(entry(number))
    (problem,) = log.problems()
    assert "in memory" in problem.message
    for folder in (audit.backups, audit.storage):
        folder.with_name(f"{folder.name}-away").rename(folder)
    deliver(log, audit, 3)
    assert numbers(audit) == [0, 1, 2]


@pytest.mark.slow
def test_a_disk_that_does_not_answer_delays_one_deed_and_no_further_one(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "WRITE_SECONDS", 1.0)
    answers = threading.Event()

    def hang() -> None:
        answers.wait(60)

    log = AuditLog(audit.storage, audit.backups, hang)
    began = time.monotonic()
    for number in range(20):
        log.write(entry(number))
    assert time.monotonic() - began < 20 * 1.0
    (problem,) = log.problems()
    assert "does not end" in problem.message
    assert log.waiting.count() == 20
    answers.set()
    deliver(log, audit, 20)
    assert sorted(numbers(audit)) == list(range(20))
    assert log.problems() == []
    assert audit.verify().bad is None
    log.stop()


def test_what_another_process_had_to_set_aside_is_written(log: AuditLog, audit: Audit) -> None:
    log.waiting.append(entry(7))
    deliver(log, audit, 1)


def test_an_entry_that_a_kill_put_into_both_places_is_in_the_chain_once(log: AuditLog, audit: Audit) -> None:
    log.write(entry(1))
    log.waiting.append(entry(1))
    log.waiting.append(entry(2))
    deliver(log, audit, 2)
    assert numbers(audit) == [1, 2]


def test_a_damaged_entry_that_waited_is_named_in_the_chain(log: AuditLog, audit: Audit) -> None:
    for number in (1, 2):
        log.waiting.append(entry(number))
    path = audit.storage / data_folders.AUDIT_WAITING
    path.write_bytes(path.read_bytes().replace(b"tester", b"teste2", 1))
    deliver(log, audit, 1)
    assert numbers(audit) == [2]
    (about,) = audit.about_audit()
    assert "teste2" in about["damaged"]["text"]  # type: ignore[index]
    assert audit.verify().bad is None


def test_a_damaged_entry_is_named_once_however_often_its_file_cannot_be_emptied(
    log: AuditLog, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def refuse(end: int) -> None:
        tries.append(end)
        raise OSError(errno.ENOSPC, "refused")

    def is_met(condition: Callable[[], bool]) -> bool:
        log.each_second()
        return condition()

    log.waiting.append(entry(1))
    path = audit.storage / data_folders.AUDIT_WAITING
    path.write_bytes(path.read_bytes().replace(b"tester", b"teste2", 1))
    with monkeypatch.context() as patch:
        patch.setattr(log.waiting, "drop", refuse)
        processes.wait_until(lambda: is_met(lambda: len(tries) > 2), "it is not tried again")
    processes.wait_until(lambda: is_met(lambda: log.waiting.size() == 0), "the entry waits for ever")
    assert len(audit.about_audit()) == 1


def test_what_is_written_after_the_stop_waits_for_the_next_process(audit: Audit) -> None:
    log = AuditLog(audit.storage, audit.backups)
    log.write(entry(1))
    log.stop()
    log.write(entry(2))
    assert (numbers(audit), log.waiting.count()) == ([1], 1)
