"""The messages between dispatcher and workers: JSON with a `kind`, the same over Kafka, a socket and in memory.

A session is one life of a worker's supervisor. A token names one attempt of a job. A report about an attempt is used
only while its token is the live one of the job.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from eventvault.jobs.job import JobError, JobProgress, JobSchedule, JobType

MAX_FRAME_BYTES = 4 * 2**20
"""Most bytes of a message between processes: room for a payload or a result, and the rest of the message."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="kind"):
    v: Literal[1] = 1


# From the dispatcher to one session; `to` is its id.


class Run(_Message, tag="run", frozen=True, kw_only=True):
    """Run this attempt. A session runs a token once, however often it is sent. timeout: seconds."""

    to: str
    job: str
    type: str
    attempt: int
    max_attempts: int
    token: str
    timeout: float
    payload: msgspec.Raw


class Stop(_Message, tag="stop", frozen=True, kw_only=True):
    """End these attempts, whatever they do. reason: `cancelled`, or `refused` for a token that is not live."""

    to: str
    stop: list[str]
    reason: str


class GiveBack(_Message, tag="giveBack", frozen=True, kw_only=True):
    """Return those of these attempts that have not started, because another session is idle."""

    to: str
    give_back: list[str]


class Fenced(_Message, tag="fenced", frozen=True, kw_only=True):
    """The session is over: its jobs went to others. The worker ends its executors and begins a new session."""

    to: str


Work = Run | Stop | GiveBack | Fenced

# From a session to the dispatcher.


class SessionHello(_Message, tag="hello", frozen=True, kw_only=True):
    """The session begins, or describes itself again. partition: of `jobs.work`, where it listens; 0 over a socket.

    concurrency: how many attempts it runs at a time; 0 while it drains. received: the tokens of the attempts that it
    has, and whose end it has not reported. local: it runs on the service's machine, beside the data folders.
    """

    session: str
    host: str
    version: str
    concurrency: int
    partition: int = 0
    types: list[JobType]
    schedules: list[JobSchedule] = []
    received: list[str] = []
    local: bool = False


class Beat(_Message, tag="beat", frozen=True, kw_only=True):
    """The session is alive. have: the tokens of the attempts that it has, and whose end it has not reported."""

    session: str
    have: list[str] = []


class Started(_Message, tag="started", frozen=True, kw_only=True):
    """The handler was called. Sent only if it takes longer than 20 ms. seconds_ago: by the worker's clock."""

    session: str
    token: str
    job: str
    seconds_ago: float = 0.0


class Progressed(_Message, tag="progress", frozen=True, kw_only=True):
    session: str
    token: str
    job: str
    progress: JobProgress


class Done(_Message, tag="done", frozen=True, kw_only=True):
    """The handler returned. seconds: how long it ran. result: JSON text. output: the end of what it printed."""

    session: str
    token: str
    job: str
    seconds: float
    result: msgspec.Raw = msgspec.Raw(b"null")
    output: str = ""


class Failed(_Message, tag="failed", frozen=True, kw_only=True):
    """The attempt failed. retry: False if the handler raised Fail, or the payload was refused.

    after: seconds until the next attempt, if the handler raised Retry.
    outcome: `failed`; `timeout` if it ran too long; `cancelled` if it was stopped for that reason.
    """

    session: str
    token: str
    job: str
    seconds: float
    error: JobError
    retry: bool = True
    after: float | None = None
    outcome: Literal["failed", "timeout", "cancelled"] = "failed"
    output: str = ""


class Returned(_Message, tag="returned", frozen=True, kw_only=True):
    """The attempt was not run, or was ended to run elsewhere: the worker drains, or was asked to give it back."""

    session: str
    token: str
    job: str


class Bye(_Message, tag="bye", frozen=True, kw_only=True):
    """The session ends; it has no attempts any more."""

    session: str


# From the dispatcher to itself: a tick that is read back proves that the reports before it were read.


class Tick(_Message, tag="tick", frozen=True, kw_only=True):
    """dispatcher: its id. number: one more with each tick. stands_by: it does nothing, because another one acts."""

    dispatcher: str
    number: int
    stands_by: bool = False


Report = SessionHello | Beat | Started | Progressed | Done | Failed | Returned | Bye | Tick

_encoder = msgspec.json.Encoder()
_work = msgspec.json.Decoder(Work)
_report = msgspec.json.Decoder(Report)


DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors that `decode_work` and `decode_report` raise for bytes that are not a message, or one of a later version."""


def encode(message: Work | Report) -> bytes:
    return _encoder.encode(message)


def decode_work(text: bytes) -> Work:
    work: Any = _work.decode(text)
    return work  # type: ignore[no-any-return]


def decode_report(text: bytes) -> Report:
    report: Any = _report.decode(text)
    return report  # type: ignore[no-any-return]
