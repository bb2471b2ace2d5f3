"""The contract of the audit: each deed has two lines, with who did it and what came of it."""

from __future__ import annotations

import pytest

from eventvault.audit.lines import AuditLine, entry_now
from eventvault.errors import BackupNotFound, EventVaultError
from eventvault.operations.caller import Caller, calling
from eventvault.restore.values import Moment
from eventvault.store.ports.store import Store
from tests.contract.events import drafts
from tests.contract.test_operations import begun, ended


def newest(store: Store, action: str) -> tuple[AuditLine, AuditLine]:
    """Both lines of the newest deed of this kind."""
    lines, after = [], 0
    while page := store.read_audit(after=after, limit=1000).lines:
        lines, after = [*lines, *page], page[-1].line
    last = [line for line in lines if line.action == action and line.state == "ended"][-1]
    first = next(line for line in lines if line.operation == last.operation and line.state == "begun")
    return first, last


@pytest.mark.slow
def test_a_deed_is_its_callers_and_has_its_operations_id(store: Store) -> None:
    store.append(drafts("audited"))
    with calling(Caller("tester")):
        name = store.create_backup("a label").backup.name
    first, last = newest(store, "create")
    assert (first.who, first.target, last.result, last.details["backup"]) == ("tester", "a label", "done", name)
    assert store.get_operation(first.operation).started_by == "tester"


@pytest.mark.slow
def test_one_that_nobody_waits_for_is_in_it_too(store: Store) -> None:
    operation_id = begun(store, "begun")
    ended(store, operation_id)
    first, last = newest(store, "create")
    assert (first.operation, first.who, last.result) == (operation_id, "tester", "done")


@pytest.mark.slow
def test_changes_that_are_no_operations_are_deeds_too(store: Store) -> None:
    name = store.create_backup().backup.name
    with calling(Caller("tester")):
        store.pin_backup(name, pinned=True, reason="audit 2026")
        store.delete_backup(name, force=True)
    first, last = newest(store, "pin")
    assert (first.who, first.target, first.details["reason"], last.result) == ("tester", name, "audit 2026", "done")
    first, last = newest(store, "delete")
    assert (first.who, first.target, first.details, last.result) == ("tester", name, {"force": True}, "done")


def test_a_deed_that_fails_has_the_code_of_its_error(store: Store) -> None:
    with pytest.raises(BackupNotFound):
        store.restore("backup_2026-01-31_120000.tar.gz")
    first, last = newest(store, "restore")
    assert first.target == "backup_2026-01-31_120000.tar.gz"
    assert (last.result, last.details) == ("failed", {"code": "backup_not_found"})
    with pytest.raises(EventVaultError):
        store.accept_problem("rolled_back", "a")
    assert newest(store, "accept")[1].result == "failed"


@pytest.mark.slow
def test_a_restore_and_its_undo_rewind_nothing_of_it(store: Store) -> None:
    store.append(drafts("before", "behind"))
    before = store.read_audit(after=0, limit=1).last
    with calling(Caller("tester")):
        store.restore_moment(Moment(sequence=1))
        store.undo()
    first, last = newest(store, "restore")
    assert (first.target, last.result, last.details["events"]) == ("#1", "done", 1)
    assert newest(store, "undo")[1].result == "done"
    assert store.read_audit(after=0, limit=1).last >= before + 4


def test_events_are_no_deeds(store: Store) -> None:
    before = store.read_audit(after=0, limit=1).last
    store.append(drafts("no deed"))
    assert store.read_audit(after=0, limit=1).last == before


def test_another_process_notes_its_deeds(store: Store) -> None:
    store.note_deed(entry_now(operation="1" * 16, state="begun", action="download", who="cron", target="a.tar.gz"))
    store.note_deed(
        entry_now(operation="1" * 16, state="ended", action="download", who="cron", target="a.tar.gz", result="done")
    )
    assert newest(store, "download")[0].who == "cron"


@pytest.mark.slow
def test_lines_are_in_pages(store: Store) -> None:
    store.create_backup()
    page = store.read_audit(after=1, limit=1)
    assert [line.line for line in page.lines] == [2]
    assert page.last >= 2
    assert store.read_audit(after=page.last, limit=5).lines == []


def test_refused_sign_ins_are_taken(store: Store) -> None:
    store.count_refused_sign_ins(3, "192.0.2.1")
