"""The jobs that wait for a worker, in the order in which they are due. Pure: a turn's changes are passed in.

On disk each type has a queue for each priority. The first page of each queue that a present worker serves is in memory.
So a million waiting jobs need no memory, and a type that nobody runs does not hold up the others.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from eventvault.jobs import keys
from eventvault.jobs.changes import Changes, StoredValues
from eventvault.jobs.job import Job

PAGE = 1_000
PRIORITIES = range(keys.HIGHEST_PRIORITY, keys.LOWEST_PRIORITY - 1, -1)


class WaitingJob(NamedTuple):
    """A waiting job. run_at: an instant."""

    run_at: int
    order: int
    job_id: str


class _Queue:
    """The first page of one queue. entries: descending, so that the first job is the last of the list.

    end: jobs after this point are only on disk; None if there are none.
    """

    __slots__ = ("end", "entries")

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, str]] = []
        self.end: tuple[int, int] | None = (-1, 0)

    def add(self, entry: WaitingJob) -> None:
        if self.end is not None and (entry.run_at, entry.order) > self.end:
            return
        insort(self.entries, _descending(entry))
        if len(self.entries) > 2 * PAGE:
            del self.entries[:PAGE]
            last = self.entries[0]
            self.end = (-last[0], -last[1])

    def discard(self, entry: WaitingJob) -> None:
        descending = _descending(entry)
        index = bisect_left(self.entries, descending)
        if index < len(self.entries) and self.entries[index] == descending:
            del self.entries[index]

    def next(self) -> WaitingJob | None:
        if not self.entries:
            return None
        run_at, order, job_id = self.entries[-1]
        return WaitingJob(-run_at, -order, job_id)


class WaitingQueues:
    """The queues of all types. `serve` chooses which of them are in memory."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[int, _Queue]] = {}
        self._filled: dict[str, set[int]] = {}
        """Type → the priorities of its queues that may have a job."""

    @property
    def served(self) -> Iterable[str]:
        return self._queues.keys()

    def serve(self, types: set[str]) -> None:
        """Keep the queues of these types in memory, and forget the others."""
        for job_type in self._queues.keys() - types:
            del self._queues[job_type], self._filled[job_type]
        for job_type in types - self._queues.keys():
            self._queues[job_type] = {priority: _Queue() for priority in PRIORITIES}
            self._filled[job_type] = set(PRIORITIES)

    def add(self, changes: Changes, job: Job) -> None:
        changes.put(keys.waiting_key(job.type, job.priority, job.run_at, job.order), job.id.encode())
        queues = self._queues.get(job.type)
        if queues is not None:
            queues[job.priority].add(WaitingJob(job.run_at, job.order, job.id))
            self._filled[job.type].add(job.priority)

    def remove(self, changes: Changes, job: Job) -> None:
        changes.remove(keys.waiting_key(job.type, job.priority, job.run_at, job.order))
        queues = self._queues.get(job.type)
        if queues is not None:
            queues[job.priority].discard(WaitingJob(job.run_at, job.order, job.id))

    def next(self, changes: Changes, job_type: str, priority: int) -> WaitingJob | None:
        """Return the first job of a served queue, due or not; None if there is none."""
        queue = self._queues[job_type][priority]
        while not queue.entries and queue.end is not None:
            _load(changes, job_type, priority, queue)
        return queue.next()

    def heads(self, changes: Changes, job_type: str) -> Iterator[tuple[int, WaitingJob]]:
        """Yield the priority and first job of each queue of a served type, the most urgent priority first."""
        filled = self._filled[job_type]
        for priority in sorted(filled, reverse=True):
            head = self.next(changes, job_type, priority)
            if head is None:
                filled.discard(priority)
            else:
                yield priority, head


def waiting_types(reader: StoredValues) -> Iterator[str]:
    """Yield each type that has a waiting job on disk, in order."""
    start = keys.WAITING
    while (key := next((key for key, _ in reader.scan(start, keys.end_of(keys.WAITING))), None)) is not None:
        job_type = keys.type_of_waiting(key)
        yield job_type
        start = keys.end_of(keys.WAITING + keys.text(job_type))


def first_due(reader: StoredValues, job_type: str) -> int | None:
    """Return when the first job of a type is or was due; None if none waits."""
    firsts = []
    for priority in PRIORITIES:
        prefix = keys.waiting_prefix(job_type, priority)
        firsts += [keys.read_waiting(key)[0] for key, _ in islice(reader.scan(prefix, keys.end_of(prefix)), 1)]
    return min(firsts, default=None)


def due_before(reader: StoredValues, job_type: str, instant: int) -> Iterator[WaitingJob]:
    """Yield the jobs of a type that were due before `instant`, each priority in order."""
    for priority in PRIORITIES:
        prefix = keys.waiting_prefix(job_type, priority)
        stop = keys.waiting_key(job_type, priority, max(instant, 0), 0)
        for key, value in reader.scan(prefix, stop):
            run_at, order = keys.read_waiting(key)
            yield WaitingJob(run_at, order, value.decode())


def _load(changes: Changes, job_type: str, priority: int, queue: _Queue) -> None:
    """Read the next page of a queue whose page in memory is empty."""
    prefix = keys.waiting_prefix(job_type, priority)
    run_at, order = queue.end or (-1, 0)
    start = prefix if run_at < 0 else keys.waiting_key(job_type, priority, run_at, order + 1)
    page = [
        WaitingJob(*keys.read_waiting(key), value.decode())
        for key, value in islice(changes.scan(start, keys.end_of(prefix)), PAGE)
    ]
    queue.entries = sorted(map(_descending, page))
    queue.end = (page[-1].run_at, page[-1].order) if len(page) == PAGE else None


def _descending(entry: WaitingJob) -> tuple[int, int, str]:
    return -entry.run_at, -entry.order, entry.job_id
