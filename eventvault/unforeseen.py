"""Unforeseen errors of a thread that must not end: it logs each, counts them, and goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Unforeseen:
    """Belongs to one thread, which `survived` keeps from ending. doing: its work, as the log names it.

    count: how many there were. newest: the error of the last round; empty if it succeeded.
    """

    def __init__(self, doing: str, log: logging.Logger) -> None:
        self.count = 0
        self.newest = ""
        self._doing = doing
        self._log = log

    @contextmanager
    def survived(self) -> Iterator[None]:
        """Do one round. An error that repeats is logged once."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - it is logged
            before, self.newest = self.newest, f"{type(error).__name__}: {error}"
            self.count += 1
            if self.newest != before:
                self._log.exception("%s failed unexpectedly, and goes on", self._doing)
        else:
            self.newest = ""
