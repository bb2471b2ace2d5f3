"""The port to the dispatcher for changes by people: the audit notes each change before it is made."""

from __future__ import annotations

from typing import Any, cast

from eventvault.audit.deeds import Deeds
from eventvault.jobs.job import JobSchedule
from eventvault.jobs.port import Changed, Jobs
from eventvault.operations.caller import current_caller

_MAX_IDS = 100
"""Most ids of jobs in one line of the audit; if there are more, it only has their number."""


def audited(jobs: Jobs, deeds: Deeds) -> Jobs:
    """Return the same port, with each change noted as a deed. Submitting jobs is not a deed, like posting events."""
    return cast(Jobs, _AuditedJobs(jobs, deeds))


class _AuditedJobs:
    def __init__(self, jobs: Jobs, deeds: Deeds) -> None:
        self._jobs = jobs
        self._deeds = deeds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    def cancel(self, ids: list[str]) -> list[Changed]:
        with self._deeds.doing("job-cancel", _who(), details=_named(ids)):
            return self._jobs.cancel(ids)

    def retry(self, ids: list[str]) -> list[Changed]:
        with self._deeds.doing("job-retry", _who(), details=_named(ids)):
            return self._jobs.retry(ids)

    def pause(self, job_type: str | None) -> list[str]:
        with self._deeds.doing("job-pause", _who(), job_type):
            return self._jobs.pause(job_type)

    def resume(self, job_type: str | None) -> list[str]:
        with self._deeds.doing("job-resume", _who(), job_type):
            return self._jobs.resume(job_type)

    def put_schedule(self, schedule: JobSchedule) -> JobSchedule:
        details = {"type": schedule.type, "cron": schedule.cron, "timeZone": schedule.time_zone}
        with self._deeds.doing("job-schedule", _who(), schedule.name, details=details):
            return self._jobs.put_schedule(schedule)

    def delete_schedule(self, name: str) -> None:
        with self._deeds.doing("job-unschedule", _who(), name):
            self._jobs.delete_schedule(name)


def _who() -> str:
    return current_caller().started_by


def _named(ids: list[str]) -> dict[str, Any]:
    return {"ids": ids} if len(ids) <= _MAX_IDS else {"count": len(ids)}
