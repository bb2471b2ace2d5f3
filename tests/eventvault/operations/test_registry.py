"""An operation id is answered once; operations are listed for 30 days, and can be cancelled while they run."""

from __future__ import annotations

import errno
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock, small_files
from eventvault.backups.entry import BackupEntry, Created
from eventvault.errors import (
    BackupNotFound,
    Cancelled,
    EventVaultError,
    NoSpace,
    OperationCancelled,
    OperationDecided,
    OperationEnded,
    OperationNotFound,
    StoreStopping,
)
from eventvault.operations import listing, registry
from eventvault.operations.caller import Caller
from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.operations.operation import Operation
from eventvault.operations.records import OperationRecord
from eventvault.operations.registry import Call, OperationRegistry
from tests import processes

ID, OTHER = "1" * 16, "2" * 16
MADE = Created(BackupEntry(name="a.tar.gz", path="/a.tar.gz", size=1, created=2, sha256="ab"), 3)


def create(operation_id: str = ID, *, asynchronous: bool = False) -> Call:
    return Call("create_backup", Created, "create", operation_id, b'["label"]', Caller("open", asynchronous))


def delete(operation_id: str = ID) -> Call:
    return Call("delete_backup", None, operation_id=operation_id)


def made(_operation: Operation) -> Created:
    return MADE


def failing(error: Exception) -> Callable[[Operation], Any]:
    def work(_operation: Operation) -> Any:
        raise error

    return work


def noting(note: str, error: Exception) -> Callable[[Operation], Any]:
    def work(operation: Operation) -> Any:
        operation.note("archive", note)
        raise error

    return work


def loaded(storage_dir: Path, service: str = "") -> OperationRegistry:
    next_store = OperationRegistry(storage_dir, service=service)
    next_store.load()
    return next_store


def listed(operations: OperationRegistry, **query: Any) -> list[OperationEntry]:
    return operations.page(OperationQuery(**query))


def notes_of(operations: OperationRegistry, call: Call) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []
    operations.run(call, lambda operation: seen.append(operation.notes))
    return seen[0]


class RunningCall:
    """Work that has begun and waits, until it is let go or cancelled."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, operation: Operation) -> Created:
        operation.step("write", 100)
        operation.advance(25)
        self.begun.set()
        with operation.on_cancel(self.go_on.set):
            assert self.go_on.wait(60)
        operation.check_cancelled()
        return MADE


@contextmanager
def running_in(operations: OperationRegistry, call: Call) -> Iterator[RunningCall]:
    """The operation is under way in a thread, and ends with the context."""
    work = RunningCall()

    def run() -> None:
        with suppress(EventVaultError):
            operations.run(call, work)

    thread = threading.Thread(target=run)
    thread.start()
    assert work.begun.wait(60)
    try:
        yield work
    finally:
        work.go_on.set()
        thread.join(60)


@pytest.mark.parametrize("call", [create, delete])
def test_a_request_that_is_sent_again_gets_the_first_answer_even_from_the_next_store(
    tmp_path: Path, call: Callable[[], Call]
) -> None:
    answer = MADE if call is create else None
    assert OperationRegistry(tmp_path).run(call(), lambda _: answer) == answer
    assert OperationRegistry(tmp_path).run(call(), failing(AssertionError("it ran twice"))) == answer


def test_a_second_request_waits_for_the_first(tmp_path: Path) -> None:
    operations, answers = OperationRegistry(tmp_path), list[Created]()
    with running_in(operations, create()):
        second = threading.Thread(
            target=lambda: answers.append(operations.run(create(), failing(AssertionError("it ran twice"))))
        )
        second.start()
        processes.wait_until(lambda: second.is_alive() and not answers, "the second one does not wait")
    second.join(60)
    assert answers == [MADE]


def test_what_fails_may_be_tried_again(tmp_path: Path) -> None:
    operations = OperationRegistry(tmp_path)
    for call in (create(), delete(OTHER)):
        with pytest.raises(BackupNotFound):
            operations.run(call, noting("a.tar.gz", BackupNotFound("gone")))

    assert operations.run(create(), made) == MADE
    assert notes_of(operations, delete(OTHER)) == {}


@pytest.mark.parametrize("call", [create, delete])
def test_what_a_store_noted_before_it_ended_is_there_for_the_next_one(tmp_path: Path, call: Callable[[], Call]) -> None:
    with pytest.raises(Cancelled):
        OperationRegistry(tmp_path).run(call(), noting("a.tar.gz", Cancelled("the store is stopping")))

    assert notes_of(OperationRegistry(tmp_path), call()) == {"archive": "a.tar.gz"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"method": "undo", "at": 1, "done": true}',
        b'{"method": "create_backup", "at": 1, "done": true, "answer": {"of": "another version"}}',
        b'{"format": 3}',
    ],
)
def test_a_record_that_cannot_be_used_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "operations").mkdir()
    (tmp_path / "operations" / f"{ID}.json").write_bytes(content)

    assert listed(loaded(tmp_path)) == []
    assert OperationRegistry(tmp_path).run(create(), made) == MADE


def test_a_record_of_an_earlier_version_still_answers_and_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "operations").mkdir()
    (tmp_path / "operations" / f"{ID}.json").write_bytes(
        b'{"method": "create_backup", "at": %d, "notes": {"archive": "a.tar.gz"}, "done": true, "answer": '
        b'{"backup": {"name": "a.tar.gz", "path": "/a.tar.gz", "size": 1, "created": 2, "sha256": "ab"}, '
        b'"duration": 3}}' % clock.now()
    )

    operations = loaded(tmp_path)
    assert operations.run(create(), failing(AssertionError("it ran twice"))) == MADE
    assert listed(operations) == []


def test_an_operation_whose_record_cannot_be_removed_fails_with_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "operations" / f"{ID}.json").mkdir(parents=True)  # as little removable as on a read-only disk

    with pytest.raises(BackupNotFound):
        OperationRegistry(tmp_path).run(delete(), failing(BackupNotFound("gone")))


def test_a_full_disk_fails_no_operation_and_the_list_has_it_nevertheless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise NoSpace("the disk is full")

    monkeypatch.setattr(small_files, "write_durably", full)
    operations = OperationRegistry(tmp_path)
    operations.load()
    assert operations.run(create(), made) == MADE
    assert [entry.state for entry in listed(operations)] == ["succeeded"]


def test_a_storage_folder_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    assert OperationRegistry(tmp_path / "gone").run(create(), made) == MADE
    assert not (tmp_path / "gone").exists()


def test_answers_that_are_old_or_too_many_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MAX_ANSWERS", 3)
    monkeypatch.setattr(registry, "_PRUNE_EVERY", 1)
    operations = loaded(tmp_path)
    for number in range(5):
        operations.run(delete(f"{number:016}"), lambda _: None)
    assert len(list((tmp_path / "operations").iterdir())) == 3

    later = OperationRegistry(tmp_path, now=lambda: 2**60)
    later.load()
    assert list((tmp_path / "operations").iterdir()) == []


def test_operations_that_are_old_or_too_many_are_removed_whatever_else_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_OPERATIONS", 3)
    monkeypatch.setattr(registry, "_PRUNE_EVERY", 1)
    began = clock.now()
    times = itertools.count(began)
    operations = OperationRegistry(tmp_path, now=lambda: next(times))
    operations.load()
    for number in range(5):
        operations.run(create(f"{number:016}"), made)
        operations.run(delete(f"{number + 5:016}"), lambda _: None)
    assert [int(entry.id) for entry in listed(operations)] == [4, 3, 2]
    assert [int(entry.id) for entry in listed(loaded(tmp_path))] == [4, 3, 2]

    month_later = OperationRegistry(tmp_path, now=lambda: began + listing.KEEP_MICROSECONDS + 10**6)
    month_later.load()
    assert listed(month_later) == []
    with pytest.raises(OperationNotFound, match="0000000000000004"):
        month_later.get(f"{4:016}")


def test_a_running_operation_shows_its_progress_and_then_its_result(tmp_path: Path) -> None:
    operations = loaded(tmp_path)
    with running_in(operations, create()):
        (running,) = listed(operations)
        assert (running.id, running.kind, running.state, running.started_by) == (ID, "create", "running", "open")
        assert (running.progress.step, running.progress.bytes_done, running.progress.bytes_total) == ("write", 25, 100)
        assert 0 < running.progress.fraction < 1
        assert running.ended_at is None
    done = operations.get(ID)
    assert (done.state, done.progress.fraction, done.error) == ("succeeded", 1.0, None)
    assert done.result is not None
    assert b"a.tar.gz" in done.result
    assert loaded(tmp_path).get(ID) == done, "the next store knows it too"


def test_whoever_watches_hears_of_each_change(tmp_path: Path) -> None:
    operations = OperationRegistry(tmp_path)
    with running_in(operations, create()) as work:
        seen = operations.watch({ID: 0}, 60)[ID]
        assert operations.watch({ID: seen.version}, 0.0) == {}
        work.go_on.set()
        while seen.state != "succeeded":
            seen = operations.watch({ID: seen.version}, 60)[ID]
    assert operations.watch({ID: seen.version}, 0.0) == {}
    with pytest.raises(OperationNotFound):
        operations.watch({OTHER: 0}, 1.0)


def test_a_call_that_is_refused_before_its_work_began_is_not_listed(tmp_path: Path) -> None:
    operations = loaded(tmp_path)
    with pytest.raises(BackupNotFound):
        operations.run(create(), failing(BackupNotFound("there is none")))
    assert listed(operations) == []


def test_what_fails_after_it_has_begun_is_listed_with_its_error(tmp_path: Path) -> None:
    operations = loaded(tmp_path)
    with pytest.raises(NoSpace):
        operations.run(create(), noting("a.tar.gz", NoSpace("the disk is full", hint="free some")))
    (failed,) = listed(operations)
    assert failed.state == "failed"
    assert failed.error is not None
    assert (failed.error["code"], failed.error["message"], failed.error["hint"]) == (
        "no_space", "the disk is full", "free some",
    )  # fmt: skip


def test_a_caller_that_does_not_wait_finds_the_outcome_in_the_list(tmp_path: Path) -> None:
    operations = loaded(tmp_path)
    operations.begin(create(asynchronous=True), made)
    operations.begin(create(OTHER, asynchronous=True), failing(BackupNotFound("there is none")))
    processes.wait_until(
        lambda: {entry.state for entry in listed(operations)} == {"succeeded", "failed"}, "they have not ended"
    )
    assert operations.run(create(), failing(AssertionError("it ran twice"))) == MADE


def test_a_cancelled_operation_ends_and_is_never_run_again(tmp_path: Path) -> None:
    operations = loaded(tmp_path)
    with running_in(operations, create()):
        assert operations.cancel(ID).cancel_requested
        with suppress(OperationEnded):
            assert operations.cancel(ID).cancel_requested, "a second client may cancel it too"
    assert operations.get(ID).state == "cancelled"
    assert operations.cancel(ID).state == "cancelled"
    for store in (operations, OperationRegistry(tmp_path)):
        with pytest.raises(OperationCancelled):
            store.run(create(), failing(AssertionError("it ran again")))


def test_a_store_that_is_killed_after_a_cancel_leaves_a_cancelled_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = OperationRegistry(tmp_path, service="s")
    with running_in(operations, create(asynchronous=True)) as work:
        work.go_on.clear()
        operations._running[ID].operation._on_cancel.clear()
        operations.cancel(ID)
        monkeypatch.setattr(registry, "RESEND_SECONDS", 0.0)
        carried_on: list[str] = []
        next_store = loaded(tmp_path, service="s")
        next_store.carry_on(lambda operation_id, _record: carried_on.append(operation_id))
        assert next_store.get(ID).state == "cancelled"
        assert carried_on == []
        operations._running[ID].operation._on_cancel.append(work.go_on.set)


def test_an_operation_that_is_decided_or_has_ended_cannot_be_cancelled(tmp_path: Path) -> None:
    operations = OperationRegistry(tmp_path)

    def decide(operation: Operation) -> Created:
        operation.step("swap")
        operation.decided()
        with pytest.raises(OperationDecided):
            operations.cancel(ID)
        return MADE

    assert operations.run(create(), decide) == MADE
    with pytest.raises(OperationEnded, match="succeeded"):
        operations.cancel(ID)
    with pytest.raises(OperationNotFound):
        operations.cancel("../../etc/passwd")


def test_what_a_killed_store_did_not_end_is_interrupted_or_carried_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only work of this start of the service whose caller does not wait is carried on: others send it again."""
    monkeypatch.setattr(registry, "RESEND_SECONDS", 0.0)
    operations = OperationRegistry(tmp_path, service="s")
    with running_in(operations, create()), running_in(operations, create(OTHER, asynchronous=True)):
        carried_on = list[tuple[str, OperationRecord]]()
        next_store = loaded(tmp_path, service="s")
        assert {entry.state for entry in listed(next_store)} == {"queued"}
        assert next_store.get(ID).ended_at is None
        next_store.carry_on(lambda operation_id, record: carried_on.append((operation_id, record)))
        assert [(key, json.loads(bytes(record.arguments))) for key, record in carried_on] == [(OTHER, ["label"])]
        assert {entry.state for entry in listed(next_store)} == {"interrupted"}, "nobody has sent the other one again"

        after_restart = loaded(tmp_path, service="t")
        after_restart.carry_on(lambda *_: pytest.fail("it is of another start of the service"))
        assert {entry.state for entry in listed(after_restart)} == {"interrupted"}


@pytest.mark.parametrize("ends_meanwhile", [False, True], ids=["waits to be run again", "has ended"])
def test_an_operation_of_a_killed_store_is_not_taken_for_interrupted_while_the_next_store_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_meanwhile: bool
) -> None:
    """The records are loaded just after a client's request has read the operation's own record."""
    operations = OperationRegistry(tmp_path, service="s")
    with running_in(operations, create(asynchronous=True)):
        next_store = OperationRegistry(tmp_path, service="s")
        read, reads = next_store._records.read, []

        def read_before_loading(operation_id: str) -> OperationRecord | None:
            record = read(operation_id)
            reads.append(operation_id)
            if len(reads) == 1:
                next_store.load()
                if ends_meanwhile:
                    assert next_store.run(create(asynchronous=True), lambda _: MADE) == MADE
            return record

        monkeypatch.setattr(next_store._records, "read", read_before_loading)
        assert next_store.get(ID).state == ("succeeded" if ends_meanwhile else "queued")


def test_a_store_that_stops_leaves_interrupted_operations_and_takes_no_more(tmp_path: Path) -> None:
    operations = OperationRegistry(tmp_path)
    with pytest.raises(Cancelled):
        operations.run(create(), noting("a.tar.gz", Cancelled("the store is stopping")))
    operations.stop()
    assert [entry.state for entry in listed(loaded(tmp_path))] == ["interrupted"]
    with pytest.raises(StoreStopping):
        operations.run(create(OTHER), made)


def test_what_the_store_does_by_itself_is_listed(tmp_path: Path) -> None:
    operations = loaded(tmp_path)
    with operations.internal("startup", "restore_dropped", "start") as operation:
        operation.step("unpack", 10)
        operation.result = {"backupName": "a.tar.gz"}
        assert [entry.state for entry in listed(operations)] == ["running"]
    with suppress(NoSpace), operations.internal("recover", "recover", "start") as operation:
        operation.step("unpack")
        raise NoSpace("the disk is full")
    with suppress(NoSpace), operations.internal("recover", "recover", "start"):
        raise NoSpace("nothing has begun, so nothing is listed")
    failed, done = listed(operations)
    assert (done.kind, done.state, done.started_by) == ("startup", "succeeded", "start")
    assert json.loads(done.result or b"") == {"backupName": "a.tar.gz"}
    assert (failed.kind, failed.state) == ("recover", "failed")


def test_a_request_that_is_sent_again_after_a_kill_goes_on_under_its_first_start(tmp_path: Path) -> None:
    operations = OperationRegistry(tmp_path, service="s")
    with running_in(operations, create()):
        begun = operations.get(ID)
        next_store = loaded(tmp_path, service="s")
        assert next_store.run(create(), made) == MADE
        (done,) = listed(next_store)
        assert (done.state, done.started_at) == ("succeeded", begun.started_at)


@pytest.mark.parametrize(("number", "code"), [(5, "disk_failed"), (13, "disk_failed"), (24, "too_busy")])
def test_what_may_have_been_done_before_is_not_done_again_while_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    assert OperationRegistry(tmp_path).run(create(), made) == MADE
    operations, calls = OperationRegistry(tmp_path), []

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(small_files, "read_or_quarantine", refuse)
        for attempt in (operations.run, operations.begin):
            with pytest.raises(EventVaultError) as raised:
                attempt(create(), calls.append)
            assert raised.value.code == code
        assert not operations.is_busy
    assert calls == []
    assert operations.run(create(), made) == MADE


def test_a_repeatable_call_goes_on_while_its_record_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "refused")

    operations = OperationRegistry(tmp_path)
    asked = Call("cancel_operation", str, operation_id=OTHER, is_repeatable=True)
    with running_in(operations, create()):
        monkeypatch.setattr(small_files, "read_or_quarantine", refuse)
        monkeypatch.setattr(small_files, "write", refuse)
        assert operations.run(asked, lambda _: operations.cancel(ID).state) == "running"
    assert operations.state_of(ID) == "cancelled"
