"""What every view needs: the settings, the store, and the limits for long requests. Flask's application holds it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Flask, Response, current_app, request

from app.access.cookies import BrowserSessions
from app.access.sign_ins import SignIns
from app.budget import Budget
from app.request_end import at_request_end
from app.shared_answers import Answer, Question, SharedAnswers
from app.streams.changes import ChangeFeed
from app.streams.feed import EventFeed
from app.streams.operations import OperationFeed
from app.streams.published import PublishedFeed
from eventvault.access.register import TokenRegister
from eventvault.access.session import Sessions
from eventvault.access.throttle import Throttle
from eventvault.audit.deeds import Deeds, deeds_through
from eventvault.errors import JobsDisabled, TooBusy
from eventvault.jobs.audited import audited
from eventvault.jobs.port import Jobs
from eventvault.operations.keyed_answers import KeyedAnswers
from eventvault.problems import ProblemTimes
from eventvault.settings import Settings
from eventvault.store.ports.store import Store

MAX_TRANSFERS = 4
"""Concurrent exports, downloads and uploads in one process. Each occupies one of gunicorn's `threads` until it ends."""

MAX_LONG_ANSWERS = 8
"""Concurrent answers above LONG_ANSWER_BYTES in one process, besides exports and downloads.

With MAX_TRANSFERS and the worker's LONG_BODY_THREADS they are at most half of the `threads` in `gunicorn.conf.py`.
"""

LONG_ANSWER_BYTES = 64 * 1024
"""A thread may have to wait until the client has taken a longer answer."""

MAX_LONG_CALLS = 8
"""Concurrent requests in one process that wait for long work: backups, restores, checks, reads of the past."""

MAX_STREAMS = 100
"""Concurrent streams in one process. They occupy no thread."""

MAX_BROKER_WAITS = 1000
"""Concurrent requests in one process that wait for Kafka. They occupy no thread; a further request does not wait."""

_SLOT_WAIT_SECONDS = 0.25
"""Seconds that a request waits for a slot, because some long calls end quickly."""

BODIES = 2
"""How many times MAX_BODY_BYTES of memory one process takes for bodies, from their first byte to the answer."""

PARSED = 8
"""How many times MAX_BODY_BYTES of memory one process takes for bodies while they are parsed."""

_TAKES_OLDER = re.compile(r"(?<![\w-])max-age *= *\"?0*[1-9]", re.IGNORECASE)
_KEY = "eventvault"


class Slots:
    """At most `limit` concurrent requests; `what` names them in the error. wait_seconds: for a free slot."""

    def __init__(self, limit: int, what: str, wait_seconds: float = 0.0) -> None:
        self._free = threading.Semaphore(limit)
        self._limit = limit
        self._what = what
        self._wait_seconds = wait_seconds

    def acquire(self) -> Callable[[], None]:
        """Take a slot. Returns a function that frees it; calling it again does nothing. Raises TooBusy.

        The end of the request frees it too, however the request ends.
        """
        return at_request_end(self.take())

    def take(self) -> Callable[[], None]:
        """Take a slot that outlives the request. Otherwise as `acquire`."""
        if not self._free.acquire(timeout=self._wait_seconds):
            raise TooBusy(
                f"{self._limit} {self._what} are already running in this process",
                hint="try again when one of them has ended",
            )
        return _CallOnce(self._free.release)


class _CallOnce:
    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._lock = threading.Lock()
        self._called = False

    def __call__(self) -> None:
        with self._lock:
            called, self._called = self._called, True
        if not called:
            self._release()


@dataclass(frozen=True)
class Edge:
    settings: Settings
    store: Store
    transfers: Slots = field(default_factory=lambda: Slots(MAX_TRANSFERS, "exports, downloads and uploads"))
    long_answers: Slots = field(default_factory=lambda: Slots(MAX_LONG_ANSWERS, "long answers", _SLOT_WAIT_SECONDS))
    long_calls: Slots = field(
        default_factory=lambda: Slots(
            MAX_LONG_CALLS, "backups, restores, checks and reads of the past", _SLOT_WAIT_SECONDS
        )
    )
    streams: Slots = field(default_factory=lambda: Slots(MAX_STREAMS, "streams"))
    broker_waits: Slots = field(default_factory=lambda: Slots(MAX_BROKER_WAITS, "requests that wait for Kafka"))
    event_feed: EventFeed = field(init=False)
    published_feed: PublishedFeed = field(init=False)
    keyed_answers: KeyedAnswers = field(init=False)
    operation_feed: OperationFeed = field(init=False)
    change_feed: ChangeFeed = field(init=False)
    tokens: TokenRegister = field(init=False)
    sign_ins: SignIns = field(init=False)
    sessions: BrowserSessions = field(init=False)
    deeds: Deeds = field(init=False)
    bodies: Budget = field(init=False)
    parsing: Budget = field(init=False)
    answers: SharedAnswers = field(default_factory=SharedAnswers)
    throttle: Throttle = field(default_factory=Throttle)
    away: ProblemTimes = field(default_factory=ProblemTimes)
    """Since when the store has not answered."""
    jobs: Jobs | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "event_feed", EventFeed(self.store))
        object.__setattr__(self, "published_feed", PublishedFeed(self.store))
        object.__setattr__(self, "keyed_answers", KeyedAnswers(self.settings.storage_dir))
        object.__setattr__(self, "operation_feed", OperationFeed(self.store, self.answers))
        object.__setattr__(self, "change_feed", ChangeFeed(self.store, self.answers))
        object.__setattr__(self, "tokens", TokenRegister(self.settings))
        object.__setattr__(self, "sign_ins", SignIns(self.tokens, self.throttle, self.store))
        sessions = BrowserSessions(Sessions(self.settings.storage_dir), self.tokens)
        object.__setattr__(self, "sessions", sessions)
        object.__setattr__(self, "deeds", deeds_through(self.store.note_deed, self.settings.storage_dir))
        if self.jobs is not None:
            object.__setattr__(self, "jobs", audited(self.jobs, self.deeds))
        size = self.settings.max_body_bytes
        object.__setattr__(self, "bodies", Budget(BODIES * size, "the memory for request bodies"))
        object.__setattr__(self, "parsing", Budget(PARSED * size, "the memory for parsing request bodies"))


def attach(app: Flask, edge: Edge) -> None:
    app.extensions[_KEY] = edge


def current_edge() -> Edge:
    edge: Edge = current_app.extensions[_KEY]
    return edge


def current_store() -> Store:
    return current_edge().store


def current_jobs() -> Jobs:
    """Return the port to the dispatcher. Raises JobsDisabled where there is none."""
    jobs = current_edge().jobs
    if jobs is None:
        raise JobsDisabled("jobs are switched off", hint="set JOBS_ENABLED=true, and restart the service")
    return jobs


def shared_answer(question: Question[Answer]) -> Answer:
    """Return the answer to a question that many ask, as `SharedAnswers.get`.

    A request with `Cache-Control: max-age=1` or more (RFC 9111, section 5.2.1.1) accepts an answer of the last half
    second also if events were appended since. So pages that poll cost the same, however many events are posted.
    """
    control = request.environ.get("HTTP_CACHE_CONTROL")
    takes_older = control is not None and bool(_TAKES_OLDER.search(control))
    return current_edge().answers.get(question, before_appends=takes_older)


def note_answered_change(response: Response) -> Response:
    """Let no shared answer be older than this request, if it may have changed something, whatever its outcome."""
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        current_edge().answers.note_change(of_events=request.path == "/api/events")
    return response


@contextmanager
def store_for_long_call() -> Iterator[Store]:
    """Yield the store for a call that may take minutes. Raises TooBusy if MAX_LONG_CALLS are running."""
    release = current_edge().long_calls.acquire()
    try:
        yield current_edge().store
    finally:
        release()
