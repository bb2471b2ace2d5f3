"""The operations in the registry of this process. They can be asked for during a start too."""

from __future__ import annotations

from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.operations.registry import OperationRegistry
from eventvault.store.ports.operations import WATCH_SECONDS, Operations


class OperationsOwner(Operations):
    def __init__(self, registry: OperationRegistry) -> None:
        self._registry = registry

    def list_operations(self, query: OperationQuery) -> list[OperationEntry]:
        return self._registry.page(query)

    def get_operation(self, operation_id: str) -> OperationEntry:
        return self._registry.get(operation_id)

    def watch_operations(self, versions: dict[str, int], seconds: float) -> dict[str, OperationEntry]:
        return self._registry.watch(versions, min(seconds, WATCH_SECONDS))

    def cancel_operation(self, operation_id: str) -> OperationEntry:
        return self._registry.cancel(operation_id)
