"""`flask jobs submit` and `watch`: submits jobs, or shows the progress of one until its end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from app.cli import exits, text
from app.cli.connection import current_jobs
from app.cli.jobs.spans import SpanType
from app.cli.moments import InstantType
from app.cli.options import json_option
from app.cli.watching import display
from app.jobs.answers import submitted_json, view_json
from eventvault import clock, json_text
from eventvault.errors import Cancelled, InvalidInput, JobFailed
from eventvault.exit_statuses import INTERRUPTED
from eventvault.jobs import sent, submitting
from eventvault.jobs.job import Job, JobRequest
from eventvault.jobs.port import JobView, SubmitResult
from eventvault.operations.caller import SHELL
from eventvault.operations.operation import Progress
from eventvault.printable import printable
from eventvault.scopes import SCOPES

_STANDARD_INPUT = "-"
_POLL_SECONDS = 0.2
_LONGEST_INPUT = 32 * 2**20


@click.command("submit")
@click.argument("job_type", metavar="TYPE")
@click.argument("payload", required=False)
@click.option("--id", "id", help="Its id; one that is there is not added again. Default: a new one.")
@click.option("--delay", type=SpanType(), help="Not before this time has passed: 30s, 5m, 2h.")
@click.option("--at", "run_at", type=InstantType(), help="Not before this instant.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 is the most urgent. Default: 0.")
@click.option("--key", help="Jobs of one key run one at a time, in order.")
@click.option("--unique", help="Add it only if no unfinished job has this text.")
@click.option("--max-attempts", type=click.IntRange(1), help="Default: that of its type.")
@click.option("--timeout", type=SpanType(), help="How long an attempt may take. Default: that of its type.")
@json_option
def submit(*, job_type: str, payload: str | None, as_json: bool, **members: Any) -> None:
    """Submit a job. PAYLOAD is JSON; @FILE reads a file, and - standard input.

    With - for TYPE, whole jobs are read from standard input: one, an array or NDJSON. When the command ends, they are
    on disk. All of them are accepted, or none.
    """
    with exits.reporting_errors(as_json=as_json):
        if job_type == _STANDARD_INPUT:
            requests = sent.read_jobs(_read_standard_input(), None)
        else:
            requests = [_request(job_type, payload, members)]
        results = submitting.submit(current_jobs(), requests, SHELL, list(SCOPES))
    exits.print_result(
        submitted_json(results), lambda _: "\n".join(_describe(requests, results)) or "No job.", as_json=as_json
    )


def _request(job_type: str, payload: str | None, members: dict[str, Any]) -> JobRequest:
    """Return the job, checked like one that comes over HTTP. Raises MalformedInput or InvalidInput."""
    run_at = members.pop("run_at")
    named = {"maxAttempts" if name == "max_attempts" else name: value for name, value in members.items()}
    named["runAt"] = clock.optional_microseconds(run_at)
    body: dict[str, Any] = {"type": job_type, **{name: value for name, value in named.items() if value is not None}}
    if payload is not None:
        body["payload"] = msgspec.Raw(_payload(payload))
    return sent.read_job(msgspec.json.encode(body))


def _payload(written: str) -> bytes:
    if written == _STANDARD_INPUT:
        content = _read_standard_input()
    elif written.startswith("@"):
        content = _read_file(Path(written[1:]))
    else:
        content = written.encode(errors="surrogateescape")
    json_text.read(content, "the payload")  # otherwise the error would be about the job around it
    return content


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_INPUT)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", hint="name a file after the @") from None


def _read_standard_input() -> bytes:
    return sys.stdin.buffer.read(_LONGEST_INPUT)


def _describe(requests: list[JobRequest], results: list[SubmitResult]) -> list[str]:
    return [_describe_result(request, result) for request, result in zip(requests, results, strict=True)]


def _describe_result(request: JobRequest, result: SubmitResult) -> str:
    name = printable(result.id)
    if result.duplicate:
        return f"{name} was there already, and is {result.state}" + ("; it differs" if result.differs else "")
    due = request.run_at if request.run_at is not None else clock.now() + round((request.delay or 0) * 1e6)
    seconds = (due - clock.now()) / 1e6
    return f"{name} is due in {text.seconds(seconds)}" if seconds > 0.5 else f"{name} waits for a worker"


@click.command("watch")
@click.argument("job_id", metavar="ID")
@json_option
def watch(*, job_id: str, as_json: bool) -> None:
    """Show the progress of a job until its end. Ctrl-C leaves it as it is. Exit: 1 if it is dead, 6 if cancelled."""

    try:
        with exits.reporting_errors(as_json=as_json):
            view = _await_end(job_id, quiet=as_json)
            _require_done(view.job)
    except KeyboardInterrupt:
        click.echo(f"The job {printable(job_id)} goes on.", err=True)
        raise SystemExit(INTERRUPTED) from None
    exits.print_result({"job": view_json(view)}, lambda _: _describe_end(view), as_json=as_json)


def _require_done(job: Job) -> None:
    if job.state == "cancelled":
        raise Cancelled(f"the job {job.id} was cancelled", hint="flask jobs retry runs it again")
    if job.state == "dead":
        reason = "" if job.error is None else f": {job.error.message}"
        raise JobFailed(f"the job {job.id} is dead{reason}", hint="flask jobs show prints each attempt")


def _await_end(job_id: str, *, quiet: bool) -> JobView:
    view = current_jobs().job(job_id)
    with display(f"{view.job.type} {job_id}", quiet=quiet) as show:
        while not view.job.is_final:
            show(_progress(view.job))
            time.sleep(_POLL_SECONDS)
            view = current_jobs().job(job_id)
    return view


def _progress(job: Job) -> Progress:
    running = job.attempts[-1] if job.attempts and job.state in ("sent", "running") else None
    where = job.state if running is None else f"{running.host}, attempt {job.attempt} of {job.max_attempts}"
    if job.progress is None:
        return Progress(step=where)
    where = f"{job.progress.text}, {where}" if job.progress.text else where
    return Progress(fraction=job.progress.fraction or 0.0, step=where)


def _describe_end(view: JobView) -> str:
    result = "null" if view.result is None else bytes(view.result).decode()
    return f"{view.job.type} {view.job.id} is done: {printable(result)}"
