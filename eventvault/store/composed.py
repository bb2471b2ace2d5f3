"""A store that is put together from the owners of its ports."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from eventvault.operations.registry import OperationRegistry
from eventvault.rpc.methods import Method
from eventvault.store.dispatch import Dispatch
from eventvault.store.ports import methods
from eventvault.store.ports.event_log import EventLog


class ComposedStore:
    """Has every method of the ports; each calls the owner of its port."""

    def __init__(self, registry: OperationRegistry, *owners: object) -> None:
        """owners: one object for each port, whose class names that port as a base."""
        self.operations = registry
        self.calls = {name: _find_implementation(method, owners) for name, method in methods.ALL.items()}
        self.dispatch = Dispatch(self.calls, registry)

    def after_changes(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after each call that changes something, whatever its outcome, except appends."""
        for name, call in self.calls.items():
            if methods.ALL[name].marks.changes and methods.ALL[name].port is not EventLog:
                self.calls[name] = _notifying(call, changed)
        self.dispatch = Dispatch(self.calls, self.operations)


def _notifying(call: Callable[..., Any], changed: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(call)
    def call_and_notify(*arguments: Any, **named: Any) -> Any:
        try:
            return call(*arguments, **named)
        finally:
            changed()

    return call_and_notify


def _find_implementation(method: Method, owners: tuple[object, ...]) -> Callable[..., Any]:
    """Return the owner's method. Raises TypeError if the port has no owner, or the owner lacks the method."""
    for owner in owners:
        if method.port in type(owner).__mro__ and getattr(type(owner), method.name) is not method.function:
            implementation: Callable[..., Any] = getattr(owner, method.name)
            return implementation
    raise TypeError(f"nothing implements {method.port.__name__}.{method.name}")


def _forwarding(method: Method) -> Callable[..., Any]:
    @functools.wraps(method.function)
    def call(self: ComposedStore, *arguments: Any, **named: Any) -> Any:
        if method.marks.has_caller and "operation" not in named:  # else the caller has a handle of its own
            return self.dispatch.answer_here(method.name, method.ordered(arguments, named))
        return self.calls[method.name](*arguments, **named)

    return call


for _method in methods.ALL.values():
    setattr(ComposedStore, _method.name, _forwarding(_method))
