"""Passes each request to the method of the owner that answers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eventvault import progress
from eventvault.store.operation_ids import Operation, OperationIds
from eventvault.store.ports import methods
from eventvault.store.ports.methods import Method


@dataclass(frozen=True)
class _Endpoint:
    """wants_operation: the owner's method takes the Operation too, as `operation`."""

    method: Method
    call: Callable[..., Any]
    wants_operation: bool


class Dispatch:
    """calls: the owners' methods by their names. A method that changes something runs once for each operation id."""

    def __init__(self, calls: Mapping[str, Callable[..., Any]], operation_ids: OperationIds) -> None:
        self._operation_ids = operation_ids
        self._endpoints = {
            name: _Endpoint(methods.ALL[name], call, "operation" in inspect.signature(call).parameters)
            for name, call in calls.items()
        }

    def answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """arguments: as `wire.read_request` gives them."""
        with progress.running(name):
            return self._answer(self._endpoints[name], arguments)

    def _answer(self, endpoint: _Endpoint, arguments: tuple[Any, ...]) -> Any:
        if not endpoint.method.marks.changes:
            positional, named = endpoint.method.named(arguments)
            return endpoint.call(*positional, **named)
        positional, named = endpoint.method.named(arguments[:-1])

        def work(operation: Operation) -> Any:
            more = {"operation": operation} if endpoint.wants_operation else {}
            return endpoint.call(*positional, **named, **more)

        return self._operation_ids.run(endpoint.method, arguments[-1].hex(), work)
