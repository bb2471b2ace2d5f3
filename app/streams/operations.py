"""The source of a stream of one operation, and the thread that watches the operations of all such streams."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from app.shared_answers import SharedAnswers
from app.streams.messages import COMMENT, message
from app.streams.shared_threads import SharedThreads
from eventvault.errors import OperationNotFound
from eventvault.operations.entry import OperationEntry
from eventvault.operations.records import INTERRUPTED
from eventvault.store.ports.store import Store

WATCH_SECONDS = 1.0
"""Seconds that one call waits in the store. The next call watches for a stream that begins meanwhile."""
PAUSE_SECONDS = 0.25
"""Seconds between two calls, because progress changes with each block that is read or written."""
GRACE_SECONDS = 5.0
"""Seconds until the stream of an `interrupted` operation ends: the next store may continue the operation."""


class OperationFeed:
    """Safe to use from many threads. It has a thread of its own only between `join` and `leave`."""

    def __init__(self, store: Store, answers: SharedAnswers) -> None:
        """answers: older ones are dropped before a stream reports that an operation has ended."""
        self._store = store
        self._answers = answers
        self._threads = SharedThreads({"operations": self._watch})
        self._lock = threading.Lock()
        self._watched: Counter[str] = Counter()
        self._entries: dict[str, OperationEntry] = {}

    def join(self, member: object, entry: OperationEntry, wake: Callable[[], None]) -> None:
        """Watch an operation until `leave`. entry: its current state. Raises RuntimeError if there is no thread."""
        with self._lock:
            self._watched[entry.id] += 1
            self._entries.setdefault(entry.id, entry)
        self._threads.join(member, wake)

    def leave(self, member: object, operation_id: str) -> None:
        self._threads.leave(member)
        with self._lock:
            self._watched[operation_id] -= 1
            if self._watched[operation_id] <= 0:
                del self._watched[operation_id]
                self._entries.pop(operation_id, None)

    def entry(self, operation_id: str) -> OperationEntry | None:
        """Return the last known state of the operation; None if the store no longer has it."""
        return self._entries.get(operation_id)

    def _watch(self) -> None:
        with self._lock:
            versions = {name: entry.version for name, entry in self._entries.items()}
        changed: dict[str, OperationEntry | None] = {}
        try:
            changed.update(self._store.watch_operations(versions, WATCH_SECONDS))
        except OperationNotFound:
            changed = {name: self._find(name) for name in versions}
        self._answers.note_operations(entry for entry in changed.values() if entry is not None)
        with self._lock:
            for name, entry in changed.items():
                if entry is None:
                    self._entries.pop(name, None)
                elif name in self._watched:
                    self._entries[name] = entry
        if changed:
            self._threads.wake_all()
        time.sleep(PAUSE_SECONDS)

    def _find(self, operation_id: str) -> OperationEntry | None:
        with suppress(OperationNotFound):
            return self._store.get_operation(operation_id)
        return None


class OperationSource:
    """The source of a stream of one operation. entry: its state when the stream begins. describe: returns its JSON."""

    def __init__(
        self, feed: OperationFeed, entry: OperationEntry, describe: Callable[[OperationEntry], dict[str, Any]]
    ) -> None:
        self.ended = False
        self._feed = feed
        self._entry = entry
        self._describe = describe
        self._sent: OperationEntry | None = None
        self._changed_at = 0.0
        self._is_watching = False

    def start(self, wake: Callable[[], None]) -> None:
        self._is_watching = True
        self._feed.join(self, self._entry, wake)
        wake()

    def close(self) -> None:
        if self._is_watching:
            self._feed.leave(self, self._entry.id)

    def comment(self) -> bytes:
        return COMMENT + b"\n"

    def take(self) -> bytes:
        entry = self._feed.entry(self._entry.id)
        if entry is None:
            self.ended = True
            return b""
        is_new = entry != self._sent
        if is_new:
            self._sent, self._changed_at = entry, time.monotonic()
        self.ended = self._has_ended(entry)
        return message("operation", orjson.dumps(self._describe(entry)), entry.state.encode()) if is_new else b""

    def _has_ended(self, entry: OperationEntry) -> bool:
        if entry.ended_at is None:
            return False
        return entry.state != INTERRUPTED or time.monotonic() - self._changed_at >= GRACE_SECONDS
