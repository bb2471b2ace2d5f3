"""Takes over, into a new `jobs_db`, what another one left unfinished. All of it is held until somebody resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from eventvault.jobs import commands, keys, transitions
from eventvault.jobs.job import Job
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.transport import Position
from eventvault.jobs.unfinished import HeadLine, JobLine, Line, PositionLine, ScheduleLine, readable
from eventvault.jobs.waiting import PAGE

Ask = Callable[[Callable[[JobQueue], None]], None]
"""Has something done to the queue in a turn of its own."""
PAGE_BYTES = 16 * 2**20
"""Of payloads, after which a turn takes over no further job: those of PAGE jobs may have half a gigabyte."""


def is_new(queue: JobQueue) -> bool:
    """Return whether nothing was taken over from another `jobs_db` yet."""
    return queue.ledger.changes.get(keys.META_NEW) is not None


def take_over(path: Path, ask: Ask) -> int:
    """Take over what the file says. Returns the number of jobs; 0 if there is no file.

    Of a damaged file the lines that are right are taken over, and it is quarantined. Raises OSError if it cannot be
    read, and what `ask` raises.
    """
    jobs = page_bytes = 0
    page: list[Line] = []
    for line in readable(path):
        page.append(line)
        if isinstance(line, JobLine):
            jobs += 1
            page_bytes += len(bytes(line.payload))
        if len(page) == PAGE or page_bytes >= PAGE_BYTES:
            _take(ask, page)
            page, page_bytes = [], 0
    _take(ask, page)
    return jobs


def finish(queue: JobQueue) -> None:
    queue.ledger.changes.remove(keys.META_NEW)


def hold(queue: JobQueue, job: Job, payload: bytes) -> bool:
    """Take over a job that another `jobs_db` had. Returns False if it is there."""
    if queue.ledger.job(job.id) is not None:
        return False
    attempts = job.attempts
    if attempts and attempts[-1].outcome is None:
        attempts = (*attempts[:-1], msgspec.structs.replace(attempts[-1], outcome="lost", ended_at=queue.now))
    held = msgspec.structs.replace(
        job, state="held", order=queue.ledger.next_order(), line=0, token=None, session=None, attempts=attempts,
        origin="recovered",
    )  # fmt: skip
    if held.unique is not None:
        queue.ledger.changes.put(keys.unique_key(held.unique), held.id.encode())
    queue.ledger.add(held, payload)
    queue.ledger.enter_key(held)
    if held.is_stopping:
        transitions.end(queue, held, held, "cancelled")
    return True


def _take(ask: Ask, lines: list[Line]) -> None:
    def take(queue: JobQueue) -> None:
        commands.hold_all(queue)
        for line in lines:
            match line:
                case HeadLine(dispatcher=dispatcher):
                    queue.ledger.changes.put(keys.META_ADOPTED, dispatcher.encode())
                case JobLine(job=job, payload=payload):
                    hold(queue, job, bytes(payload))
                case ScheduleLine(stored=stored):
                    queue.schedules.take_over(stored, queue.now)
                case PositionLine(position=position):
                    _take_position(queue, position)

    if lines:
        ask(take)


def _take_position(queue: JobQueue, position: Position) -> None:
    """Read a topic on where another `jobs_db` was, unless this one has read it."""
    if queue.ledger.changes.get(keys.position_key(position.topic, position.partition)) is None:
        queue.read_to(position)
