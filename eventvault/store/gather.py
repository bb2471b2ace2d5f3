"""Group commit begins in the caller: the appends of one process's threads travel in one frame.

One thread leads: it sends what is queued and waits for the store; those that come meanwhile queue up, and one of them
leads next. So a busy process costs the store one request for each disk sync, however many threads it has.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from collections.abc import Callable, Sequence

from eventvault.errors import EventVaultError
from eventvault.event import EventDraft
from eventvault.store.interface import AppendResult

GROUP_BYTES = 8 * 2**20

Batch = tuple[Sequence[EventDraft], bytes]
"""The drafts of one append, and its nonce."""
Send = Callable[[list[Batch]], Sequence[AppendResult]]
"""Sends several appends and gives their results in order, or raises the error that all of them met."""


class Nonces:
    """8 bytes that no other append has: a random start for each process, and a count."""

    def __init__(self) -> None:
        self._process = 0
        self._begin()

    def next(self) -> bytes:
        if self._process != os.getpid():
            self._begin()
        return ((self._start + next(self._count)) % 2**64).to_bytes(8, "big")

    def _begin(self) -> None:
        self._process = os.getpid()
        self._start = secrets.randbits(64)
        self._count = itertools.count()


class _Ticket:
    """One append that waits. settled: locked until there is an answer, or until it leads."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.size = sum(len(draft.body) for draft in batch[0])
        self.answer: AppendResult | EventVaultError | None = None
        self.settled = threading.Lock()
        self.settled.acquire()


class Gatherer:
    """Sends appends through `send`, several at a time where several wait."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._nonces = Nonces()
        self._lock = threading.Lock()
        self._queue: list[_Ticket] = []
        self._led = False

    def append(self, drafts: Sequence[EventDraft]) -> AppendResult:
        ticket = _Ticket((drafts, self._nonces.next()))
        with self._lock:
            self._queue.append(ticket)
            follows = self._led
            self._led = True
        if follows:
            ticket.settled.acquire()
        if ticket.answer is None:
            self._lead()
        if isinstance(ticket.answer, EventVaultError):
            raise ticket.answer
        assert ticket.answer is not None
        return ticket.answer

    def _lead(self) -> None:
        """Send what is queued, this thread's own append first, then pass the lead on."""
        group = self._take()
        try:
            answers: Sequence[AppendResult | EventVaultError] = self._send([ticket.batch for ticket in group])
        except EventVaultError as error:
            answers = [error] * len(group)
        except BaseException as error:
            answers = [EventVaultError(f"the append failed: {error!r}", hint="send it again")] * len(group)
            raise
        finally:
            with self._lock:
                leader = self._queue[0] if self._queue else None
                self._led = leader is not None
            if leader is not None:
                leader.settled.release()
            for ticket, answer in zip(group, answers, strict=True):
                ticket.answer = answer
                ticket.settled.release()

    def _take(self) -> list[_Ticket]:
        with self._lock:
            room, count = GROUP_BYTES, 0
            while count < len(self._queue) and (room > 0 or not count):
                room -= self._queue[count].size
                count += 1
            group, self._queue = self._queue[:count], self._queue[count:]
            return group
