"""Decides what becomes of jobs. Pure: the queue, what arrived and the clocks go in; changes and messages come out.

A turn is `begin`, any number of commands and reports, and `finish`. A decision is valid once its changes are on disk;
only then its messages are sent. After a failed write a new machine is loaded from the disk.

Two clocks are passed in. Instants decide when a job is due, and are only compared with instants. Moments (monotonic)
measure how long a worker is idle. Leases are counted in ticks, which the transport delivers.
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from eventvault.jobs import commands, dispatch, keys, transitions
from eventvault.jobs.changes import StoredValues
from eventvault.jobs.database import StoredTicks
from eventvault.jobs.job import JobRequest, JobType
from eventvault.jobs.messages import Work
from eventvault.jobs.queue import JobQueue, QueueLimits
from eventvault.jobs.sessions import Active, StoredSession, WorkerSession
from eventvault.jobs.transport import Loss
from eventvault.jobs.upkeep import Upkeep

_encoder = msgspec.json.Encoder()


class Decision(NamedTuple):
    """The decision of a turn. turn: its number, which `changes` has, too. work: the messages to send."""

    turn: int
    changes: dict[bytes, bytes | None]
    work: list[Work]


class Machine:
    """The turns of a queue. It belongs to one thread."""

    def __init__(
        self,
        reader: StoredValues,
        limits: QueueLimits,
        *,
        make_token: Callable[[], str] = lambda: secrets.token_hex(8),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.queue = JobQueue(reader, limits, make_token, chance)
        self.upkeep = Upkeep()
        self._turn = 0
        self._ticks_on_disk = StoredTicks()

    def load(self, moment: float) -> None:
        """Load the state from the disk. The next turn sends all running jobs to their sessions again."""
        queue, changes = self.queue, self.queue.ledger.changes
        queue.dispatcher = (changes.get(keys.META_DISPATCHER) or b"").decode()
        self._ticks_on_disk = msgspec.json.decode(changes.get(keys.TICKS) or b"{}", type=StoredTicks)
        queue.ticks = {False: self._ticks_on_disk.local, True: self._ticks_on_disk.number}
        self._turn = self._ticks_on_disk.turn
        for _, value in changes.scan(keys.KNOWN_TYPE, keys.end_of(keys.KNOWN_TYPE)):
            job_type = msgspec.json.decode(value, type=JobType)
            queue.types[job_type.name] = job_type
        queue.is_releasing = changes.get(keys.META_RELEASE) is not None
        queue.is_held = changes.get(keys.META_HELD) is not None
        queue.losses = msgspec.json.decode(changes.get(keys.META_LOSSES) or b"[]", type=list[Loss])
        paused = {key for key, _ in changes.scan(keys.PAUSED, keys.end_of(keys.PAUSED))}
        queue.pauses_new = keys.PAUSES_NEW in paused
        queue.paused = {key[1:].decode() for key in paused - {keys.PAUSES_NEW}}
        self._load_sessions(moment)
        queue.schedules.load()
        self.upkeep.start(moment)
        queue.serve()
        for session in queue.sessions.values():
            transitions.send_again(queue, session, session.active)

    def _load_sessions(self, moment: float) -> None:
        queue, changes = self.queue, self.queue.ledger.changes
        for _, value in changes.scan(keys.SESSION, keys.end_of(keys.SESSION)):
            stored = msgspec.json.decode(value, type=StoredSession)
            session = WorkerSession(stored.hello, stored.heard, moment, is_remote=stored.is_remote)
            queue.sessions[session.id] = session
        for key, _ in changes.scan(keys.ACTIVE, keys.end_of(keys.ACTIVE)):
            job = queue.ledger.existing(key[1:].decode())
            session = queue.session_of(job)
            session.active[job.token or ""] = Active(job, queue.ticks_of(session))

    def begin(self, now: int, moment: float) -> None:
        """Begin a turn. now: an instant. moment: monotonic, in seconds."""
        self.queue.now, self.queue.moment = now, moment

    def finish(self, *, goes_on: bool = True) -> Decision:
        """End the turn. goes_on: also do what is due, and send jobs; otherwise only the inputs take effect."""
        queue = self.queue
        if goes_on:
            self._go_on()
        queue.quarantine.finish_turn()
        for session in queue.sessions.values():
            if session.heard != session.heard_on_disk:
                queue.store(session)
        changes = queue.ledger.finish_turn()
        ticks = StoredTicks(queue.ticks[True], queue.ticks[False], self._turn)
        if changes or ticks != self._ticks_on_disk:
            self._turn += 1
            self._ticks_on_disk = msgspec.structs.replace(ticks, turn=self._turn)
            changes[keys.TICKS] = _encoder.encode(self._ticks_on_disk)
        work, queue.work = queue.work, []
        queue.fenced.clear()
        return Decision(self._turn, changes, work)

    def _go_on(self) -> None:
        queue = self.queue
        if not queue.is_held:
            queue.schedules.fire_due(queue.now, self._submit_firing)
        self.upkeep.turn(queue)
        if queue.is_releasing:
            commands.release(queue)
        if not queue.is_held:
            dispatch.dispatch(queue)

    def _submit_firing(self, request: JobRequest, schedule: str) -> None:
        commands.submit_one(self.queue, request, by="", origin="schedule", schedule=schedule)

    def seconds_until_due(self) -> float:
        """Return after how many seconds there is something to do, even if nothing arrives."""
        queue = self.queue
        if queue.is_releasing or self.upkeep.has_more:
            return 0.0
        if queue.is_held:
            return math.inf
        firing = queue.schedules.next_firing
        until_firing = math.inf if firing is None else max(firing - queue.now, 0) / 1e6
        return min(until_firing, dispatch.seconds_until_due(queue))
