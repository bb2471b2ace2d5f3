"""The store's status, asked for once for all who want it within half a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from app.edge import current_edge, shared_answer
from app.shared_answers import Question
from eventvault.errors import EventVaultError

Made = TypeVar("Made")


class Status:
    """The status that the store answered, or the error that it answered instead."""

    def __init__(self, status: dict[str, Any], error: EventVaultError | None = None) -> None:
        self._status = status
        self._error = error
        self._made: Any = None

    def get(self) -> dict[str, Any]:
        """Return `Store.status()`, or raise what it raised."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._status

    def once(self, make: Callable[[Status], Made]) -> Made:
        """Return `make(self)`, which is called once for all who ask for it."""
        if self._made is None:
            self._made = make(self)
        made: Made = self._made
        return made

    def encode(self) -> bytes | None:
        return None if self._error is not None else orjson.dumps(self._status)

    @classmethod
    def decode(cls, encoded: bytes) -> Status:
        return cls(orjson.loads(encoded))


def current_status() -> Status:
    edge = current_edge()

    def ask() -> Status:
        try:
            status = edge.store.status()
        except EventVaultError as error:
            return Status({}, error)
        edge.away.with_since([])
        return Status(status)

    return shared_answer(Question("status", ask, Status.encode, Status.decode))
