"""What supervisor, nursery and executors tell each other, besides the messages of `eventvault.jobs.messages`."""

from __future__ import annotations

import os
import platform
import signal
from typing import Literal

import msgspec

from eventvault.jobs.job import JobError, JobSchedule, JobType
from eventvault.jobs.messages import Done, Failed, Progressed, Returned

STOP_SIGNAL = signal.SIGURG
"""Ignored where it is not handled: by the programs that a handler starts, and in the first moment of a process."""
PATH_VARIABLE = "PYTHONPATH"
"""Tells the nursery where modules are. Handlers get it only if WORKER_ENV names it."""
PING = b"ping"
"""Asks the nursery whether it makes progress."""
END_OF_CATALOGUE = b"\n"
"""Ends what the nursery says of its modules: a process that one of them forked may hold the pipe open."""
LONGEST_MESSAGE = 1_024
"""Bytes of a message between supervisor and nursery."""

StopReason = Literal["timeout", "cancelled", "drain", "refused"]
"""Why a handler has to end. refused: the attempt is not the live one of its job."""
Outcome = Done | Failed | Returned
ExecutorReport = Outcome | Progressed


class NurseryOptions(msgspec.Struct, frozen=True):
    """What the supervisor wants, as the one argument. control, catalogue: descriptors. memory: bytes, of an executor.

    path_of_handlers: the PATH_VARIABLE that they get, if any.
    """

    control: int
    catalogue: int
    parent: int
    modules: list[str]
    memory: int
    log_level: str
    path_of_handlers: str | None = None


class Declared(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the modules declare, or why one cannot be imported."""

    types: list[JobType] = []
    schedules: list[JobSchedule] = []
    error: str | None = None


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """An executor lives. A descriptor of its process comes with it."""

    number: int


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """An executor ended, and nothing below it lives. status: as os.waitpid has it."""

    number: int
    status: int


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The answer to PING: all that was asked before is done."""


NurseryReport = Forked | Ended | Alive


def worker_name(supervisor: int) -> str:
    """Return what names a worker in results and logs. supervisor: its process id."""
    return f"{platform.node()}-{supervisor}"


WORKER_NAME = worker_name(os.getpid())


def timed_out(timeout: float) -> JobError:
    return JobError("job_timeout", f"the handler ran longer than its {timeout:g} s")


def cancelled() -> JobError:
    return JobError("job_cancelled", "the job was cancelled")
