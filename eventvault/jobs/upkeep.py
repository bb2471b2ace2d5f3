"""Upkeep of a queue: removes jobs that ended long ago, and finds waiting jobs whose type no worker knows. Pure."""

from __future__ import annotations

import math
from itertools import islice

import msgspec

from eventvault.jobs import keys, transitions
from eventvault.jobs.job import JobError
from eventvault.jobs.ledger import EndedJob
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.waiting import due_before, first_due, waiting_types

AT_ONCE = 500
"""Most jobs that are removed, or die of an unknown type, in one turn."""
SECONDS = 1.0
UNKNOWN_SECONDS = 5.0
START_SECONDS = 600.0
"""How long after a start no job dies because no worker knows its type: the worker may still come."""
MAX_TYPES = 1_000
_UNKNOWN = "job_type_unknown"
_ended = msgspec.json.Decoder(EndedJob)


class Upkeep:
    """Belongs to a queue. unknown: waiting type that no present worker runs → since when (an instant)."""

    def __init__(self) -> None:
        self.unknown: dict[str, int] = {}
        self.oldest_unserved: int | None = None
        """When the oldest waiting job whose type no present worker runs was due (an instant)."""
        self.oldest_waiting: int | None = None
        """When the oldest waiting job that is not paused was due (an instant)."""
        self._started = math.inf
        self.has_more = False
        """Whether there is more to do at once."""
        self._due = -math.inf
        self._unknown_due = -math.inf
        self._newest_removed = -1
        self._removed: dict[bool, bytes] = {}
        """`is_dead` → the key of the last job that was removed; all jobs before it were removed, too."""

    def start(self, moment: float) -> None:
        self._started = moment

    def turn(self, queue: JobQueue) -> None:
        is_more = False
        if queue.moment >= self._unknown_due:
            self._unknown_due = queue.moment + UNKNOWN_SECONDS
            is_more = self._find_unknown(queue)
        if queue.moment >= self._due:
            self._due = queue.moment + SECONDS
            self.oldest_waiting = self._find_oldest_waiting(queue)
            is_more |= self._remove_old(queue)
            self.has_more = is_more
        if self.has_more:
            self._due = self._unknown_due = -math.inf

    def _find_oldest_waiting(self, queue: JobQueue) -> int | None:
        served = (name for name in list(queue.waiting.served) if name not in queue.paused)
        heads = (head.run_at for name in served for _, head in queue.waiting.heads(queue.ledger.changes, name))
        others = () if self.oldest_unserved is None else (self.oldest_unserved,)
        return min((run_at for run_at in (*heads, *others) if run_at <= queue.now), default=None)

    def _remove_old(self, queue: JobQueue) -> bool:
        """Remove jobs that ended long ago, or are too many. Returns whether there may be more of them."""
        limits = queue.limits
        if queue.ledger.earliest_end <= self._newest_removed:  # the clock was set back
            self._removed.clear()
        queue.ledger.earliest_end = math.inf
        too_many = max(queue.ledger.counts.finished - limits.keep_max, 0)
        removed = self._remove(queue, too_many, queue.now - limits.keep, is_dead=False)
        removed += self._remove(queue, too_many - removed, queue.now - limits.keep_dead, is_dead=True)
        return removed >= AT_ONCE

    def _remove(self, queue: JobQueue, too_many: int, before: int, *, is_dead: bool) -> int:
        """Remove the oldest `too_many` jobs, and those that ended before an instant. Returns how many were removed."""
        prefix = keys.ended_prefix(is_dead=is_dead)
        start = self._removed.get(is_dead, prefix)
        removed = 0
        for key, value in list(islice(queue.ledger.changes.scan(start, keys.end_of(prefix)), AT_ONCE)):
            ended, _ = keys.read_ended(key)
            if removed >= too_many and ended >= before:
                break
            queue.ledger.remove(_ended.decode(value), key)
            self._removed[is_dead] = key
            self._newest_removed = max(self._newest_removed, ended)
            removed += 1
        return removed

    def _find_unknown(self, queue: JobQueue) -> bool:
        """Find waiting types without a present worker; jobs of unnamed types die. Returns whether there may be more."""
        unknown: dict[str, int] = {}
        oldest: int | None = None
        died = 0
        reader, served = queue.ledger.changes.reader, set(queue.waiting.served)
        for name in islice((name for name in waiting_types(reader) if name not in served), MAX_TYPES):
            first = first_due(reader, name)
            if first is None or first > queue.now:
                continue
            unknown[name] = self.unknown.get(name, queue.now)
            if not queue.is_paused(name):
                oldest = first if oldest is None else min(oldest, first)
            if name not in queue.types and queue.moment - self._started >= START_SECONDS:
                died += self._end_unknown(queue, name, AT_ONCE - died)
        self.unknown, self.oldest_unserved = unknown, oldest
        return died >= AT_ONCE

    def _end_unknown(self, queue: JobQueue, name: str, most: int) -> int:
        late = due_before(queue.ledger.changes.reader, name, queue.now - queue.limits.unknown_after)
        pending = (entry for entry in late if queue.ledger.existing(entry.job_id).state == "pending")
        entries = list(islice(pending, most))
        error = JobError(_UNKNOWN, f"no worker ever ran the type {name}")
        for entry in entries:
            job = queue.ledger.existing(entry.job_id)
            queue.waiting.remove(queue.ledger.changes, job)
            transitions.end(queue, job, msgspec.structs.replace(job, error=error), "dead")
        return len(entries)
