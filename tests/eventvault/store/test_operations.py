"""The store's own work is listed, and its stop interrupts what runs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.operations.caller import Caller, OperationBegun, calling
from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.operations.records import OperationRecords
from eventvault.restore.swap.intent import Intent
from eventvault.settings import Settings
from eventvault.store.rpc import wire
from eventvault.store.rpc.server import StoreServer
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, ids, make_archive, make_foreign_database
from tests.stores import running_service

pytestmark = pytest.mark.slow


def listed(service: StoreService, **query: list[str]) -> list[OperationEntry]:
    return service.list_operations(OperationQuery(**query))


def begin_verify(service: StoreService, name: str) -> str:
    with calling(Caller(asynchronous=True)), pytest.raises(OperationBegun) as begun:
        service.verify_backup(name)
    return begun.value.operation_id


def test_a_backup_of_the_schedule_is_listed_and_one_that_is_skipped_is_not(store_service: StoreService) -> None:
    store_service.append(drafts(2))
    created = store_service.backups.create_if_changed()
    assert created is not None
    assert store_service.backups.create_if_changed() is None
    (entry,) = listed(store_service)
    assert (entry.kind, entry.state, entry.started_by, entry.method) == (
        "create", "succeeded", "schedule", "create_backup",
    )  # fmt: skip
    assert created.backup.name.encode() in (entry.result or b"")


def test_what_a_start_restores_is_listed(settings: Settings) -> None:
    make_archive(settings.restore_dir / "theirs.tar.gz", "theirs")
    with running_service(settings) as service:
        (entry,) = listed(service)
        assert (entry.kind, entry.state, entry.started_by) == ("startup", "succeeded", "shell"), (
            "no scheduler, no service"
        )
        assert b"theirs.tar.gz" in (entry.result or b"")


def test_what_a_start_cannot_restore_is_listed_with_its_error(settings: Settings) -> None:
    archive = make_archive(settings.restore_dir / "theirs.tar.gz", "theirs")
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    with running_service(settings) as service:
        states = {(entry.kind, entry.state) for entry in listed(service)}
        assert states <= {("startup", "failed")}


def test_an_import_and_a_recovery_are_listed(settings_with: Callable[..., Settings]) -> None:
    settings = settings_with({"AUTO_RECOVER": "true"})
    make_foreign_database(settings.database)
    with running_service(settings) as service:
        assert [(entry.kind, entry.state) for entry in listed(service)] == [("import", "succeeded")]
        service.append(drafts(3))
        service.create_backup()
    shutil.rmtree(settings.database)
    with running_service(settings) as service:
        assert [(entry.kind, entry.state) for entry in listed(service, kinds=["recover"])] == [("recover", "succeeded")]
        assert not listed(service, kinds=["recover"])[0].cancellable


def prepare(service: StoreService, verb: str) -> str:
    """Let there be something to restore or to undo. Returns the name of the backup."""
    service.append(drafts(2, "before"))
    backup = service.create_backup().backup.name
    service.append(drafts(2, "after"))
    if verb == "undo":
        service.restore(backup)
    return backup


@pytest.mark.parametrize("verb", ["restore", "undo"])
def test_a_restore_that_was_swapped_when_the_whole_service_was_killed_succeeds_at_the_next_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    with running_service(settings) as service:
        backup = prepare(service, verb)
        with monkeypatch.context() as patch:
            swap_closed = service.restorer.swapper.swap_closed

            def swap_and_be_killed(intent: Intent) -> Intent:
                patch.setattr(OperationRecords, "write", lambda *_: None)  # nothing is written any more
                patch.setattr(service.restorer.finisher, "finish_or_defer", lambda _: None)
                return swap_closed(intent)

            patch.setattr(service.restorer.swapper, "swap_closed", swap_and_be_killed)
            restored = service.undo() if verb == "undo" else service.restore(backup)
    with running_service(settings) as service:
        processes.wait_until(lambda: listed(service, kinds=[verb])[0].state == "succeeded", "it did not succeed")
        assert len(ids(service)) == restored.events
        assert len(listed(service, kinds=[verb])) == 1
        assert service.undo().events != restored.events


@pytest.mark.parametrize("verb", ["restore", "undo"])
def test_a_stop_after_the_swap_leaves_an_operation_that_succeeded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    with running_service(settings) as service:
        backup = prepare(service, verb)
        finisher = service.restorer.finisher
        finish = finisher.finish_or_defer

        def finish_and_be_told_to_end(intent: Intent) -> None:
            finish(intent)
            service.lifecycle.stop()

        monkeypatch.setattr(finisher, "finish_or_defer", finish_and_be_told_to_end)
        restored = service.undo() if verb == "undo" else service.restore(backup)
        (entry,) = listed(service, kinds=[verb])[:1]
        assert (entry.state, entry.error) == ("succeeded", None)
    with running_service(settings) as service:
        (entry,) = listed(service, kinds=[verb])[:1]
        assert entry.state == "succeeded"
        assert len(ids(service)) == restored.events == (4 if verb == "undo" else 2)


def test_a_stop_interrupts_what_waits_for_its_turn(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        name = service.create_backup().backup.name
        with service.verifier._request.held():
            operation_id = begin_verify(service, name)
            processes.wait_until(
                lambda: [entry.id for entry in listed(service, states=["queued"])] == [operation_id], "it does not wait"
            )
            stopped = threading.Thread(target=service.stop)
            stopped.start()
            stopped.join(60)
            assert service.get_operation(operation_id).state == "interrupted"
    with running_service(settings) as service:
        assert [entry.id for entry in listed(service, states=["interrupted"])] == [operation_id]


def test_a_check_that_waits_for_its_turn_can_be_cancelled(store_service: StoreService) -> None:
    store_service.append(drafts(2))
    name = store_service.create_backup().backup.name
    with store_service.verifier._request.held():
        operation_id = begin_verify(store_service, name)
        store_service.cancel_operation(operation_id)
        processes.wait_until(
            lambda: store_service.get_operation(operation_id).state == "cancelled", "it is not cancelled"
        )
    assert store_service.verify_backup(name).problem is None


def test_a_store_that_a_command_started_stays_while_an_operation_runs(store_service: StoreService) -> None:
    def is_unused(mode: str) -> bool:
        server = StoreServer(store_service, wire.StoreHello(wire.PROTOCOL, "", 1, "s", mode), Path("/nowhere"))
        server._unused_since = 0.0
        return server._unused()

    assert is_unused("command")
    with store_service.operations.internal("verify", "verify_backup", "shell"):
        assert not is_unused("command")
        assert is_unused("service"), "a service that has ended needs no store"


def test_metrics_count_the_operations_by_kind_and_state(store_service: StoreService) -> None:
    store_service.append(drafts(2))
    name = store_service.create_backup().backup.name
    for _ in range(2):
        store_service.verify_backup(name)
    counted = {(one["kind"], one["state"]): one["count"] for one in store_service.status()["operations"]}
    assert counted == {("create", "succeeded"): 1, ("verify", "succeeded"): 2}
