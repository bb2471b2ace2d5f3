"""Tells listeners how backups end. A listener that fails does not make the backup fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from eventvault.errors import EventVaultError

log = logging.getLogger("BackupManager")


class OutcomeListener(Protocol):
    """Its methods are called from the thread of the backup, so they must not wait."""

    def begun(self) -> None:
        """A scheduled backup begins."""

    def succeeded(self) -> None:
        """A backup was made, or a scheduled one was skipped because nothing changed."""

    def failed(self, error: EventVaultError) -> None:
        """No backup was made, or the tables of one turned out to be damaged."""


class Outcomes:
    def __init__(self) -> None:
        self._listeners: list[OutcomeListener] = []

    def add(self, listener: OutcomeListener) -> None:
        self._listeners.append(listener)

    def begun(self) -> None:
        self._tell(lambda listener: listener.begun())

    def succeeded(self) -> None:
        self._tell(lambda listener: listener.succeeded())

    def failed(self, error: EventVaultError) -> None:
        self._tell(lambda listener: listener.failed(error))

    def _tell(self, tell: Callable[[OutcomeListener], None]) -> None:
        for listener in self._listeners:
            try:
                tell(listener)
            except Exception:
                log.exception("the outcome of a backup could not be passed on")
