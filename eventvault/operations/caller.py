"""Who asks for an operation, and whether the caller waits for its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

OPEN, SHELL, SCHEDULE, START = "open", "shell", "schedule", "start"
"""`startedBy` of requests without a token, of the command line, of the schedule, and of a start."""


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


def present_caller() -> Caller:
    return _caller.get()


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Let the operations that are begun in this context be this caller's."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)
