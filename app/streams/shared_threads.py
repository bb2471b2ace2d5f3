"""Threads that all streams of a process share, and that run only while there are streams."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from eventvault.errors import EventVaultError

log = logging.getLogger("eventvault.http")

AGAIN_SECONDS = 0.2


class SharedThreads:
    """Runs a thread for each of `steps` while there are members. Safe for many threads.

    steps: name of each thread → the function that it calls again and again, after an error too.
    """

    def __init__(self, steps: Mapping[str, Callable[[], None]]) -> None:
        self._steps = steps
        self._lock = threading.Lock()
        self._members: dict[object, Callable[[], None]] = {}
        self._running: set[str] = set()

    @property
    def has_members(self) -> bool:
        return bool(self._members)

    def join(self, member: object, wake: Callable[[], None]) -> None:
        """Let the threads run, and `wake_all` call `wake`, until `leave`.

        Raises RuntimeError if the system refuses a thread.
        """
        with self._lock:
            self._members[member] = wake
            starting = self._steps.keys() - self._running
            self._running |= starting
        not_started = set(starting)
        try:
            for name in starting:
                threading.Thread(target=self._run, args=(name,), name=name, daemon=True).start()
                not_started.discard(name)
        except RuntimeError:
            with self._lock:
                self._running -= not_started
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
