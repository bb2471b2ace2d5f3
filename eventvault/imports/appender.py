"""Appends batches one after the other in its own thread, while the caller prepares the next batch."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from eventvault.database.values import AppendResult
from eventvault.events.event import EventDraft
from eventvault.imports.drafts import Drafts
from eventvault.imports.record import ImportRecord

Append = Callable[[Sequence[EventDraft]], AppendResult]

_POLL_SECONDS = 0.5
END_SECONDS = 120.0
"""How long the end waits for an append that has begun: an append is tried again for as long while the store is away."""


class AppendedBatch(NamedTuple):
    """An appended batch. records: those of the batch. drafts: of the records. result: None if there was no draft."""

    records: Sequence[ImportRecord]
    drafts: Drafts
    result: AppendResult | None


class Appender:
    """Use it as a context. Its end waits for the append that has begun, and drops the batches after it."""

    def __init__(self, append: Append) -> None:
        self._append = append
        self._queue: queue.Queue[tuple[Sequence[ImportRecord], Drafts] | None] = queue.Queue(1)
        """None: no batch follows."""
        self._done: deque[AppendedBatch] = deque()
        self._failure: BaseException | None = None
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="append", daemon=True)

    def __enter__(self) -> Appender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._dropped.set()
        self._thread.join(END_SECONDS)

    def put(self, records: Sequence[ImportRecord], drafts: Drafts) -> None:
        """Have a batch appended; wait until the queue has room. Raises what an append has raised."""
        self._put((records, drafts))

    def done(self) -> Iterator[AppendedBatch]:
        """Yield the batches that were appended meanwhile."""
        while self._done:
            yield self._done.popleft()

    def finish(self) -> Iterator[AppendedBatch]:
        """Yield the remaining batches as they are appended. Raises what an append has raised."""
        self._put(None)
        while self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
            yield from self.done()
        yield from self.done()  # the thread may have ended before the first check
        if self._failure is not None:
            raise self._failure

    def _put(self, batch: tuple[Sequence[ImportRecord], Drafts] | None) -> None:
        while self._failure is None:
            with suppress(queue.Full):
                self._queue.put(batch, True, _POLL_SECONDS)
                return
        raise self._failure

    def _run(self) -> None:
        try:
            while not self._dropped.is_set():
                try:
                    batch = self._queue.get(True, _POLL_SECONDS)
                except queue.Empty:
                    continue
                if batch is None:
                    return
                records, drafts = batch
                result = self._append(drafts.drafts) if drafts.drafts else None
                self._done.append(AppendedBatch(records, drafts, result))
        except BaseException as error:  # noqa: BLE001  # the caller raises it
            self._failure = error
