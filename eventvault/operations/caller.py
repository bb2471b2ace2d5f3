"""Who calls, and whether the caller waits for the end of the operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

OPEN, SHELL, SCHEDULE, START = "open", "shell", "schedule", "start"
"""`startedBy` of a request without a token, of the command line, of the schedule, and of a start."""


class Caller(msgspec.Struct, frozen=True):
    """asynchronous: the call returns when the operation has begun, by raising OperationBegun."""

    started_by: str = OPEN
    asynchronous: bool = False


class OperationBegun(Exception):
    """An operation was begun for a caller that does not wait for its end."""

    def __init__(self, operation_id: str) -> None:
        self.operation_id = operation_id
        super().__init__(operation_id)


_caller: ContextVar[Caller] = ContextVar("caller", default=Caller())  # noqa: B039 - it is frozen


def current_caller() -> Caller:
    return _caller.get()


def use(caller: Caller) -> None:
    """Let this thread act for this caller from now on. A thread does this for each request that it serves."""
    _caller.set(caller)


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Let operations that begin in this context belong to this caller."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


_operation_id: ContextVar[str] = ContextVar("operation_id", default="")


def using_operation_id(operation_id: str) -> Callable[[], None]:
    """Give the next call that changes something this operation id. Returns a function that takes it back."""
    _operation_id.set(operation_id)
    return _forget_operation_id


def take_operation_id() -> str:
    """Return the id that was given to this call, and forget it; empty if there is none."""
    operation_id = _operation_id.get()
    _forget_operation_id()
    return operation_id


def _forget_operation_id() -> None:
    _operation_id.set("")
