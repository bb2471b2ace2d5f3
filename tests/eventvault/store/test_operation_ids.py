"""An operation id is answered once: while the work is under way, afterwards, and by the next store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventvault import small_files
from eventvault.backups.entry import BackupEntry, Created
from eventvault.errors import BackupNotFound, Cancelled, NoSpace
from eventvault.store import operation_ids
from eventvault.store.operation_ids import Operation, OperationIds
from eventvault.store.ports import methods
from tests import processes

CREATE = methods.ALL["create_backup"]
DELETE = methods.ALL["delete_backup"]
MADE = Created(BackupEntry(name="a.tar.gz", path="/a.tar.gz", size=1, created=2, sha256="ab"), 3)


def failing(error: Exception) -> Callable[[Operation], Any]:
    def work(_operation: Operation) -> Any:
        raise error

    return work


def noting(note: str, error: Exception) -> Callable[[Operation], Any]:
    def work(operation: Operation) -> Any:
        operation.note("archive", note)
        raise error

    return work


def notes_of(ids: OperationIds, operation_id: str) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []
    ids.run(DELETE, operation_id, lambda operation: seen.append(operation.notes))
    return seen[0]


def test_a_request_that_is_sent_again_gets_the_first_answer_even_from_the_next_store(tmp_path: Path) -> None:
    assert OperationIds(tmp_path).run(CREATE, "1" * 16, lambda _: MADE) == MADE

    assert OperationIds(tmp_path).run(CREATE, "1" * 16, failing(AssertionError("it ran twice"))) == MADE
    assert OperationIds(tmp_path).run(DELETE, "2" * 16, lambda _: None) is None
    assert OperationIds(tmp_path).run(DELETE, "2" * 16, failing(AssertionError("it ran twice"))) is None


def test_a_second_request_waits_for_the_first(tmp_path: Path) -> None:
    ids, started, finish = OperationIds(tmp_path), threading.Event(), threading.Event()
    answers: list[Created] = []

    def slowly(_operation: Operation) -> Created:
        started.set()
        assert finish.wait(60)
        return MADE

    threads = [
        threading.Thread(target=lambda work=work: answers.append(ids.run(CREATE, "1" * 16, work)))
        for work in (slowly, failing(AssertionError("it ran twice")))
    ]
    threads[0].start()
    assert started.wait(60)
    threads[1].start()
    processes.wait_until(lambda: threads[1].is_alive() and not answers, "the second one does not wait")
    finish.set()
    for thread in threads:
        thread.join(60)
    assert answers == [MADE, MADE]


def test_what_fails_is_not_recorded(tmp_path: Path) -> None:
    ids = OperationIds(tmp_path)
    with pytest.raises(BackupNotFound):
        ids.run(DELETE, "1" * 16, noting("a.tar.gz", BackupNotFound("gone")))

    assert notes_of(ids, "1" * 16) == {}


def test_what_a_store_noted_before_it_ended_is_there_for_the_next_one(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        OperationIds(tmp_path).run(DELETE, "1" * 16, noting("a.tar.gz", Cancelled("the store is stopping")))

    assert notes_of(OperationIds(tmp_path), "1" * 16) == {"archive": "a.tar.gz"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"method": "undo", "at": 1, "done": true}',
        b'{"method": "create_backup", "at": 1, "done": true, "answer": {"of": "another version"}}',
    ],
)
def test_a_record_that_cannot_be_used_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "operations").mkdir()
    (tmp_path / "operations" / f"{'1' * 16}.json").write_bytes(content)

    assert OperationIds(tmp_path).run(CREATE, "1" * 16, lambda _: MADE) == MADE


def test_an_operation_whose_record_cannot_be_removed_fails_with_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "operations" / f"{'1' * 16}.json").mkdir(parents=True)  # as little removable as on a read-only disk

    with pytest.raises(BackupNotFound):
        OperationIds(tmp_path).run(DELETE, "1" * 16, failing(BackupNotFound("gone")))


def test_a_full_disk_fails_no_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise NoSpace("the disk is full")

    monkeypatch.setattr(small_files, "write_durably", full)
    assert OperationIds(tmp_path).run(CREATE, "1" * 16, lambda _: MADE) == MADE


def test_a_storage_folder_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    assert OperationIds(tmp_path / "gone").run(CREATE, "1" * 16, lambda _: MADE) == MADE
    assert not (tmp_path / "gone").exists()


def test_old_records_and_those_beyond_the_most_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_ids, "MAX_RECORDS", 3)
    monkeypatch.setattr(operation_ids, "_PRUNE_EVERY", 1)
    ids = OperationIds(tmp_path)
    for number in range(5):
        ids.run(DELETE, f"{number:016}", lambda _: None)
    assert len(list((tmp_path / "operations").iterdir())) == 3

    later = OperationIds(tmp_path, now=lambda: 2**60)
    later.run(DELETE, "f" * 16, lambda _: None)
    assert len(list((tmp_path / "operations").iterdir())) == 0
