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
    """The method changes something: each call carries an operation id, and lands once however often it is sent."""
    return _marked(function, changes=True)


def repeatable(function: Function) -> Function:
    """The method, which `changes` something, may take effect twice: it is done also if its record cannot be read."""
    return _marked(function, repeatable=True)


def operation(kind: str) -> Callable[[Function], Function]:
    """The method, which `changes` something, is long work of this kind: listed, watched, cancelled, begun without wait.

    Its owner may take the `operation` (`eventvault.operations.operation.Operation`) to report progress to. The next
    store calls the method again, with the notes of the first call, if the caller does not wait.
    """
    return lambda function: _marked(function, kind=kind)


def audited(deed: str) -> Callable[[Function], Function]:
    """The method, which `changes` something, is a deed: the audit has who began it and what came of it.

    `eventvault.store.deeds` says what of its arguments and its answer.
    """
    return lambda function: _marked(function, deed=deed)


def deadline(seconds: float) -> Callable[[Function], Function]:
    """A client waits at most this long for the answer, a store that takes over included."""
    return lambda function: _marked(function, deadline=seconds)


def of_connection(function: Function) -> Function:
    """The method belongs to one connection and ends with it: client and server implement it themselves."""
    return _marked(function, of_connection=True)


def _marked(function: Function, **marks: Any) -> Function:
    before = getattr(function, "marks", Marks())
    function.marks = replace(before, **marks)  # type: ignore[attr-defined]
    return function
