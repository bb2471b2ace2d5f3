"""What every Rehearsals promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventvault.errors import BackupNotFound, MomentUnavailable
from eventvault.restore.values import Moment
from eventvault.store.ports.store import Store
from tests.contract.events import drafts, ids, unique

pytestmark = pytest.mark.slow


def test_a_rehearsal_restores_nothing_and_says_what_a_restore_would_do(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b", "c"))

    result = empty_store.rehearse(name)

    assert (result.ok, result.kind, result.backup, result.events) == (True, "backup", name, 1)
    assert (result.compared, result.differing, result.problem, result.moment) == (1, 0, None, None)
    assert (result.rpo_events, result.proven) == (2, True)
    assert list(result.rto or {}) == ["fetch", "unpack", "verify", "open"]
    assert ids(empty_store) == ["a", "b", "c"]
    assert empty_store.list_undo() == []


def test_a_moment_is_rehearsed_and_the_results_are_listed_newest_first(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b", "c"))
    empty_store.create_backup()

    newest, moment = empty_store.rehearse(), empty_store.rehearse(Moment(sequence=2))

    assert (newest.ok, newest.kind, newest.events) == (True, "newest", 3)
    assert (moment.ok, moment.kind, moment.events, moment.compared) == (True, "moment", 2, 2)
    assert moment.moment is not None
    assert moment.moment.sequence == 2
    assert empty_store.list_rehearsals() == [moment, newest]


def test_a_backup_that_is_damaged_fails_its_rehearsal(store: Store) -> None:
    store.append(drafts(unique("a")))
    made = store.create_backup().backup
    with Path(made.path).open("r+b") as file:
        file.seek(made.size // 2)
        file.write(b"damage")

    result = store.rehearse(made.name)

    assert (result.ok, result.backup) == (False, made.name)
    assert result.problem is not None
    assert result.problem.code == "archive_damaged"
    store.delete_backup(made.name, force=True)


def test_what_is_not_there_is_an_error_and_no_result(empty_store: Store) -> None:
    with pytest.raises(BackupNotFound):
        empty_store.rehearse()
    with pytest.raises(BackupNotFound):
        empty_store.rehearse("backup_2024-12-27_120000.tar.gz")
    empty_store.append(drafts("a"))
    empty_store.create_backup()
    with pytest.raises(MomentUnavailable):
        empty_store.rehearse(Moment(sequence=2))
    assert empty_store.list_rehearsals() == []
