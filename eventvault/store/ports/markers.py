"""The marks of a port's methods, for what a signature cannot say: changes, deadline, bound to a connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Marks:
    """The marks of one method, as the decorators below describe them."""

    changes: bool = False
    deadline: float | None = None
    of_connection: bool = False


def changes(function: Function) -> Function:
    """The method changes something: each call carries an operation id, and lands once however often it is sent."""
    return _marked(function, Marks(changes=True))


def deadline(seconds: float) -> Callable[[Function], Function]:
    """A client waits at most this long for the answer, a store that takes over included."""
    return lambda function: _marked(function, Marks(deadline=seconds))


def of_connection(function: Function) -> Function:
    """The method belongs to one connection and ends with it: client and server implement it themselves."""
    return _marked(function, Marks(of_connection=True))


def _marked(function: Function, marks: Marks) -> Function:
    function.marks = marks  # type: ignore[attr-defined]
    return function
