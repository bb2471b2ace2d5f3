"""Decides what becomes of jobs. Pure: state, what arrived and the clocks go in; changes and messages come out.

A turn is `begin`, any number of requests and reports, and `finish`. What it decided counts once its changes are on
disk; only then its messages are sent. After a failed write the machine is made anew from what is on disk.

Two clocks are passed in. Instants, for what is due, are compared with instants of the same clock alone. Moments
(monotonic) measure how long a worker is idle. Leases are counted in ticks, which the transport delivers.
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from eventvault.jobs import arrows, asking, dispatch, keys
from eventvault.jobs.database import Ticks
from eventvault.jobs.job import Job, JobType
from eventvault.jobs.ledger import Ledger
from eventvault.jobs.messages import Work
from eventvault.jobs.outbox import Outbox
from eventvault.jobs.quarantine import Quarantine
from eventvault.jobs.schedule import Schedules
from eventvault.jobs.sessions import Active, Session, StoredSession
from eventvault.jobs.transport import Loss, Position
from eventvault.jobs.upkeep import Upkeep
from eventvault.jobs.view import Reader
from eventvault.jobs.waiting import WaitingQueues

DAY = 86_400_000_000
MAX_UNFINISHED = 1_000_000
_encoder = msgspec.json.Encoder()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the machine. keep, keep_dead: how long jobs that ended, or died, stay; keep_max: how many of both.

    unknown_after: a job dies that waits for so long for a worker that knows its type. All spans in microseconds.
    publishes: outcomes go to a topic. refused_from_kafka: types that no message of `jobs` may have.
    """

    max_unfinished: int = MAX_UNFINISHED
    keep: int = 30 * DAY
    keep_dead: int = 90 * DAY
    keep_max: int = 1_000_000
    unknown_after: int = DAY
    publishes: bool = False
    refused_from_kafka: frozenset[str] = frozenset()


class Decision(NamedTuple):
    """What a turn decided. turn: its number, which is among the changes."""

    turn: int
    changes: dict[bytes, bytes | None]
    work: list[Work]


class Machine:
    """The jobs of one `jobs_db`. It belongs to one thread."""

    def __init__(
        self,
        reader: Reader,
        limits: Limits,
        *,
        make_token: Callable[[], str] = lambda: secrets.token_hex(8),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """make_token: returns a text that it never returned before. chance: returns a number from 0 to 1."""
        self.ledger = Ledger(reader)
        self.waiting = WaitingQueues()
        self.sessions: dict[str, Session] = {}
        self.types: dict[str, JobType] = {}
        self.paused: set[str] = set()
        self.losses: list[Loss] = []
        """What topics lost, and nobody has accepted."""
        self.pauses_new = False
        """Whether types that come are paused too."""
        self.dispatcher = ""
        self.ticks = {False: 0, True: 0}
        """Ticks that were read, of the transport without positions and of the one with them."""
        self.now = 0
        self.moment = 0.0
        self.limits = limits
        self.make_token = make_token
        self.chance = chance
        self._turn = 0
        self.is_held = False
        """Whether nothing is sent or fired until somebody resumes."""
        self.is_releasing = False
        self.schedules = Schedules()
        self.upkeep = Upkeep()
        self.outbox = Outbox()
        self.quarantine = Quarantine()
        self.work: list[Work] = []
        self.fenced: set[str] = set()
        self._ticks_on_disk = Ticks()

    def load(self, moment: float) -> None:
        """Take over what is on disk. What was sent is sent again with the next turn."""
        changes = self.ledger.changes
        self.dispatcher = (changes.get(keys.META_DISPATCHER) or b"").decode()
        self._ticks_on_disk = msgspec.json.decode(changes.get(keys.TICKS) or b"{}", type=Ticks)
        self.ticks = {False: self._ticks_on_disk.local, True: self._ticks_on_disk.number}
        self._turn = self._ticks_on_disk.turn
        for _, value in changes.scan(keys.KNOWN_TYPE, keys.behind(keys.KNOWN_TYPE)):
            job_type = msgspec.json.decode(value, type=JobType)
            self.types[job_type.name] = job_type
        self.is_releasing = changes.get(keys.META_RELEASE) is not None
        self.is_held = changes.get(keys.META_HELD) is not None
        self.losses = msgspec.json.decode(changes.get(keys.META_LOSSES) or b"[]", type=list[Loss])
        paused = {key for key, _ in changes.scan(keys.PAUSED, keys.behind(keys.PAUSED))}
        self.pauses_new = keys.PAUSES_NEW in paused
        self.paused = {key[1:].decode() for key in paused - {keys.PAUSES_NEW}}
        for _, value in changes.scan(keys.SESSION, keys.behind(keys.SESSION)):
            stored = msgspec.json.decode(value, type=StoredSession)
            session = Session(stored.hello, stored.heard, moment, is_remote=stored.is_remote)
            self.sessions[session.id] = session
        for key, _ in changes.scan(keys.ACTIVE, keys.behind(keys.ACTIVE)):
            job = self.ledger.existing(key[1:].decode())
            session = self.session_of(job)
            session.active[job.token or ""] = Active(job, self.ticks_of(session))
        self.schedules.load(self)
        self.upkeep.start(moment)
        self.serve()
        for session in self.sessions.values():
            arrows.send_again(self, session, session.active)

    def begin(self, now: int, moment: float) -> None:
        """Begin a turn. now: an instant. moment: monotonic, in seconds."""
        self.now, self.moment = now, moment

    def finish(self, *, goes_on: bool = True) -> Decision:
        """End the turn. goes_on: decide what is sent too, and what is due; else only what came counts."""
        if goes_on:
            self._go_on()
        self.quarantine.finish_turn(self)
        for session in self.sessions.values():
            if session.heard != session.heard_on_disk:
                self.store(session)
        changes = self.ledger.finish_turn()
        ticks = Ticks(self.ticks[True], self.ticks[False], self._turn)
        if changes or ticks != self._ticks_on_disk:
            self._turn += 1
            self._ticks_on_disk = msgspec.structs.replace(ticks, turn=self._turn)
            changes[keys.TICKS] = _encoder.encode(self._ticks_on_disk)
        work, self.work = self.work, []
        self.fenced.clear()
        return Decision(self._turn, changes, work)

    def _go_on(self) -> None:
        if not self.is_held:
            self.schedules.fire_due(self)
        self.upkeep.turn(self)
        if self.is_releasing:
            asking.release(self)
        if not self.is_held:
            dispatch.dispatch(self)

    def seconds_until_due(self) -> float:
        """Return how long there is nothing to do, if nothing arrives."""
        if self.is_releasing or self.upkeep.has_more:
            return 0.0
        if self.is_held:
            return math.inf
        firing = self.schedules.next_firing
        until_firing = math.inf if firing is None else max(firing - self.now, 0) / 1e6
        return min(until_firing, dispatch.seconds_until_due(self))

    @property
    def is_full(self) -> bool:
        return self.ledger.counts.unfinished >= self.limits.max_unfinished

    # Sessions

    def ticks_of(self, session: Session) -> int:
        return self.ticks[session.is_remote]

    def session_of(self, job: Job) -> Session:
        return self.sessions[job.session or ""]

    def store(self, session: Session) -> None:
        session.heard_on_disk = session.heard
        self.ledger.changes.put(keys.session_key(session.id), _encoder.encode(session.stored))

    def remove(self, session: Session) -> None:
        del self.sessions[session.id]
        self.ledger.changes.remove(keys.session_key(session.id))
        self.serve()

    def serve(self) -> None:
        """Hold the queues of the types that living workers run."""
        self.waiting.serve({name for session in self.sessions.values() for name in session.types})

    def is_paused(self, job_type: str) -> bool:
        """Return whether jobs of this type wait because somebody paused it, or all types before it was named."""
        return job_type in self.paused or (self.pauses_new and job_type not in self.types)

    def note_losses(self, losses: Sequence[Loss]) -> None:
        if self.losses != losses:
            self.losses = list(losses)
            if losses:
                self.ledger.changes.put(keys.META_LOSSES, _encoder.encode(self.losses))
            else:
                self.ledger.changes.remove(keys.META_LOSSES)

    def read_to(self, position: Position) -> None:
        key = keys.position_key(position.topic, position.partition)
        self.ledger.changes.put(key, _encoder.encode(position))
