"""The workers' sessions as the dispatcher knows them: what each runs, how much it takes, and when it last reported."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from eventvault.jobs.job import Job
from eventvault.jobs.messages import SessionHello

RUNS = 100
"""Number of runs whose mean duration decides how many jobs a session gets in advance."""
PREFETCH_SECONDS = 0.1
MAX_PREFETCH = 64
MAX_CONCURRENCY = 1_000


class StoredSession(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session in `jobs_db`. heard: the tick of its last report. is_remote: its reports have positions."""

    hello: SessionHello
    heard: int = 0
    is_remote: bool = False


@dataclass(slots=True)
class Active:
    """A job that a session has. sent, stopped, asked_back: ticks of the last messages to run, stop or return it."""

    job: Job
    sent: int
    stopped: int | None = None
    asked_back: int | None = None
    progressed: float = float("-inf")
    """When its progress was last written (monotonic)."""


class WorkerSession:
    """One life of a worker. active: its jobs by token, in the order in which they were sent."""

    def __init__(self, hello: SessionHello, heard: int, moment: float, *, is_remote: bool) -> None:
        self.is_remote = is_remote
        self.heard = self.heard_on_disk = heard
        self.active: dict[str, Active] = {}
        self.idle_since: float | None = moment
        """Since when it has had an executor without a job (monotonic); None if it has none."""
        self.greet(hello)
        self._runs: deque[float] = deque(maxlen=RUNS)
        self._seconds = 0.0

    def greet(self, hello: SessionHello) -> None:
        self.hello = hello
        self.types = {job_type.name: job_type for job_type in hello.types}
        self.concurrency = min(max(hello.concurrency, 0), MAX_CONCURRENCY)

    @property
    def id(self) -> str:
        return self.hello.session

    @property
    def stored(self) -> StoredSession:
        return StoredSession(msgspec.structs.replace(self.hello, received=[]), self.heard, self.is_remote)

    @property
    def free(self) -> int:
        """How many more jobs may be sent to it now."""
        return self.concurrency + self.prefetch - len(self.active)

    @property
    def idle(self) -> int:
        """How many of its executors have no job; negative if it has more jobs than executors."""
        return self.concurrency - len(self.active)

    @property
    def prefetch(self) -> int:
        """How many jobs it gets in advance: as many as its executors run in PREFETCH_SECONDS."""
        if not self._runs or not self.concurrency:
            return 0
        room = PREFETCH_SECONDS * self.concurrency * len(self._runs)
        return MAX_PREFETCH if self._seconds * MAX_PREFETCH <= room else int(room / self._seconds)

    def note_run(self, seconds: float) -> None:
        seconds = min(max(seconds, 0.0), 1e9)
        if len(self._runs) == RUNS:
            self._seconds -= self._runs[0]
        self._runs.append(seconds)
        self._seconds = max(self._seconds + seconds, 0.0)
