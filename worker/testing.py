"""For tests of handlers: checks a payload and runs its job as an executor would, but in the test's own process.

from worker.testing import run_job

def test_a_report_counts_rows() -> None:
    assert run_job("report", {"rows": [1, 2]}).result == {"rows": 2}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from eventvault.jobs.job import MAX_ATTEMPTS, JobError, JobProgress
from eventvault.jobs.messages import Done, Failed, Run
from worker import attempt
from worker.registry import find, known_types


@dataclass(frozen=True)
class JobOutcome:
    """The outcome of one attempt. result: read back from its JSON. retry: whether the job would be retried.

    after: seconds until then, if the handler named them. progress: everything that the handler reported.
    """

    result: Any = None
    error: JobError | None = None
    retry: bool = False
    after: float | None = None
    progress: list[JobProgress] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return self.error is None


def run_job(
    job_type: str,
    payload: Any = None,
    *,
    job_id: str = "test",
    attempt_number: int = 1,
    max_attempts: int = MAX_ATTEMPTS,
) -> JobOutcome:
    """Run the handler of a type and return the outcome. If the handler raises, that is its error, and is printed.

    Raises LookupError if no handler is registered for the type: the test must import its module.
    """
    if find(job_type) is None:
        raise LookupError(f"no handler is registered for {job_type!r}; known: {', '.join(known_types())}")
    progress: list[JobProgress] = []
    run = Run(
        to="", job=job_id, type=job_type, attempt=attempt_number, max_attempts=max_attempts, token="test",  # nosec B106
        timeout=0.0, payload=msgspec.Raw(msgspec.json.encode(payload)),
    )  # fmt: skip
    outcome = attempt.carry_out(run, progress.append)
    match outcome:
        case Done():
            return JobOutcome(msgspec.json.decode(outcome.result), progress=progress)
        case Failed():
            may_retry = outcome.retry and attempt_number < max_attempts
            return JobOutcome(error=outcome.error, retry=may_retry, after=outcome.after, progress=progress)
    return JobOutcome(error=JobError("job_returned", "the handler was asked to end"), retry=True, progress=progress)
