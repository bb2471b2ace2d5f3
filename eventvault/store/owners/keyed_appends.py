"""Appends of requests with an `Idempotency-Key`: each takes effect once, and a repeated one gets the first answer."""

from __future__ import annotations

import logging
import threading
from typing import NamedTuple

from eventvault.database.bus import EventBus
from eventvault.database.commit import Done
from eventvault.database.registry import AppendBatch, BatchOutdated
from eventvault.database.values import AppendResult
from eventvault.errors import EventVaultError
from eventvault.keyed_request import KeyedRequest, key_in_use_error

log = logging.getLogger("EventBus")


class _Running(NamedTuple):
    """The append that runs for a key. waiting: get its answer; a request that is sent again has the same nonce."""

    nonce: bytes
    waiting: list[Done]


class KeyedAppends:
    """Safe for many threads. One append at a time runs for each key."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._running: dict[bytes, _Running] = {}

    def append(self, batch: AppendBatch) -> AppendResult:
        return self._bus.committer.answer_to(lambda done: self.submit(batch, done))

    def submit(self, batch: AppendBatch, done: Done) -> None:
        """Answer as the first request was answered, or append the batch. batch: with its `request`."""
        request = _request_of(batch)
        with self._lock:
            running = self._running.get(request.id)
            if running is None:
                self._running[request.id] = _Running(batch.nonce, [done])
            elif running.nonce == batch.nonce:
                running.waiting.append(done)
        if running is None:
            self._begin(batch)
        elif running.nonce != batch.nonce:
            done(key_in_use_error())

    def _begin(self, batch: AppendBatch) -> None:
        """Answer from the database, else append. If the database gets an answer in between, begin again."""
        request = _request_of(batch)
        try:
            with self._bus.using() as registry:
                answer = registry.answer_of(request)
        except EventVaultError as error:
            self._end(request, error)
            return
        except Exception:
            log.exception("an append failed unexpectedly")
            self._end(request, EventVaultError("the append failed", hint="the log of the store says why"))
            return
        if answer is not None:
            self._end(request, answer)
        else:
            self._bus.committer.submit(batch, lambda answer: self._appended(batch, answer))

    def _appended(self, batch: AppendBatch, answer: AppendResult | EventVaultError) -> None:
        if isinstance(answer, BatchOutdated):
            self._begin(batch)
        else:
            self._end(_request_of(batch), answer)

    def _end(self, request: KeyedRequest, answer: AppendResult | EventVaultError) -> None:
        with self._lock:
            running = self._running.pop(request.id)
        for done in running.waiting:
            done(answer)


def _request_of(batch: AppendBatch) -> KeyedRequest:
    assert batch.request is not None, "a batch of a request with a key has it"
    return batch.request
