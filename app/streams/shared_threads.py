"""Threads that what all streams of a process share has only while there are streams."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from eventvault.errors import EventVaultError

log = logging.getLogger("eventvault.http")

AGAIN_SECONDS = 0.2


class SharedThreads:
    """steps: name of each thread → what it does again and again. An error is tried again. Safe for many threads."""

    def __init__(self, steps: Mapping[str, Callable[[], None]]) -> None:
        self._steps = steps
        self._lock = threading.Lock()
        self._members: dict[object, Callable[[], None]] = {}
        self._running: set[str] = set()

    @property
    def has_members(self) -> bool:
        return bool(self._members)

    def join(self, member: object, wake: Callable[[], None]) -> None:
        """Have the threads run, and `wake` called by `wake_all`, until `leave`.

        Raises RuntimeError if the system refuses a thread.
        """
        with self._lock:
            self._members[member] = wake
            starting = self._steps.keys() - self._running
            self._running |= starting
        for name in starting:
            try:
                threading.Thread(target=self._run, args=(name,), name=name, daemon=True).start()
            except RuntimeError:
                with self._lock:
                    self._running.discard(name)
                raise

    def leave(self, member: object) -> None:
        with self._lock:
            self._members.pop(member, None)

    def wake_all(self) -> None:
        with self._lock:
            waking = dict.fromkeys(self._members.values())
        for wake in waking:
            wake()

    def _run(self, name: str) -> None:
        while self._is_needed(name):
            try:
                self._steps[name]()
            except EventVaultError as error:
                log.debug("the streams wait for the store: %s", error)
                time.sleep(AGAIN_SECONDS)
            except Exception:
                log.exception("reading for the streams failed unexpectedly; it is tried again")
                time.sleep(AGAIN_SECONDS)

    def _is_needed(self, name: str) -> bool:
        with self._lock:
            if not self._members:
                self._running.discard(name)
            return bool(self._members)
