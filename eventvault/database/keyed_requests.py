"""Answers to requests with an `Idempotency-Key`: an answer is stored in the same write as the request's events.

So a restore rewinds the answers with the events: a repeated request takes effect again if its events are gone, and not
if they are there. A record refers to events, which are there as long as the record.
The journal's segments carry the answers to requests that stored events, so that a replay restores them too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from eventvault.database import keys
from eventvault.database.values import AppendResult
from eventvault.events import event
from eventvault.events.event import MAX_EVENTS, Appended
from eventvault.keyed_request import KEEP_MICROSECONDS, KeyedRequest, is_expired, key_reused_error

_DUPLICATE = 1
_DIFFERS = 2
_LAST_INSTANT = 2**63 - 1


class KeyedRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a request, as JSON in the database.

    at: when it was recorded, in microseconds. content: as in KeyedRequest. last_sequence: as in AppendResult.
    results: runs of consecutive sequences, each as first sequence, count and flags. refusal: as in KeyedRequest.
    """

    at: int
    content: str
    last_sequence: int
    results: list[tuple[int, int, int]]
    refusal: str = ""


class Answered(NamedTuple):
    """A request of the current write. sequence: the registry's last one after the events of the request."""

    request: KeyedRequest
    results: Sequence[Appended]
    sequence: int


class StoredAnswer(NamedTuple):
    """The answer to a request that stored events. sequence: of its last event. record: as in the database."""

    sequence: int
    request_id: bytes
    record: bytes


def key_values_of(answered: Answered, at: int, last_sequence: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the answer to a request."""
    request = answered.request
    record = KeyedRecord(at, request.content, last_sequence, _runs(answered.results), request.refusal)
    yield keys.request_key(request.id), msgspec.json.encode(record)
    yield keys.request_order_key(answered.sequence, at, request.id), b""


def read_record(value: bytes | None) -> KeyedRecord | None:
    return None if value is None else msgspec.json.decode(value, type=KeyedRecord)


def key_values_of_stored(answer: StoredAnswer, since: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of an answer; none if EventVault cannot have recorded it, as that costs no event.

    since: an answer from before this instant (microseconds) has expired and yields none either.
    """
    with suppress(msgspec.MsgspecError):
        record = msgspec.json.decode(answer.record, type=KeyedRecord)
        if record.at >= since and _is_sound(record, answer.sequence):
            yield keys.request_key(answer.request_id), answer.record
            yield keys.request_order_key(answer.sequence, record.at, answer.request_id), b""


def is_of_events(value: bytes, at: int) -> bool:
    """Return whether a record was made at `at` and its request stored an event that was not there before.

    The key may have been used again after its first answer had expired.
    """
    with suppress(msgspec.MsgspecError):
        record = msgspec.json.decode(value, type=KeyedRecord)
        return record.at == at and _stored_events(record)
    return False


def _stored_events(record: KeyedRecord) -> bool:
    return any(not flags & _DUPLICATE for _, _, flags in record.results)


def answer_of(record: KeyedRecord, request: KeyedRequest, read: Callable[[int], bytes]) -> AppendResult:
    """Return the first answer, with the ids of its events. read: returns the event of a sequence.

    Raises IdempotencyKeyReused if the first request sent something else, and what `read` raises.
    """
    if record.content != request.content:
        raise key_reused_error()
    results, ids = [], []
    for first, count, flags in record.results:
        for sequence in range(first, first + count):
            value = read(sequence)
            ids.append(event.indexed_of(value).id)
            recorded = event.recorded_of(value)
            results.append(Appended(sequence, recorded, bool(flags & _DUPLICATE), bool(flags & _DIFFERS)))
    return AppendResult(results, record.last_sequence, ids, record.refusal)


class Expiry:
    """Removes expired records in the order of their appends, a few with each write of a new one."""

    def __init__(self) -> None:
        self._from = keys.REQUEST_ORDER
        self._next = 0
        """No record expires before this instant (microseconds)."""

    def remove_expired(self, db: Any, batch: Any, now: int, limit: int) -> None:
        """Delete at most `limit` records in `batch`. Raises plyvel.Error."""
        if now < self._next:
            return
        with db.iterator(
            start=self._from, stop=keys.AFTER_REQUESTS, include_value=False, verify_checksums=True
        ) as rows:
            for key in itertools.islice(rows, limit):
                _, at, request_id = keys.read_request_order(key)
                if not is_expired(at, now):
                    self._next = at + KEEP_MICROSECONDS
                    return
                batch.delete(key)
                self._from = key
                record = read_record(db.get(keys.request_key(request_id), verify_checksums=True))
                if record is not None and record.at == at:  # otherwise the key was used again after it had expired
                    batch.delete(keys.request_key(request_id))


def remove_after(db: Any, batch: Any, upto: int) -> None:
    """Delete in `batch` each record of a request that was answered when the last sequence was beyond `upto`."""
    start = keys.request_order_key(upto + 1)
    with db.iterator(start=start, stop=keys.AFTER_REQUESTS, include_value=False, verify_checksums=True) as rows:
        for key in rows:
            batch.delete(key)
            batch.delete(keys.request_key(keys.read_request_order(key)[2]))


def _is_sound(record: KeyedRecord, sequence: int) -> bool:
    """Return whether the record can be of a request whose last stored event is `sequence`."""
    runs = record.results
    return (
        0 <= record.at <= _LAST_INSTANT
        and all(0 < first < first + count <= sequence + 1 for first, count, _ in runs)
        and sum(count for _, count, _ in runs) <= MAX_EVENTS
        and _stored_events(record)
    )


def _runs(results: Sequence[Appended]) -> list[tuple[int, int, int]]:
    runs: list[tuple[int, int, int]] = []
    for result in results:
        flags = _DUPLICATE * result.duplicate | _DIFFERS * result.differs
        first, count, before = runs[-1] if runs else (0, 0, -1)
        if flags == before and result.sequence == first + count:
            runs[-1] = (first, count + 1, flags)
        else:
            runs.append((result.sequence, 1, flags))
    return runs
