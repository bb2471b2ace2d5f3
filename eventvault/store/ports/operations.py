"""The port to the operations: long work, whoever began it, of the last 30 days."""

from __future__ import annotations

from typing import Protocol

from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.rpc.markers import audited, changes, deadline, repeatable

ANSWER_SECONDS = 15.0
WATCH_SECONDS = 10.0
"""The longest watch."""


class Operations(Protocol):
    @deadline(ANSWER_SECONDS)
    def list_operations(self, query: OperationQuery) -> list[OperationEntry]:
        """Return the operations that match, newest first. Raises InvalidInput if `before` is not an operation."""

    @deadline(ANSWER_SECONDS)
    def get_operation(self, operation_id: str) -> OperationEntry:
        """Return one operation. Raises OperationNotFound."""

    @deadline(ANSWER_SECONDS + WATCH_SECONDS)
    def watch_operations(self, versions: dict[str, int], seconds: float) -> dict[str, OperationEntry]:
        """Wait until one of these operations has another version than in `versions`, and return those that have.

        versions: by id; 0 for an operation that was not seen yet. seconds: how long to wait, at most WATCH_SECONDS.
        Raises OperationNotFound.
        """

    @changes
    @repeatable
    @audited("cancel")
    def cancel_operation(self, operation_id: str) -> OperationEntry:
        """Have an operation end as soon as it can, with nothing half done. A repeated call changes nothing.

        Raises OperationNotFound, OperationEnded, or OperationDecided.
        """
