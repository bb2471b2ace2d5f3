"""Begins an operation without waiting for it, follows it to its end, and returns its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from app.store_retry import retry_while_store_is_away
from eventvault import errors
from eventvault.operations.caller import Caller, OperationBegun, calling
from eventvault.operations.entry import OperationEntry
from eventvault.operations.operation import Progress
from eventvault.operations.records import INTERRUPTED, QUEUED, RUNNING, SUCCEEDED

if TYPE_CHECKING:
    from eventvault.store.ports.store import Store

WATCH_SECONDS = 0.5


def begin(call: Callable[[], Any], started_by: str) -> str:
    """Start the operation that `call` runs in the store, and return its id without waiting for its end."""
    try:
        with calling(Caller(started_by, asynchronous=True)):
            retry_while_store_is_away(call)
    except OperationBegun as begun:
        return begun.operation_id
    raise TypeError(f"{call} is not an operation")


def follow(store: Store, operation_id: str, show: Callable[[Progress], None]) -> OperationEntry:
    """Return the operation once it has ended. show: called with its progress until then. Raises OperationNotFound."""
    versions = {operation_id: 0}
    while True:
        changed = retry_while_store_is_away(lambda: store.watch_operations(versions, WATCH_SECONDS))
        for entry in changed.values():
            if entry.state not in (QUEUED, RUNNING):
                return entry
            versions[operation_id] = entry.version
            show(entry.progress)


def result_of(entry: OperationEntry) -> Any:
    """Return what the operation returned. Raises its error, or OperationCancelled."""
    from eventvault.store.ports import methods

    if entry.state == SUCCEEDED and entry.result is not None:
        return msgspec.json.decode(entry.result, type=methods.ALL[entry.method].result_type)
    if entry.error is not None:
        raise errors.from_wire(entry.error)
    if entry.state == INTERRUPTED:
        raise errors.StoreUnavailable(
            f"the operation {entry.id} was interrupted: its store ended", hint="nothing is half done; start it again"
        )
    raise errors.OperationCancelled(f"the operation {entry.id} was cancelled", hint="nothing was changed")
