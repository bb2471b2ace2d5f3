"""Messages of the topic `jobs` that are not jobs: the newest MAX_QUARANTINED of them stay in `jobs_db`. Pure."""

from __future__ import annotations

from itertools import islice

import msgspec

from eventvault.jobs import keys
from eventvault.jobs.job import JobError
from eventvault.jobs.ledger import Ledger
from eventvault.jobs.transport import Submitted

MAX_QUARANTINED = 1_000
"""Most messages in quarantine. A further one replaces an older one. The topic of dead letters has them all."""
_encoder = msgspec.msgpack.Encoder()


class QuarantinedSubmission(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that is not a job. instant: when it was read. value: its first bytes."""

    instant: int
    error: JobError
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class JobsQuarantine:
    """Collects the messages of a turn. At its end, the oldest messages make room for them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._new: dict[bytes, bytes] = {}
        self._begins = keys.QUARANTINE
        """The key before which all messages were removed."""

    def put(self, submitted: Submitted, error: JobError, now: int, most_bytes: int) -> None:
        """Add a message. most_bytes: how many bytes of its value stay."""
        position = submitted.position
        self._ledger.counts.quarantined += 1
        value = None if submitted.value is None else submitted.value[:most_bytes]
        entry = QuarantinedSubmission(now, error, submitted.key, value, submitted.headers)
        key = keys.quarantine_key(position.topic, position.partition, position.offset - 1)
        self._new.pop(key, None)
        self._new[key] = _encoder.encode(entry)

    def finish_turn(self) -> None:
        if not self._new:
            return
        newest = dict(islice(reversed(self._new.items()), MAX_QUARANTINED))
        for key, value in newest.items():
            self._ledger.changes.put(key, value)
        self._begins = min(self._begins, *newest)
        self._make_room(newest)
        self._new.clear()

    def _make_room(self, newest: dict[bytes, bytes]) -> None:
        """Remove the oldest messages that were there: at most one for each new one."""
        too_many = min(self._ledger.counts.quarantined - MAX_QUARANTINED, len(newest))
        if too_many <= 0:
            return
        changes = self._ledger.changes
        scanned = changes.reader.scan(self._begins, keys.end_of(keys.QUARANTINE))
        first = min(newest)
        for key in islice((key for key, _ in scanned if key not in newest), too_many):
            changes.remove(key)
            self._begins = min(key, first)
