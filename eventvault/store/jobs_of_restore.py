"""What a restore says of the jobs. It changes a job only if a client asks for that."""

from __future__ import annotations

import logging

import msgspec

from eventvault.errors import EventVaultError, InvalidInput, JobsDisabled
from eventvault.jobs.port import Jobs
from eventvault.restore.values import Restored

log = logging.getLogger("BackupManager")


def check_jobs(jobs: Jobs | None, *, cancel: bool, staged: bool) -> None:
    """Raise an error before the restore begins, if the jobs could not be cancelled after it."""
    if not cancel:
        return
    if staged:
        wrong = {"cancelJobs": ["Only with a restore that is applied at once."]}
        raise InvalidInput(
            "jobs cannot be cancelled by a restore that waits for the next start; nothing was changed",
            hint="leave out `cancelJobs` or `apply`; cancel the jobs after the restart",
            fields=wrong,
        )
    if jobs is None:
        raise JobsDisabled("there are no jobs to cancel: they are switched off", hint="leave out `cancelJobs`")
    jobs.status()


def count_jobs(jobs: Jobs | None, instant: int | None) -> int | None:
    """Return how many unfinished jobs were created after the instant; None if that is unknown."""
    if jobs is None or instant is None:
        return None
    try:
        return jobs.count_unfinished_after(instant)
    except EventVaultError as error:
        log.warning("the jobs created after a restored moment cannot be counted: %s", error)
        return None


def with_jobs(jobs: Jobs | None, restored: Restored, instant: int | None, *, cancel: bool) -> Restored:
    """Add to the answer how many unfinished jobs were created after the instant; with `cancel`, cancel them."""
    if jobs is None or restored.staged:
        return restored
    counted = msgspec.structs.replace(restored, unfinished_jobs=count_jobs(jobs, instant))
    if not cancel or instant is None:
        return counted
    try:
        return msgspec.structs.replace(counted, cancelled_jobs=jobs.cancel_unfinished_after(instant))
    except EventVaultError as error:
        note = f"the jobs were not cancelled: {error.message}; cancel them by POST /api/jobs/cancel"
        return msgspec.structs.replace(counted, notes=[*counted.notes, note])
