"""The jobs' records and their indexes: a change of a record also changes all index keys.

A job's record is encoded once per turn, however often the turn changes it.
"""

from __future__ import annotations

import math

import msgspec

from eventvault.jobs import keys
from eventvault.jobs.changes import Changes, StoredValues
from eventvault.jobs.job import Job, State

_encoder = msgspec.json.Encoder()
_record = msgspec.json.Decoder(Job)


class JobCounts(msgspec.Struct, omit_defaults=True):
    """The counters of a `jobs_db`. order: of the newest job. outbox: number of the outbox's newest message.

    refused: refused reports. duplicates: submitted jobs that were there already. quarantined: messages of `jobs` that
    are not jobs. states: jobs by state.
    """

    order: int = 0
    outbox: int = 0
    refused: int = 0
    duplicates: int = 0
    quarantined: int = 0
    states: dict[str, int] = {}

    @property
    def unfinished(self) -> int:
        return sum(self.states.get(state, 0) for state in ("pending", "sent", "running", "held"))

    @property
    def finished(self) -> int:
        return sum(self.states.get(state, 0) for state in ("done", "dead", "cancelled"))


class EndedJob(msgspec.Struct, frozen=True, array_like=True):
    """The part of a record that the removal of an old job needs."""

    id: str
    type: str
    state: State


class Ledger:
    """The records, as one turn changes them. It belongs to one queue."""

    def __init__(self, reader: StoredValues) -> None:
        self.changes = Changes(reader)
        value = reader.get(keys.META_COUNTS)
        self.counts = JobCounts() if value is None else msgspec.json.decode(value, type=JobCounts)
        self.version = 0
        """Grows with each change of a record or a schedule."""
        self.earliest_end: float = math.inf
        """The earliest end (an instant) of a job that has ended since old jobs were last removed."""
        self._changed: dict[str, Job] = {}
        self._lines: dict[str, dict[int, bytes | None]] = {}
        """The turn's changes of each key's line: place → id of the job that entered there; None: it left."""
        self._encoded_counts = value

    def job(self, job_id: str) -> Job | None:
        job = self._changed.get(job_id)
        if job is None:
            value = self.changes.get(keys.record_key(job_id))
            return None if value is None else _record.decode(value)
        return job

    def existing(self, job_id: str) -> Job:
        """Return a job that an index names. Raises LookupError if it has no record."""
        job = self.job(job_id)
        if job is None:
            raise LookupError(f"the job {job_id} is in an index of jobs_db, but has no record")
        return job

    def next_order(self) -> int:
        self.counts.order += 1
        return self.counts.order

    def add(self, job: Job, payload: bytes) -> None:
        group, job_id = keys.GROUPS[job.state], job.id.encode()
        self.changes.put(keys.payload_key(job.id), payload)
        self.changes.put(keys.created_key(job.order), job_id)
        self.changes.put(keys.state_key(group, job.order), keys.state_value(job.created, job.id))
        self.changes.put(keys.type_key(job.type, group, job.order), job_id)
        self._count(job.state, 1)
        self._changed[job.id] = job

    def replace(self, before: Job, job: Job) -> None:
        """Replace a job's record. before: its present record."""
        self._changed[job.id] = job
        if before.state == job.state:
            return
        self._count(before.state, -1)
        self._count(job.state, 1)
        old, new = keys.GROUPS[before.state], keys.GROUPS[job.state]
        if old != new:
            self._move(job, old, new)
            if before.is_final:
                self.changes.remove(_ended_key(before))
            if job.is_final:
                ended = EndedJob(job.id, job.type, job.state)
                self.changes.put(_ended_key(job), _encoder.encode(ended))
                self.earliest_end = min(self.earliest_end, job.ended or 0)

    def remove(self, ended: EndedJob, key: bytes) -> None:
        """Remove a job that has ended. key: its key in the index ENDED."""
        _, order = keys.read_ended(key)
        self._changed.pop(ended.id, None)
        group = keys.GROUPS[ended.state]
        for job_key in (
            key, keys.record_key(ended.id), keys.payload_key(ended.id), keys.result_key(ended.id),
            keys.created_key(order), keys.state_key(group, order), keys.type_key(ended.type, group, order),
        ):  # fmt: skip
            self.changes.remove(job_key)
        self._count(ended.state, -1)

    def enter_key(self, job: Job) -> bool:
        """Put a job at the end of the line of its key. Returns whether it is the first, which may run."""
        if job.key is None:
            return True
        head = keys.head_key(job.key)
        self.changes.put(keys.keyed_key(job.key, job.place), job.id.encode())
        self._lines.setdefault(job.key, {})[job.place] = job.id.encode()
        if self.changes.get(head) is not None:
            return False
        self.changes.put(head, job.id.encode())
        return True

    def may_run(self, job: Job) -> bool:
        """Return whether no earlier unfinished job has its key."""
        return job.key is None or self.changes.get(keys.head_key(job.key)) == job.id.encode()

    def leave_key(self, job: Job) -> Job | None:
        """Take a job out of the line of its key. If it was the first one, returns the next one, which may run now."""
        if job.key is None:
            return None
        self.changes.remove(keys.keyed_key(job.key, job.place))
        self._lines.setdefault(job.key, {})[job.place] = None
        if not self.may_run(job):
            return None
        following = self._next_in_line(job.key, job.place)
        if following is None:
            self.changes.remove(keys.head_key(job.key))
            return None
        self.changes.put(keys.head_key(job.key), following)
        return self.existing(following.decode())

    def finish_turn(self) -> dict[bytes, bytes | None]:
        """Return all changes, and begin the next turn."""
        self.version += len(self._changed)
        for job_id, job in self._changed.items():
            self.changes.put(keys.record_key(job_id), _encoder.encode(job))
        self._changed.clear()
        self._lines.clear()
        encoded = _encoder.encode(self.counts)
        if encoded != self._encoded_counts:
            self.changes.put(keys.META_COUNTS, encoded)
            self._encoded_counts = encoded
        written = self.changes.written
        self.changes = Changes(self.changes.reader)
        return written

    def _next_in_line(self, key: str, place: int) -> bytes | None:
        """Return the id of the first job after a place, from the database and the turn's changes of this line."""
        changed = self._lines.get(key, {})
        entered = {at: job_id for at, job_id in changed.items() if job_id is not None and at > place}
        scanned = self.changes.reader.scan(keys.keyed_key(key, place + 1), keys.end_of(keys.keyed_prefix(key)))
        written = next(
            ((keys.order_of(entry), job_id) for entry, job_id in scanned if keys.order_of(entry) not in changed), None
        )
        if written is not None:
            entered[written[0]] = written[1]
        return entered[min(entered)] if entered else None

    def _move(self, job: Job, old: bytes, new: bytes) -> None:
        self.changes.remove(keys.state_key(old, job.order))
        self.changes.remove(keys.type_key(job.type, old, job.order))
        self.changes.put(keys.state_key(new, job.order), keys.state_value(job.created, job.id))
        self.changes.put(keys.type_key(job.type, new, job.order), job.id.encode())

    def _count(self, state: State, difference: int) -> None:
        self.counts.states[state] = self.counts.states.get(state, 0) + difference


def _ended_key(job: Job) -> bytes:
    return keys.ended_key(is_dead=job.state == "dead", ended=job.ended or 0, order=job.order)
