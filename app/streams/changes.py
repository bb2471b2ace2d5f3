"""The source of a stream that reports changes: the end of the registry, and every operation, whoever began it.

It is for pages, which load what they show again once they hear of a change. So it sends no events, however many are
posted. A lost message does no harm, because the next one has the current state.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import orjson

from app.shared_answers import SharedAnswers
from app.streams.messages import COMMENT, id_of, message
from app.streams.shared_threads import SharedThreads
from eventvault.database.values import Head
from eventvault.errors import OperationNotFound
from eventvault.operations.entry import OperationEntry, OperationQuery
from eventvault.operations.records import QUEUED, RUNNING
from eventvault.store.ports.store import Store

RUNNING_OPERATIONS = OperationQuery(states=[QUEUED, RUNNING])
NEWEST_OPERATIONS = OperationQuery(limit=20)
"""A short operation begins and ends between two polls, but is then among the newest."""
PAUSE_SECONDS = 0.25
"""Seconds between two polls, and so between two messages of a kind on a stream."""
WAIT_SECONDS = 10.0
"""Seconds that one call waits in the store for a new head."""
_CHANGES = 1000
"""Most changes that are held for streams that have not sent them yet."""


class ChangeFeed:
    """Polls for changes, once for all streams of this process. Safe to use from many threads.

    head: the last known end of the registry; None before the first one, and after a time without streams.
    """

    def __init__(self, store: Store, answers: SharedAnswers) -> None:
        """answers: before a stream reports a change, the answers made before that change are dropped."""
        self.head: Head | None = None
        self._store = store
        self._answers = answers
        self._threads = SharedThreads({"changes": self._poll_operations, "heads": self._follow_head})
        self._lock = threading.Lock()
        self._last_entries: dict[str, OperationEntry] | None = None
        self._changes: deque[OperationEntry] = deque(maxlen=_CHANGES)
        self._count = 0

    @property
    def count(self) -> int:
        """The number of changes until now."""
        return self._count

    def join(self, member: object, wake: Callable[[], None]) -> None:
        """Call `wake` after each change, until `leave`. Raises RuntimeError if there is no thread."""
        if not self._threads.has_members:
            self.head = None  # a restore while nobody listened began another generation
        self._threads.join(member, wake)

    def leave(self, member: object) -> None:
        self._threads.leave(member)

    def since(self, count: int) -> tuple[int, list[OperationEntry]]:
        """Return the number of changes, and the newest state of each operation that changed after the first `count`."""
        if count == self._count:
            return count, []
        with self._lock:
            missing = min(self._count - count, len(self._changes))
            newer = list(self._changes)[len(self._changes) - missing :]
            return self._count, list({entry.id: entry for entry in newer}.values())

    def _poll_operations(self) -> None:
        listed = (*self._store.list_operations(RUNNING_OPERATIONS), *self._store.list_operations(NEWEST_OPERATIONS))
        current = {entry.id: entry for entry in listed}
        last = self._last_entries if self._last_entries is not None else current
        ended = self._read_again(entry for entry in last.values() if entry.ended_at is None and entry.id not in current)
        changed = [entry for entry in (*current.values(), *ended) if last.get(entry.id) != entry]
        self._answers.note_operations(changed)
        with self._lock:
            self._last_entries = current
            self._changes.extend(changed)
            self._count += len(changed)
        if changed:
            self._threads.wake_all()
        time.sleep(PAUSE_SECONDS)

    def _follow_head(self) -> None:
        """Wait for a new head. Without the pause, each of many posts would wake all streams."""
        head = self._store.wait_for_events(self.head, WAIT_SECONDS)
        if head == self.head:
            return
        self._answers.note_change(of_events=True)  # the events may have come from Kafka
        self.head = head
        self._threads.wake_all()
        time.sleep(PAUSE_SECONDS)

    def _read_again(self, missing: Iterable[OperationEntry]) -> list[OperationEntry]:
        entries = []
        for entry in missing:
            with suppress(OperationNotFound):
                entries.append(self._store.get_operation(entry.id))
        return entries


class ChangeSource:
    """The source of one stream of changes.

    has_events: whether it reports the end of the registry. started_by: it reports only the operations of this starter;
    None: all operations.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        describe: Callable[[OperationEntry], dict[str, Any]],
        started_by: str | None = None,
        *,
        has_events: bool = True,
    ) -> None:
        self.ended = False
        self._feed = feed
        self._describe = describe
        self._started_by = started_by
        self._has_events = has_events
        self._count = feed.count
        self._head = Head("", 0)

    def beginning(self, head: Head, running: list[OperationEntry]) -> bytes:
        """Return the first messages, which have the state before all changes."""
        return self._head_message(head) + self._operation_messages(running)

    def start(self, wake: Callable[[], None]) -> None:
        self._feed.join(self, wake)

    def close(self) -> None:
        self._feed.leave(self)

    def comment(self) -> bytes:
        return COMMENT + b"\n"

    def take(self) -> bytes:
        """Return messages for what is new, at most every PAUSE_SECONDS."""
        head = self._feed.head
        piece = self._head_message(head) if head is not None else b""
        self._count, changed = self._feed.since(self._count)
        return piece + self._operation_messages(changed)

    def _head_message(self, head: Head) -> bytes:
        is_old = head.generation == self._head.generation and head.sequence <= self._head.sequence
        if is_old or not self._has_events:
            return b""
        self._head = head
        return _message_of(head)

    def _operation_messages(self, entries: Iterable[OperationEntry]) -> bytes:
        return b"".join(
            message("operation", orjson.dumps(self._describe(entry)), id_of(self._head))
            for entry in entries
            if self._started_by in (None, entry.started_by)
        )


@lru_cache(maxsize=4)
def _message_of(head: Head) -> bytes:
    """Return the message `events`, which is the same for all streams."""
    return message("events", orjson.dumps({"generation": head.generation, "lastSequence": head.sequence}), id_of(head))
