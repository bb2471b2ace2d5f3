"""The messages between supervisor, nursery and executors, besides those of `eventvault.jobs.messages`."""

from __future__ import annotations

import os
import platform
import signal
from typing import Literal

import msgspec

from eventvault.jobs.job import JobError, JobSchedule, JobType
from eventvault.jobs.messages import Done, Failed, Progressed, Returned

STOP_SIGNAL = signal.SIGURG
"""A process without a handler for this signal ignores it: a program that a handler starts, or a new executor."""
PATH_VARIABLE = "PYTHONPATH"
"""Where the nursery finds modules. Handlers get this variable only if WORKER_ENV names it."""
PING = b"ping"
"""Asks the nursery whether it makes progress."""
END_OF_CATALOGUE = b"\n"
"""Ends the nursery's `Declared`. The end of the pipe cannot: a process that a module forked may hold it open."""
LONGEST_MESSAGE = 1_024
"""Most bytes of a message between supervisor and nursery."""

StopReason = Literal["timeout", "cancelled", "drain", "refused"]
"""Why a handler must end. refused: the attempt is not the live one of its job."""
Outcome = Done | Failed | Returned
ExecutorReport = Outcome | Progressed


class NurseryOptions(msgspec.Struct, frozen=True):
    """The nursery's only argument. control, catalogue: descriptors. memory: limit of an executor, in bytes.

    path_of_handlers: the PATH_VARIABLE for handlers, if they get one.
    """

    control: int
    catalogue: int
    parent: int
    modules: list[str]
    memory: int
    log_level: str
    path_of_handlers: str | None = None


class Declared(msgspec.Struct, frozen=True, omit_defaults=True):
    """The types and schedules that the modules declare, or why one of them cannot be imported."""

    types: list[JobType] = []
    schedules: list[JobSchedule] = []
    error: str | None = None


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """An executor was forked. The message comes with a descriptor of its process."""

    number: int


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """An executor and all processes below it have ended. status: as from os.waitpid."""

    number: int
    status: int


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The answer to PING: all earlier requests were served."""


NurseryReport = Forked | Ended | Alive


def worker_name(supervisor: int) -> str:
    """Return the name of a worker in results and logs. supervisor: its process id."""
    return f"{platform.node()}-{supervisor}"


WORKER_NAME = worker_name(os.getpid())


def timed_out(timeout: float) -> JobError:
    return JobError("job_timeout", f"the handler ran longer than its {timeout:g} s")


def cancelled() -> JobError:
    return JobError("job_cancelled", "the job was cancelled")
