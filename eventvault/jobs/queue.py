"""The dispatcher's state: the jobs of one `jobs_db`, and sessions, types, pauses and losses. Pure.

The functions of `transitions`, `commands`, `reports`, `submissions` and `dispatch` change it; `machine` has the turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from eventvault.jobs import keys
from eventvault.jobs.changes import StoredValues
from eventvault.jobs.job import Job, JobType
from eventvault.jobs.ledger import Ledger
from eventvault.jobs.messages import Work
from eventvault.jobs.outbox import JobsOutbox
from eventvault.jobs.quarantine import JobsQuarantine
from eventvault.jobs.schedule import Schedules
from eventvault.jobs.sessions import WorkerSession
from eventvault.jobs.transport import Loss, Position
from eventvault.jobs.waiting import WaitingQueues

DAY = 86_400_000_000
MAX_UNFINISHED = 1_000_000
_encoder = msgspec.json.Encoder()


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a queue. keep, keep_dead: how long finished and dead jobs stay. keep_max: how many of both stay.

    unknown_after: how long a job waits for a worker that knows its type before it dies. All spans in microseconds.
    publishes: outcomes go to a topic. refused_from_kafka: types that a message of `jobs` must not have.
    """

    max_unfinished: int = MAX_UNFINISHED
    keep: int = 30 * DAY
    keep_dead: int = 90 * DAY
    keep_max: int = 1_000_000
    unknown_after: int = DAY
    publishes: bool = False
    refused_from_kafka: frozenset[str] = frozenset()


class JobQueue:
    """Belongs to one thread. now: the instant of the turn; moment: its time by a monotonic clock, in seconds."""

    def __init__(
        self, reader: StoredValues, limits: QueueLimits, make_token: Callable[[], str], chance: Callable[[], float]
    ) -> None:
        """make_token: returns a text that it never returned before. chance: returns a number from 0 to 1."""
        self.ledger = Ledger(reader)
        self.waiting = WaitingQueues()
        self.sessions: dict[str, WorkerSession] = {}
        self.types: dict[str, JobType] = {}
        self.paused: set[str] = set()
        self.losses: list[Loss] = []
        """Losses of topics that nobody has accepted."""
        self.pauses_new = False
        """Whether new types are paused, too."""
        self.dispatcher = ""
        self.ticks = {False: 0, True: 0}
        """`is_remote` → how many ticks were read, from the transport without (False) or with (True) positions."""
        self.now = 0
        self.moment = 0.0
        self.limits = limits
        self.make_token = make_token
        self.chance = chance
        self.is_held = False
        """Whether nothing is sent or fired until somebody resumes."""
        self.is_releasing = False
        self.schedules = Schedules(self.ledger)
        self.outbox = JobsOutbox(self.ledger)
        self.quarantine = JobsQuarantine(self.ledger)
        self.work: list[Work] = []
        self.fenced: set[str] = set()

    @property
    def is_full(self) -> bool:
        return self.ledger.counts.unfinished >= self.limits.max_unfinished

    def ticks_of(self, session: WorkerSession) -> int:
        return self.ticks[session.is_remote]

    def session_of(self, job: Job) -> WorkerSession:
        return self.sessions[job.session or ""]

    def store(self, session: WorkerSession) -> None:
        session.heard_on_disk = session.heard
        self.ledger.changes.put(keys.session_key(session.id), _encoder.encode(session.stored))

    def remove(self, session: WorkerSession) -> None:
        del self.sessions[session.id]
        self.ledger.changes.remove(keys.session_key(session.id))
        self.serve()

    def serve(self) -> None:
        """Load the waiting queues of the types that present sessions run, and only these."""
        self.waiting.serve({name for session in self.sessions.values() for name in session.types})

    def is_paused(self, job_type: str) -> bool:
        """Return whether this type is paused: by its name, or as a new type while new types are paused."""
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
