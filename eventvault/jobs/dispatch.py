"""Chooses which waiting job goes to which session: the most urgent due job first, to the least busy session.

If jobs wait in one session while another has been idle for IDLE_SECONDS, they are asked back.
"""

from __future__ import annotations

import heapq
import math

from eventvault.jobs import transitions
from eventvault.jobs.lease import LEASE_TICKS
from eventvault.jobs.queue import JobQueue
from eventvault.jobs.sessions import WorkerSession

IDLE_SECONDS = 1.0


def dispatch(queue: JobQueue) -> None:
    free = [session for session in queue.sessions.values() if session.free > 0]
    if free:
        _send_due(queue, free)
    _note_idle(queue)
    if any(session.idle < 0 for session in queue.sessions.values()):
        _ask_back(queue)


def seconds_until_due(queue: JobQueue) -> float:
    """Return the time until a job is due that a session has room for; infinity if there is no such job."""
    types = {name for session in queue.sessions.values() if session.free > 0 for name in session.types}
    changes = queue.ledger.changes
    heads = (head for name in types - queue.paused for _, head in queue.waiting.heads(changes, name))
    first = min((head.run_at for head in heads), default=None)
    return math.inf if first is None else max(first - queue.now, 0) / 1e6


def _send_due(queue: JobQueue, free: list[WorkerSession]) -> None:
    by_type: dict[str, list[WorkerSession]] = {}
    for session in free:
        for name in session.types.keys() - queue.paused:
            by_type.setdefault(name, []).append(session)
    changes, waiting = queue.ledger.changes, queue.waiting
    due: list[tuple[int, int, int, str, str]] = []
    for name in by_type:
        for priority, head in waiting.heads(changes, name):
            if head.run_at <= queue.now:
                due.append((-priority, head.run_at, head.order, name, head.job_id))
    heapq.heapify(due)
    while due:
        urgency, _, _, name, job_id = due[0]
        best = _least_busy(by_type[name])
        if best is None:
            heapq.heappop(due)
            continue
        transitions.send(queue, best, queue.ledger.existing(job_id))
        following = waiting.next(changes, name, -urgency)
        if following is not None and following.run_at <= queue.now:
            heapq.heapreplace(due, (urgency, following.run_at, following.order, name, following.job_id))
        else:
            heapq.heappop(due)


def _least_busy(sessions: list[WorkerSession]) -> WorkerSession | None:
    """Return the session with the most idle executors; if none is idle, that with the most room to prefetch."""
    best = max(sessions, key=_room) if len(sessions) > 1 else sessions[0]
    return best if best.free > 0 else None


def _room(session: WorkerSession) -> tuple[bool, int, int]:
    free = session.free
    return free > 0, session.idle, free


def _note_idle(queue: JobQueue) -> None:
    for session in queue.sessions.values():
        if session.idle <= 0:
            session.idle_since = None
        elif session.idle_since is None:
            session.idle_since = queue.moment


def _is_idle(session: WorkerSession, moment: float) -> bool:
    return session.idle > 0 and session.idle_since is not None and moment - session.idle_since >= IDLE_SECONDS


def _ask_back(queue: JobQueue) -> None:
    """Ask the sessions that have more jobs than executors to give back those that idle sessions could run."""
    idle = [session for session in queue.sessions.values() if _is_idle(session, queue.moment)]
    room = sum(session.idle for session in idle)
    if not room:
        return
    types = {name for session in idle for name in session.types} - queue.paused
    for session in queue.sessions.values():
        tokens = [
            token
            for token, active in session.active.items()
            if active.job.state == "sent" and active.job.type in types
            and (active.asked_back is None or queue.ticks[session.is_remote] - active.asked_back >= LEASE_TICKS)
        ][-min(room, -session.idle) :] if session.idle < 0 and room > 0 else []  # fmt: skip
        if tokens:
            room -= len(tokens)
            transitions.ask_back(queue, session, tokens)
