"""Passes each call to the owner of its port; a call that changes something goes through the registry of operations."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from eventvault import progress
from eventvault.operations.caller import Caller, OperationBegun, current_caller
from eventvault.operations.operation import Operation
from eventvault.operations.records import OperationRecord
from eventvault.operations.registry import Call, OperationRegistry
from eventvault.rpc.methods import Method
from eventvault.store import deeds
from eventvault.store.ports import methods


@dataclass(frozen=True)
class _Endpoint:
    """wants_operation: the owner's method takes the Operation too, as `operation`."""

    method: Method
    call: Callable[..., Any]
    wants_operation: bool


class Dispatch:
    """calls: the owners' methods by their names. A method that changes something runs once for each operation id."""

    def __init__(self, calls: Mapping[str, Callable[..., Any]], registry: OperationRegistry) -> None:
        self._registry = registry
        self._endpoints = {
            name: _Endpoint(methods.ALL[name], call, "operation" in inspect.signature(call).parameters)
            for name, call in calls.items()
        }

    def answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Answer a call that `wire.read_request` returned. Raises OperationBegun for a caller that does not wait."""
        with progress.running(name):
            method = methods.ALL[name]
            count = len(method.argument_names)
            if not method.marks.changes:
                return self._call(name, arguments)
            caller = arguments[count + 1] if method.marks.has_caller else Caller()
            return self._change(method, arguments[:count], arguments[count].hex(), caller)

    def answer_here(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Answer a call from this process, for the caller in its context."""
        method = methods.ALL[name]
        if not method.marks.has_caller:
            return self._call(name, arguments)
        return self._change(method, arguments, secrets.token_hex(8), current_caller())

    def carry_on(self, operation_id: str, record: OperationRecord) -> None:
        """Carry on an operation that an earlier store did not end, if its caller does not wait for it.

        Whoever waits sends the request again. Raises EventVaultError.
        """
        method = methods.ALL.get(record.method)
        if method is None or not method.marks.kind or not record.asynchronous:
            return
        try:
            arguments = msgspec.json.decode(record.arguments, type=tuple[method.argument_types])  # type: ignore[name-defined]
        except msgspec.MsgspecError:
            return  # of another version
        self._begin(method, arguments, operation_id, Caller(record.started_by, asynchronous=True))

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        positional, named = methods.ALL[name].named(arguments)
        return self._endpoints[name].call(*positional, **named)

    def _change(self, method: Method, arguments: tuple[Any, ...], operation_id: str, caller: Caller) -> Any:
        if caller.asynchronous and method.marks.kind:
            self._begin(method, arguments, operation_id, caller)
            raise OperationBegun(operation_id)
        marks = method.marks
        call = Call(
            method.name, method.result_type, marks.kind, operation_id, caller=caller, is_repeatable=marks.repeatable
        )
        return self._registry.run(call, self._work(method, arguments, caller))

    def _begin(self, method: Method, arguments: tuple[Any, ...], operation_id: str, caller: Caller) -> None:
        encoded = msgspec.json.encode(arguments)
        call = Call(method.name, method.result_type, method.marks.kind, operation_id, encoded, caller)
        self._registry.begin(call, self._work(method, arguments, caller))

    def _work(self, method: Method, arguments: tuple[Any, ...], caller: Caller) -> Callable[[Operation], Any]:
        endpoint = self._endpoints[method.name]
        positional, named = method.named(arguments)

        def work(operation: Operation) -> Any:
            more = {"operation": operation} if endpoint.wants_operation else {}
            return endpoint.call(*positional, **named, **more)

        def deed(operation: Operation) -> Any:
            about = deeds.describe(method, arguments)
            with self._registry.deeds.doing(
                method.marks.deed, caller.started_by, about.target, operation=operation.id, details=about.details
            ) as doing:
                answer = work(operation)
                doing.results = deeds.describe_answer(method.name, answer)
                return answer

        return deed if method.marks.deed else work
