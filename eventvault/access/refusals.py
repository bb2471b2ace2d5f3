"""Counts the wrong tokens that a worker refused, and reports them at most once a second, however many there are."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

import msgspec

log = logging.getLogger("eventvault.access")

TELL_SECONDS = 1.0
MOST_ADDRESSES = 20
"""A report names at most so many addresses; the others are only counted."""


class Refusals(msgspec.Struct, frozen=True):
    """count: refused requests. blocked: how many of them came from a blocked address. addresses: their counts."""

    count: int
    blocked: int
    addresses: dict[str, int]

    def __str__(self) -> str:
        return "1 wrong token was refused" if self.count == 1 else f"{self.count} wrong tokens were refused"


class RefusalCounter:
    """tell: called in a separate thread, one call at a time. If it raises, that is logged, and the count is lost."""

    def __init__(self, tell: Callable[[Refusals], None], seconds: float = TELL_SECONDS) -> None:
        self._tell = tell
        self._seconds = seconds
        self._lock = threading.Lock()
        self._count = self._blocked = 0
        self._addresses: Counter[str] = Counter()
        self._telling = False

    def note(self, address: str, *, blocked: bool) -> None:
        with self._lock:
            self._count += 1
            self._blocked += blocked
            if address in self._addresses or len(self._addresses) < MOST_ADDRESSES:
                self._addresses[address] += 1
            is_first, self._telling = not self._telling, True
        if is_first:
            self._begin_to_tell()

    def _begin_to_tell(self) -> None:
        try:
            threading.Thread(target=self._tell_all, name="refusals", daemon=True).start()
        except RuntimeError:  # no thread is free: the next wrong token reports this one too
            self._telling = False

    def _tell_all(self) -> None:
        """Report until a second has passed without a wrong token."""
        while (refusals := self._take()) is not None:
            try:
                self._tell(refusals)
            except Exception as error:  # noqa: BLE001 - nobody else would hear of it
                log.warning("%s, which could not be reported: %s", refusals, error)
            time.sleep(self._seconds)

    def _take(self) -> Refusals | None:
        with self._lock:
            if not self._count:
                self._telling = False
                return None
            refusals = Refusals(self._count, self._blocked, dict(self._addresses))
            self._count = self._blocked = 0
            self._addresses.clear()
            return refusals
