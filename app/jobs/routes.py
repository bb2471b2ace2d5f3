"""The routes of `/api/jobs`."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from app.access import current_credential
from app.bodies import read_body
from app.edge import current_edge, current_jobs
from app.jobs.answers import changed_json, job_json, schedule_json, submitted_json, type_json, view_json
from app.jobs.schemas import (
    ChangedSchema,
    DeletedScheduleSchema,
    IdsSchema,
    JobListSchema,
    JobQuerySchema,
    JobTypeListSchema,
    OneJobSchema,
    OneScheduleSchema,
    PausedSchema,
    ScheduleListSchema,
    ScheduleRequestSchema,
    SubmittedSchema,
    TypeNameSchema,
)
from app.jobs.submitting import submit
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import JSON, reply, takes_no_body, validated_body
from app.streaming import NDJSON
from eventvault import json_text, scopes
from eventvault.errors import JobNotFound, JobScheduleNotFound
from eventvault.jobs import sent
from eventvault.jobs.hidden_values import schedule_without_secrets, view_without_secrets
from eventvault.jobs.job import JobSchedule
from eventvault.jobs.port import Changed

blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs", description="Work that workers do.")
blueprint.before_request(reject_repeated_parameters)

_JOB = sent.json_schema()
_SUBMIT_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": {"oneOf": [_JOB, {"type": "array", "items": _JOB}]}},
        NDJSON: {"schema": {"type": "string"}},
    },
}
_ids, _type_name, _schedule = IdsSchema(), TypeNameSchema(), ScheduleRequestSchema()


@blueprint.route("", methods=["POST"])
@blueprint.doc(summary="Submit one job or several", requestBody=_SUBMIT_BODY)
@blueprint.response(201, SubmittedSchema)
@blueprint.alt_response(200, schema=SubmittedSchema, description="All of them were there before.", success=True)
@accepts_parameters(body=True)
def submit_jobs() -> Response:
    """Accepts one job, an array or NDJSON: all jobs or none. When the answer arrives, they are on disk.

    422 for a type that no worker has named, and for a payload that the schema of its type refuses. A type may need
    another scope than `write`: `GET /api/jobs/types` shows it.
    """
    body = read_body()
    with current_edge().parsing.reserved(json_text.memory_to_parse(body)):
        results = submit(body)
    answer = submitted_json(results)
    return reply(answer, 201 if answer["accepted"] else 200)


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="List jobs, newest first")
@blueprint.arguments(JobQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, JobListSchema)
def list_jobs(asked: dict[str, Any]) -> Response:
    """Lists jobs without payloads, results and attempts. With `id`: that job with all of these, as `job`."""
    if "id" in asked:
        return _reply_with(asked["id"])
    types = [asked["type"]] if "type" in asked else []
    page = current_jobs().list_jobs(list(asked["state"]), types, asked["limit"], asked.get("before"))
    return reply({"success": True, "jobs": [job_json(job) for job in page.jobs], "next": page.next})


@blueprint.route("/types", methods=["GET"])
@blueprint.doc(summary="List the types of jobs")
@blueprint.response(200, JobTypeListSchema)
@accepts_parameters()
def list_types() -> Response:
    """Lists all types that a worker has ever named, even if no worker runs them now."""
    return reply({"success": True, "types": [type_json(job_type) for job_type in current_jobs().types()]})


@blueprint.route("/cancel", methods=["POST"])
@blueprint.doc(summary="Cancel jobs", requestBody={"required": True, "content": {JSON: {"schema": IdsSchema}}})
@blueprint.response(200, ChangedSchema)
@blueprint.alt_response(202, schema=ChangedSchema, description="Some of them still run.", success=True)
@accepts_parameters(body=True)
def cancel_jobs() -> Response:
    """Cancels waiting jobs at once. A running job is asked to end, and killed 5 seconds later; if it succeeds before
    that, it is done. 404 if there is none of these jobs.
    """
    return _changed(current_jobs().cancel(validated_body(_ids)["ids"]))


@blueprint.route("/retry", methods=["POST"])
@blueprint.doc(
    summary="Run dead or cancelled jobs again", requestBody={"required": True, "content": {JSON: {"schema": IdsSchema}}}
)
@blueprint.response(200, ChangedSchema)
@accepts_parameters(body=True)
def retry_jobs() -> Response:
    """Makes these jobs wait again, with all their tries; earlier attempts stay listed. 404 if there is none of them."""
    return _changed(current_jobs().retry(validated_body(_ids)["ids"]))


@blueprint.route("/pause", methods=["POST"])
@blueprint.doc(
    summary="Pause a type of jobs", requestBody={"required": False, "content": {JSON: {"schema": TypeNameSchema}}}
)
@blueprint.response(200, PausedSchema)
@accepts_parameters(body=True)
def pause() -> Response:
    """Sends no more jobs of this type; running ones go on. Without `type`: pauses all types, including future ones."""
    return reply({"success": True, "paused": current_jobs().pause(validated_body(_type_name)["type"])})


@blueprint.route("/resume", methods=["POST"])
@blueprint.doc(
    summary="Resume a type of jobs", requestBody={"required": False, "content": {JSON: {"schema": TypeNameSchema}}}
)
@blueprint.response(200, PausedSchema)
@accepts_parameters(body=True)
def resume() -> Response:
    """Sends the jobs of this type to workers again. Without `type`: resumes all types, and releases `held` jobs."""
    return reply({"success": True, "paused": current_jobs().resume(validated_body(_type_name)["type"])})


@blueprint.route("/schedules", methods=["GET"])
@blueprint.doc(summary="List the schedules of jobs")
@blueprint.response(200, ScheduleListSchema)
@accepts_parameters()
def list_schedules() -> Response:
    """Lists the schedules that were created here, and those that a worker's code declares."""
    schedules = current_jobs().schedules()
    return reply({"success": True, "schedules": [schedule_json(_without_secrets(schedule)) for schedule in schedules]})


@blueprint.route("/schedules/<event_id:name>", methods=["GET"])
@blueprint.doc(summary="Get a schedule")
@blueprint.response(200, OneScheduleSchema)
@accepts_parameters()
def get_schedule(name: str) -> Response:
    for schedule in current_jobs().schedules():
        if schedule.name == name:
            return reply({"success": True, "schedule": schedule_json(_without_secrets(schedule))})
    raise JobScheduleNotFound(
        f"there is no schedule {name!r}", hint="GET /api/jobs/schedules lists those that there are"
    )


@blueprint.route("/schedules/<event_id:name>", methods=["PUT"])
@blueprint.doc(
    summary="Make or replace a schedule",
    requestBody={"required": True, "content": {JSON: {"schema": ScheduleRequestSchema}}},
)
@blueprint.response(200, OneScheduleSchema)
@accepts_parameters(body=True)
def put_schedule(name: str) -> Response:
    """Submits a job of `type` at the times of `cron`, on the clocks of `timeZone`. Each firing happens once.

    409 for a schedule that a worker's code declares.
    """
    asked = validated_body(_schedule)
    schedule = JobSchedule(
        name=name,
        type=asked["type"],
        cron=asked["cron"],
        time_zone=asked["timeZone"],
        payload=msgspec.Raw(msgspec.json.encode(asked["payload"])),
        overlap=asked["overlap"],
        catch_up=asked["catchUp"],
        is_paused=asked["paused"],
    )
    return reply({"success": True, "schedule": schedule_json(current_jobs().put_schedule(schedule))})


@blueprint.route("/schedules/<event_id:name>", methods=["DELETE"])
@blueprint.doc(summary="Delete a schedule")
@blueprint.response(200, DeletedScheduleSchema)
@accepts_parameters()
@takes_no_body
def delete_schedule(name: str) -> Response:
    """Deletes the schedule; its jobs stay. 409 for a schedule that a worker's code declares: pause its type instead."""
    current_jobs().delete_schedule(name)
    return reply({"success": True, "name": name})


@blueprint.route("/<job_id:job_id>", methods=["GET"])
@blueprint.doc(summary="Get one job")
@blueprint.response(200, OneJobSchema)
@accepts_parameters()
def get_job(job_id: str) -> Response:
    """Returns the job with its payload, result and attempts. For an id such as `types`, use `GET /api/jobs?id=`.

    Only a token with `admin` sees the values of a webhook's headers.
    """
    return _reply_with(job_id)


def _reply_with(job_id: str) -> Response:
    view = current_jobs().job(job_id)
    return reply({"success": True, "job": view_json(view if _sees_secrets() else view_without_secrets(view))})


def _without_secrets(schedule: JobSchedule) -> JobSchedule:
    """Return a schedule, without secrets if the caller may not see them."""
    return schedule if _sees_secrets() else schedule_without_secrets(schedule)


def _sees_secrets() -> bool:
    return current_credential().may(scopes.ADMIN)


def _changed(changes: list[Changed]) -> Response:
    if all(change.outcome == "unknown" for change in changes):
        ids = ", ".join(repr(change.id) for change in changes[:3])
        raise JobNotFound(
            f"there is no job {ids}; nothing was changed", hint="GET /api/jobs lists those that there are"
        )
    status = 202 if any(change.outcome == "stopping" for change in changes) else 200
    return reply({"success": True, "jobs": [changed_json(change) for change in changes]}, status)
