"""The port to the dispatcher, for the interface, the command line, health and restores."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from eventvault.jobs.job import Job, JobRequest, JobSchedule, JobType, State
from eventvault.problems import Problem
from eventvault.rpc.markers import changes, deadline


class SubmitResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """id: of the accepted job. duplicate: it was there before. differs: the earlier job differs from this request."""

    id: str
    state: State
    duplicate: bool = False
    differs: bool = False


class JobView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job with its payload and its result, JSON texts; None if it has none, or not any more."""

    job: Job
    payload: msgspec.Raw | None = None
    result: msgspec.Raw | None = None


class JobPage(msgspec.Struct, frozen=True):
    """Newest first. next: the id to list before, for the next page; None at the end."""

    jobs: list[Job]
    next: str | None = None


class Changed(msgspec.Struct, frozen=True):
    """The result of a request to change one job.

    outcome: `changed`; `stopping`: it is cancelled, but still runs; `unchanged`: its state allows no such change;
    `unknown`: there is no such job.
    """

    id: str
    outcome: Literal["changed", "stopping", "unchanged", "unknown"]
    state: State | None = None


class KnownType(msgspec.Struct, frozen=True, rename="camel"):
    """A type that a worker has named. workers: how many present sessions run it."""

    type: JobType
    workers: int
    is_paused: bool


class QueueStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The member `jobQueue` of health. oldest_waiting: the instant since which the oldest due job waits."""

    workers: int
    slots: int
    waiting: int
    running: int
    dead: int
    held: int
    oldest_waiting: int | None
    states: dict[str, int]
    refused_reports: int
    broker: bool
    problems: list[Problem]


class Jobs(Protocol):
    """Each method may raise JobsUnavailable if no dispatcher answers. Changing methods may raise TooBusy or NoSpace."""

    @changes
    def submit(self, requests: list[JobRequest], by: str, scopes: list[str]) -> list[SubmitResult]:
        """Accept all of the jobs or none, durably. Each has an `id`, so that the call may be sent again.

        Raises InvalidInput with `fields`, TooLarge, JobTypeUnknown, ScopeMissing, or JobQueueFull. For several jobs,
        `fields` has one member for each refused job, by its index. scopes: those of the caller, with included ones.
        """

    def list_jobs(self, states: list[str], types: list[str], limit: int, before: str | None) -> JobPage:
        """Return a page of jobs, newest first. Raises JobNotFound if there is no job `before`."""

    def job(self, job_id: str) -> JobView:
        """Return a job. Raises JobNotFound."""

    @changes
    def cancel(self, ids: list[str]) -> list[Changed]: ...

    @changes
    def retry(self, ids: list[str]) -> list[Changed]:
        """Make dead and cancelled jobs pending again, with all their tries."""

    @changes
    def pause(self, job_type: str | None) -> list[str]:
        """Send no more jobs of this type; if None, of any type, including later ones.

        Returns the paused types.
        """

    @changes
    def resume(self, job_type: str | None) -> list[str]:
        """End the pause of a type; None: of all types, and make the held jobs pending. Returns the paused types."""

    def types(self) -> list[KnownType]: ...

    def schedules(self) -> list[JobSchedule]: ...

    @changes
    def put_schedule(self, schedule: JobSchedule) -> JobSchedule:
        """Create the schedule, or replace the one with its name.

        Raises JobTypeUnknown, JobScheduleInCode, or InvalidInput if the zone or cron is not valid or never fires, the
        name has more than MAX_SCHEDULE_NAME_LENGTH characters, or the type's schema refuses the payload.
        """

    @changes
    def delete_schedule(self, name: str) -> None:
        """Remove a schedule. Raises JobScheduleNotFound, or JobScheduleInCode."""

    @deadline(0.5)
    def status(self) -> QueueStatus: ...

    @deadline(2.0)
    def count_unfinished_after(self, instant: int) -> int:
        """Return how many unfinished jobs were created after this instant."""

    @changes
    def cancel_unfinished_after(self, instant: int) -> int:
        """Cancel the unfinished jobs that were created after this instant. Returns how many."""
