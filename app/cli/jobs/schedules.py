"""`flask jobs schedules`, `schedule` and `unschedule`: jobs that are submitted at set times."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from app.cli import exits, text
from app.cli.connection import current_jobs
from app.cli.jobs.spans import SpanType
from app.cli.options import json_option, utc_option
from app.jobs.answers import schedule_json
from eventvault import clock, json_text
from eventvault.jobs.job import JobSchedule
from eventvault.printable import printable


@click.command("schedules")
@utc_option
@json_option
def list_schedules(*, utc: bool, as_json: bool) -> None:
    """The schedules, when each fires next, and its last job."""
    with exits.reporting_errors(as_json=as_json):
        schedules = current_jobs().schedules()
    times = text.Times(utc=utc)
    done: dict[str, Any] = {"schedules": [schedule_json(schedule) for schedule in schedules]}
    exits.print_result(done, lambda _: _describe(schedules, times), as_json=as_json)


def _describe(schedules: list[JobSchedule], times: text.Times) -> str:
    if not schedules:
        return "No schedule."
    nothing = text.sign("–", "-")
    rows = [
        (
            schedule.name,
            schedule.type,
            f"{schedule.cron} {schedule.time_zone}",
            "paused" if schedule.is_paused else nothing if schedule.next is None else times.minute(schedule.next),
            nothing if schedule.last is None else times.minute(schedule.last),
            "code" if schedule.in_code else "here",
            schedule.last_job or nothing,
        )
        for schedule in schedules
    ]
    header = ("NAME", "TYPE", "CRON", f"NEXT ({times.zone})", "LAST", "MADE IN", "LAST JOB")
    return text.table(header, rows)


@click.command("schedule")
@click.argument("name")
@click.argument("job_type", metavar="TYPE")
@click.argument("payload", required=False)
@click.option("--cron", required=True, help='Five fields: "0 3 * * *".')
@click.option("--time-zone", default="UTC", help="The time zone of the fields, such as Europe/Berlin. Default: UTC.")
@click.option("--overlap", is_flag=True, help="Submit a job also while the one before is unfinished.")
@click.option("--catch-up", type=SpanType(), default="1d", help="A firing missed for longer is skipped. Default: 1d.")
@click.option("--paused", is_flag=True, help="Do not fire.")
@json_option
def schedule(
    *,
    name: str,
    job_type: str,
    payload: str | None,
    cron: str,
    time_zone: str,
    overlap: bool,
    catch_up: float,
    paused: bool,
    as_json: bool,
) -> None:
    """Make a schedule NAME that submits jobs of TYPE, or replace it. PAYLOAD is JSON."""

    def work() -> dict[str, Any]:
        content = b"null" if payload is None else json_text.read(payload.encode(), "the payload")[1]
        new_schedule = JobSchedule(
            name=name,
            type=job_type,
            cron=cron,
            time_zone=time_zone,
            payload=msgspec.Raw(content),
            overlap=overlap,
            catch_up=catch_up,
            is_paused=paused,
        )
        return {"schedule": schedule_json(current_jobs().put_schedule(new_schedule))}

    exits.run_and_print(work, _describe_made, as_json=as_json)


def _describe_made(done: dict[str, Any]) -> str:
    made = done["schedule"]
    if made["paused"] or made["next"] is None:
        return f"{printable(made['name'])} is paused"
    return f"{printable(made['name'])} fires next at {text.Times(utc=False).with_zone(clock.parse(made['next']))}"


@click.command("unschedule")
@click.argument("name")
@json_option
def unschedule(*, name: str, as_json: bool) -> None:
    """Delete a schedule. Jobs that it submitted stay."""

    def work() -> dict[str, Any]:
        current_jobs().delete_schedule(name)
        return {"name": name}

    exits.run_and_print(work, lambda done: f"{printable(done['name'])} is deleted", as_json=as_json)
