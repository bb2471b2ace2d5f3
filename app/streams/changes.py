"""The source of a stream that says what changed: where the registry ends, and every operation, whoever began it.

It is for pages, which ask for what they show once they hear that it is different. So it sends no event, however many
are posted, and nothing is lost if a message is: the next one says the present state.
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
"""Short operations begin and end between two looks: they are among the newest."""
PAUSE_SECONDS = 0.25
"""The time between two looks, and so between two messages of a kind on a stream."""
WAIT_SECONDS = 10.0
"""How long one call waits in the store for another head."""
_CHANGES = 1000
"""How many changes are held for streams that did not send them yet."""


class ChangeFeed:
    """Looks for changes, once for all streams of this process. Safe to use from many threads.

    head: where the registry ends, as far as it was heard; None before, and where nobody has listened since.
    """

    def __init__(self, store: Store, answers: SharedAnswers) -> None:
        """answers: before a stream tells of a change, the answers made before that change are dropped."""
        self.head: Head | None = None
        self._store = store
        self._answers = answers
        self._threads = SharedThreads({"changes": self._look, "heads": self._follow})
        self._lock = threading.Lock()
        self._known: dict[str, OperationEntry] | None = None
        self._changes: deque[OperationEntry] = deque(maxlen=_CHANGES)
        self._count = 0

    @property
    def count(self) -> int:
        """How many changes there were."""
        return self._count

    def join(self, member: object, wake: Callable[[], None]) -> None:
        """Call `wake` after each change, until `leave`. Raises RuntimeError if there is no thread."""
        if not self._threads.has_members:
            self.head = None  # a restore while nobody listened began another generation
        self._threads.join(member, wake)

    def leave(self, member: object) -> None:
        self._threads.leave(member)

    def since(self, count: int) -> tuple[int, list[OperationEntry]]:
        """Return how many changes there were, and the newest state of each operation that changed after `count`."""
        if count == self._count:
            return count, []
        with self._lock:
            missing = min(self._count - count, len(self._changes))
            newer = list(self._changes)[len(self._changes) - missing :]
            return self._count, list({entry.id: entry for entry in newer}.values())

    def _look(self) -> None:
        listed = (*self._store.list_operations(RUNNING_OPERATIONS), *self._store.list_operations(NEWEST_OPERATIONS))
        present = {entry.id: entry for entry in listed}
        known = self._known if self._known is not None else present
        ended = self._ended(entry for entry in known.values() if entry.ended_at is None and entry.id not in present)
        changed = [entry for entry in (*present.values(), *ended) if known.get(entry.id) != entry]
        self._answers.note_operations(changed)
        with self._lock:
            self._known = present
            self._changes.extend(changed)
            self._count += len(changed)
        if changed:
            self._threads.wake_all()
        time.sleep(PAUSE_SECONDS)

    def _follow(self) -> None:
        """Wait for another head. Without the pause, each of many posts would wake all streams."""
        head = self._store.wait_for_events(self.head, WAIT_SECONDS)
        if head == self.head:
            return
        self._answers.note_change(of_events=True)  # they may have come from Kafka
        self.head = head
        self._threads.wake_all()
        time.sleep(PAUSE_SECONDS)

    def _ended(self, missing: Iterable[OperationEntry]) -> list[OperationEntry]:
        found = []
        for entry in missing:
            with suppress(OperationNotFound):
                found.append(self._store.get_operation(entry.id))
        return found


class ChangeSource:
    """has_events: whether it says where the registry ends. started_by: whose operations it has; None: all."""

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
        """Return the first messages: the state that every change follows."""
        return self._head_message(head) + self._operation_messages(running)

    def start(self, wake: Callable[[], None]) -> None:
        self._feed.join(self, wake)

    def close(self) -> None:
        self._feed.leave(self)

    def comment(self) -> bytes:
        return COMMENT + b"\n"

    def take(self) -> bytes:
        """Return what is new. The feed finds that at most every PAUSE_SECONDS."""
        head = self._feed.head
        piece = self._head_message(head) if head is not None else b""
        self._count, changed = self._feed.since(self._count)
        return piece + self._operation_messages(changed)

    def _head_message(self, head: Head) -> bytes:
        is_known = head.generation == self._head.generation and head.sequence <= self._head.sequence
        if is_known or not self._has_events:
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
    """Return the message that all streams have together."""
    return message("events", orjson.dumps({"generation": head.generation, "lastSequence": head.sequence}), id_of(head))
