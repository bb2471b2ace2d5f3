"""The contract of the operations: begun with and without waiting, listed, watched, cancelled."""

from __future__ import annotations

import msgspec
import pytest

from eventvault.backups.entry import Created
from eventvault.errors import InvalidInput, OperationEnded, OperationNotFound
from eventvault.operations.caller import Caller, OperationBegun, calling
from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.store.ports.store import Store
from tests.contract.events import drafts

pytestmark = pytest.mark.slow


def ended(store: Store, operation_id: str) -> OperationEntry:
    """Watch it to its end."""
    entry = store.watch_operations({operation_id: 0}, 10.0)[operation_id]
    while entry.ended_at is None:
        entry = store.watch_operations({operation_id: entry.version}, 10.0).get(operation_id, entry)
    return entry


def begun(store: Store, label: str) -> str:
    with calling(Caller("tester", asynchronous=True)), pytest.raises(OperationBegun) as caught:
        store.create_backup(label)
    return caught.value.operation_id


def test_a_call_that_waits_is_an_operation_of_its_caller(store: Store) -> None:
    store.append(drafts("waits"))
    with calling(Caller("tester")):
        created = store.create_backup("waited for")
    newest = store.list_operations(OperationQuery(limit=1))[0]
    assert (newest.kind, newest.method, newest.state, newest.started_by) == (
        "create", "create_backup", "succeeded", "tester",
    )  # fmt: skip
    assert msgspec.json.decode(newest.result or b"", type=Created) == created
    assert store.get_operation(newest.id) == newest


def test_a_call_that_does_not_wait_is_begun_and_can_be_watched(store: Store) -> None:
    operation_id = begun(store, "begun")
    done = ended(store, operation_id)
    assert (done.state, done.progress.fraction) == ("succeeded", 1.0)
    made = msgspec.json.decode(done.result or b"", type=Created)
    assert made.backup.label == "begun"
    assert made.backup.name in {entry.name for entry in store.list_backups()}


def test_the_list_is_in_pages_and_by_state_and_kind(store: Store) -> None:
    for label in ("one", "two", "three"):
        name = store.create_backup(label).backup.name
    store.verify_backup(name)
    everything = [entry.id for entry in store.list_operations(OperationQuery())]
    first = store.list_operations(OperationQuery(limit=2))
    rest = store.list_operations(OperationQuery(before=first[-1].id))
    assert [entry.id for entry in (*first, *rest)] == everything
    assert {entry.kind for entry in store.list_operations(OperationQuery(kinds=["verify"]))} == {"verify"}
    assert store.list_operations(OperationQuery(states=["running"])) == []
    with pytest.raises(InvalidInput):
        store.list_operations(OperationQuery(before="none"))


def test_what_has_ended_cannot_be_cancelled_and_what_is_unknown_is_not_found(store: Store) -> None:
    operation_id = begun(store, "to its end")
    ended(store, operation_id)
    with pytest.raises(OperationEnded):
        store.cancel_operation(operation_id)
    for unknown in ("f" * 16, "../clock", ""):
        with pytest.raises(OperationNotFound):
            store.get_operation(unknown)
        with pytest.raises(OperationNotFound):
            store.cancel_operation(unknown)
