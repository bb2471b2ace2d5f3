"""`flask jobs list`, `show` and `types`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import click

from app.cli import exits, text
from app.cli.connection import current_jobs
from app.cli.options import json_option, utc_option
from app.cli.program import in_words_of_program
from app.jobs.answers import job_json, type_json, view_json
from eventvault import clock
from eventvault.errors import EventVaultError
from eventvault.jobs.job import Attempt, Job, State
from eventvault.jobs.port import JobView, KnownType
from eventvault.printable import printable

STATES: tuple[str, ...] = get_args(State)
SHOWN = 50
_UNFINISHED = (("running", "sent"), ("pending", "held"))
"""The states that are listed without a filter, in this order: running jobs come before waiting ones."""


@click.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only those in this state.")
@click.option("--dead", is_flag=True, help="Those that failed for good, and why.")
@click.option("--type", "job_type", help="Only those of this type.")
@click.option("--limit", default=SHOWN, type=click.IntRange(1, 1000), help=f"How many. Default: {SHOWN}.")
@utc_option
@json_option
def list_jobs(
    *, states: tuple[str, ...], dead: bool, job_type: str | None, limit: int, utc: bool, as_json: bool
) -> None:
    """The unfinished jobs, and how many there are in other states. With --state or --dead those alone."""
    wanted = [*states, *(["dead"] if dead else [])]
    with exits.reporting_errors(as_json=as_json):
        jobs = _list_jobs(wanted, [] if job_type is None else [job_type], limit)
        counts = _counts()
    times = text.Times(utc=utc)
    exits.print_result(
        {"jobs": [job_json(job) for job in jobs], "states": None if isinstance(counts, EventVaultError) else counts},
        lambda _: in_words_of_program("\n".join(_describe(jobs, wanted, counts, times))),
        as_json=as_json,
    )


def _list_jobs(states: list[str], types: list[str], limit: int) -> list[Job]:
    """Return the newest jobs in these states; without states, the unfinished ones."""
    jobs: list[Job] = []
    for group in [states] if states else _UNFINISHED:
        if len(jobs) < limit:
            jobs += current_jobs().list_jobs(list(group), types, limit - len(jobs), None).jobs
    return jobs


def _counts() -> dict[str, int] | EventVaultError:
    """Return how many jobs there are in each state, or why the dispatcher cannot tell, such as a full disk."""
    try:
        return current_jobs().status().states
    except EventVaultError as error:
        return error


def _describe(
    jobs: list[Job], states: list[str], counts: Mapping[str, int] | EventVaultError, times: text.Times
) -> Iterator[str]:
    if jobs:
        yield dead_table(jobs, times) if states == ["dead"] else _table(jobs)
    elif states:
        yield f"No job is {' or '.join(states)}."
    else:
        yield "No job is unfinished."
    if states:
        return
    if isinstance(counts, EventVaultError):
        yield f"How many jobs have ended is not known: {counts.message}"
    else:
        counted = [f"{counts[state]:,} {state}" for state in ("done", "dead", "cancelled") if counts.get(state)]
        if counted:
            yield ", ".join(counted) + (": flask jobs list --dead" if counts.get("dead") else "")


def _table(jobs: list[Job]) -> str:
    rows = [
        (job.state, job.type, f"{job.attempt} of {job.max_attempts}", _progress(job), text.ago(_since(job)), job.id)
        for job in jobs
    ]
    return text.table(("STATE", "TYPE", "ATTEMPT", "PROGRESS", "SINCE", "ID"), rows)


def _progress(job: Job) -> str:
    if job.state == "pending" and job.run_at > clock.now():
        return f"due in {text.seconds((job.run_at - clock.now()) / 1e6)}"
    if job.is_stopping:
        return "is to stop"
    if job.progress is None or job.state not in ("sent", "running"):
        return ""
    parts = [] if job.progress.fraction is None else [f"{job.progress.fraction:.0%}"]
    return ", ".join([*parts, *([job.progress.text] if job.progress.text else [])])


def _since(job: Job) -> int:
    """Return the instant since which the job is in its state, as far as it is known."""
    if job.ended is not None:
        return job.ended
    newest = job.attempts[-1] if job.attempts and job.state in ("sent", "running") else None
    return job.created if newest is None else newest.started_at or newest.sent_at


def dead_table(jobs: list[Job], times: text.Times) -> str:
    """Return jobs that failed for good, with their reasons. Their ids come last, so that they are not folded away."""
    rows = [
        (job.type, str(job.attempt), times.minute(_since(job)), "" if job.error is None else job.error.message, job.id)
        for job in jobs
    ]
    return text.table(("TYPE", "ATTEMPTS", f"DIED ({times.zone})", "WHY", "ID"), rows)


@click.command("show")
@click.argument("job_id", metavar="ID")
@utc_option
@json_option
def show(*, job_id: str, utc: bool, as_json: bool) -> None:
    """One job with its attempts, what they printed, and its result."""
    with exits.reporting_errors(as_json=as_json):
        view = current_jobs().job(job_id)
    times = text.Times(utc=utc)
    exits.print_result({"job": view_json(view)}, lambda _: "\n".join(_describe_one(view, times)), as_json=as_json)


def _describe_one(view: JobView, times: text.Times) -> Iterator[str]:
    job = view.job
    yield f"{job.type} {job.id}: {job.state}"
    yield f"created   {times.with_zone(job.created)} by {printable(job.by or job.origin)}"
    if job.state == "pending":
        yield f"due       {times.with_zone(job.run_at)}"
    if job.ended is not None:
        yield f"ended     {times.with_zone(job.ended)}"
    yield f"attempts  {job.attempt}, {job.tries} of {job.max_attempts} tries failed"
    if job.error is not None:
        yield f"error     {printable(job.error.message)}"
    for name, value in (("payload", view.payload), ("result", view.result)):
        if value is not None and bytes(value) != b"null":
            yield f"{name:8}  {printable(bytes(value).decode())}"
    for attempt in job.attempts:
        yield from _describe_attempt(attempt, times)


def _describe_attempt(attempt: Attempt, times: text.Times) -> Iterator[str]:
    began = attempt.started_at or attempt.sent_at
    took = "" if attempt.ended_at is None else f", {text.seconds(max(0, attempt.ended_at - began) / 1e6)}"
    reason = "" if attempt.error is None else f": {printable(attempt.error.message)}"
    yield f"  {attempt.number}. {times.second(began)} at {printable(attempt.host)}{took}, {_outcome(attempt)}{reason}"
    yield from (f"     | {printable(line)}" for line in attempt.output.splitlines())


def _outcome(attempt: Attempt) -> str:
    return attempt.outcome or ("runs" if attempt.started_at else "was sent")


@click.command("types")
@json_option
def list_types(*, as_json: bool) -> None:
    """The types that workers have named, and how many workers run each now."""
    with exits.reporting_errors(as_json=as_json):
        types = current_jobs().types()
    done: dict[str, Any] = {"types": [type_json(known_type) for known_type in types]}
    exits.print_result(done, lambda _: _describe_types(types), as_json=as_json)


def _describe_types(types: list[KnownType]) -> str:
    if not types:
        return "No worker has named a type yet."
    rows = [
        (
            str(known_type.workers),
            known_type.type.scope,
            text.seconds(known_type.type.timeout),
            "paused" if known_type.is_paused else "",
            known_type.type.name,
        )
        for known_type in types
    ]
    return text.table(("WORKERS", "SCOPE", "TIMEOUT", "STATE", "TYPE"), rows, right={0})
