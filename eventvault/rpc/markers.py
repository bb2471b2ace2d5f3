"""The marks of a port's methods, for what a signature cannot say, such as `changes` and `deadline`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Marks:
    """The marks of one method, as the decorators below describe them."""

    changes: bool = False
    repeatable: bool = False
    kind: str = ""
    deed: str = ""
    deadline: float | None = None
    of_connection: bool = False

    @property
    def has_caller(self) -> bool:
        """Whether each call says who makes it."""
        return bool(self.kind or self.deed)


def changes(function: Function) -> Function:
    """Mark a method that changes something: each call has an operation id and takes effect once, if sent again too."""
    return _marked(function, changes=True)


def repeatable(function: Function) -> Function:
    """Mark a method with `changes` that may take effect twice: it is called even if its record cannot be read."""
    return _marked(function, repeatable=True)


def operation(kind: str) -> Callable[[Function], Function]:
    """Mark a method with `changes` as long work of this kind: listed, watched, cancelled, and begun without waiting.

    Its owner may have the parameter `operation` (`eventvault.operations.operation.Operation`), to report progress. If
    the caller does not wait, the next store calls the method again, with the notes of the first call.
    """
    return lambda function: _marked(function, kind=kind)


def audited(deed: str) -> Callable[[Function], Function]:
    """Mark a method with `changes` as a deed: the audit has who began it and what became of it.

    `eventvault.store.deeds` chooses what the audit has of its arguments and its answer.
    """
    return lambda function: _marked(function, deed=deed)


def deadline(seconds: float) -> Callable[[Function], Function]:
    """Limit the time that a client waits for the answer, also if another store takes over meanwhile."""
    return lambda function: _marked(function, deadline=seconds)


def of_connection(function: Function) -> Function:
    """Mark a method whose effect ends with its connection: client and server implement it themselves."""
    return _marked(function, of_connection=True)


def _marked(function: Function, **marks: Any) -> Function:
    before = getattr(function, "marks", Marks())
    function.marks = replace(before, **marks)  # type: ignore[attr-defined]
    return function
