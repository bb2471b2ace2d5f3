"""Takes over the unfinished jobs of a lost `jobs_db` into a new one. They are held until somebody resumes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from eventvault.jobs import commands, keys, transitions
from eventvault.jobs.job import Job
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.transport import Position
from eventvault.jobs.unfinished import HeadLine, JobLine, Line, PositionLine, ScheduleLine, read_or_quarantine
from eventvault.jobs.waiting import PAGE

Ask = Callable[[Callable[[JobQueue], None]], None]
"""Runs a function on the queue, in a turn of its own."""
PAGE_BYTES = 16 * 2**20
"""Bytes of payloads after which a turn takes over no further job: PAGE jobs may have half a gigabyte."""


def is_new(queue: JobQueue) -> bool:
    """Return whether the database is new, so that the jobs of a lost one may still be taken over."""
    return queue.ledger.changes.get(keys.META_NEW) is not None


def take_over(path: Path, ask: Ask) -> int:
    """Take over the content of the file. Returns the number of jobs; 0 if there is no file.

    A damaged file is quarantined; its undamaged lines are taken over. Raises OSError if the file cannot be read, and
    what `ask` raises.
    """
    jobs = page_bytes = 0
    page: list[Line] = []
    for line in read_or_quarantine(path):
        page.append(line)
        if isinstance(line, JobLine):
            jobs += 1
            page_bytes += len(bytes(line.payload))
        if len(page) == PAGE or page_bytes >= PAGE_BYTES:
            _take_page(ask, page)
            page, page_bytes = [], 0
    _take_page(ask, page)
    return jobs


def finish(queue: JobQueue) -> None:
    queue.ledger.changes.remove(keys.META_NEW)


def hold(queue: JobQueue, job: Job, payload: bytes) -> bool:
    """Add a job of another `jobs_db` as held. Returns False if the queue has it already."""
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


def _take_page(ask: Ask, lines: list[Line]) -> None:
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
    """Read a topic on from the position of another `jobs_db`, unless this one has read it."""
    if queue.ledger.changes.get(keys.position_key(position.topic, position.partition)) is None:
        queue.read_to(position)
