"""A store that is put together from the owners of its ports."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from eventvault.store.ports import methods


class ComposedStore:
    """Has every method of the ports; each calls the owner of its port."""

    def __init__(self, *owners: object) -> None:
        """owners: one object for each port, whose class names that port as a base."""
        self.calls = {name: _bound(method, owners) for name, method in methods.ALL.items()}


def _bound(method: methods.Method, owners: tuple[object, ...]) -> Callable[..., Any]:
    """The owner's method. Raises TypeError for a port without an owner, and for an owner that lacks the method."""
    for owner in owners:
        if method.port in type(owner).__mro__ and getattr(type(owner), method.name) is not method.function:
            bound: Callable[..., Any] = getattr(owner, method.name)
            return bound
    raise TypeError(f"nothing implements {method.port.__name__}.{method.name}")


def _forwarding(method: methods.Method) -> Callable[..., Any]:
    @functools.wraps(method.function)
    def call(self: ComposedStore, *arguments: Any, **named: Any) -> Any:
        return self.calls[method.name](*arguments, **named)

    return call


for _method in methods.ALL.values():
    setattr(ComposedStore, _method.name, _forwarding(_method))
