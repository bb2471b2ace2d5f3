"""A transport in the memory of one process, for tests and for a dispatcher without workers."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from eventvault.jobs.lease import TICK_SECONDS
from eventvault.jobs.messages import Report, Tick, Work
from eventvault.jobs.transport import Position, Received, Submitted, WithoutTopics


class MemoryTransport(WithoutTopics):
    """The dispatcher's end; `worker` returns a worker's end."""

    def __init__(self, tick_seconds: float = TICK_SECONDS, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.tick_seconds = tick_seconds
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._reports: deque[Report] = deque()
        self._workers: dict[str, MemoryWorkerTransport] = {}
        self._is_awake = False
        self._ticks = 0
        self._next_tick = 0.0

    def open(self, positions: Sequence[Position], sessions: Mapping[str, int]) -> None:
        del positions, sessions
        self._next_tick = self._monotonic() + self.tick_seconds

    def receive(self, seconds: float, most: int, *, submissions: bool = True) -> tuple[list[Received], list[Submitted]]:
        del submissions
        with self._changed:
            until_tick = max(self._next_tick - self._monotonic(), 0.0)
            self._changed.wait_for(lambda: self._is_awake or (self._reports and most), min(seconds, until_tick))
            self._is_awake = False
            received = [Received(self._reports.popleft()) for _ in range(min(len(self._reports), most))]
            is_drained = not self._reports
        if is_drained and most and self._monotonic() >= self._next_tick:
            self._ticks += 1
            self._next_tick = self._monotonic() + self.tick_seconds
            received.append(Received(Tick(dispatcher="", number=self._ticks)))
        return received, []

    def send(self, work: Sequence[Work]) -> None:
        for message in work:
            worker = self._workers.get(message.to)
            if worker is not None:
                worker.deliver(message)

    def wake(self) -> None:
        with self._changed:
            self._is_awake = True
            self._changed.notify_all()

    def close(self) -> None:
        """Do nothing: the workers stay, and the next dispatcher finds them."""

    def worker(self) -> MemoryWorkerTransport:
        return MemoryWorkerTransport(self)

    def listen(self, session: str, worker: MemoryWorkerTransport | None) -> None:
        with self._changed:
            self._workers.pop(session, None)
            if worker is not None:
                self._workers[session] = worker

    def put(self, reports: Iterable[Report]) -> None:
        with self._changed:
            self._reports.extend(reports)
            self._changed.notify_all()


class MemoryWorkerTransport:
    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self._session = ""
        self._work: deque[Work] = deque()
        self._changed = threading.Condition()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def open(self, session: str) -> int:
        self._transport.listen(self._session, None)
        self._session = session
        with self._changed:
            self._work.clear()
        self._transport.listen(session, self)
        return 0

    def fileno(self) -> int:
        return self._descriptor

    def connections(self) -> int:
        return 1

    def deliver(self, message: Work) -> None:
        with self._changed:
            self._work.append(message)
            os.eventfd_write(self._descriptor, 1)
            self._changed.notify_all()

    def receive(self, seconds: float, most: int) -> list[Work]:
        with self._changed:
            self._changed.wait_for(lambda: self._work, seconds)
            messages = [self._work.popleft() for _ in range(min(len(self._work), most))]
            if not self._work:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._descriptor)
        return messages

    def report(self, reports: Sequence[Report]) -> None:
        self._transport.put(reports)

    def is_open(self) -> bool:
        return True

    def close(self, seconds: float) -> None:
        del seconds
        self._transport.listen(self._session, None)
        os.close(self._descriptor)
