"""The schemas of `/api/jobs`. `eventvault.jobs.sent` declares the members of a submitted job."""

from __future__ import annotations

from typing import get_args

from marshmallow import Schema, fields, validate

from app.operations.schemas import WordListField
from app.replies import ReplySchema, RequestSchema
from eventvault.jobs.job import MAX_NAME_LENGTH, State

STATES: tuple[str, ...] = get_args(State)
MAX_PAGE = 1_000
PAGE = 100
MAX_IDS = 1_000
"""Most jobs that one request cancels or retries."""

_NAME = validate.Length(min=1, max=MAX_NAME_LENGTH)
_INSTANT = {"format": "date-time"}


class JobQuerySchema(Schema):
    id = fields.String(validate=_NAME, metadata={"description": "Answer with the job of this id, as `job`."})
    state = WordListField(STATES)
    type = fields.String(validate=_NAME)
    limit = fields.Integer(load_default=PAGE, validate=validate.Range(1, MAX_PAGE))
    before = fields.String(validate=_NAME, metadata={"description": "The `next` of the page before."})


class SubmittedJobSchema(ReplySchema):
    id = fields.String(required=True, metadata={"description": "Of this job, or of the one that is there already."})
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    duplicate = fields.Boolean(required=True)
    differs = fields.Boolean(metadata={"description": "The job that is there already differs from this request."})


class SubmittedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    accepted = fields.Integer(required=True)
    duplicates = fields.Integer(required=True)
    results = fields.List(fields.Nested(SubmittedJobSchema), required=True)


class JobErrorSchema(ReplySchema):
    code = fields.String(required=True)
    message = fields.String(required=True)
    fields_ = fields.Dict(data_key="fields")


class JobProgressSchema(ReplySchema):
    fraction = fields.Float(required=True, allow_none=True, metadata={"description": "0 to 1."})
    text = fields.String(required=True, allow_none=True)


class JobSchema(ReplySchema):
    """A job. `attempt` counts how often it was sent to a worker, `tries` how often it failed there."""

    id = fields.String(required=True)
    type = fields.String(required=True, metadata={"example": "report"})
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    createdAt = fields.String(required=True, metadata=_INSTANT)  # noqa: N815
    runAt = fields.String(required=True, metadata=_INSTANT)  # noqa: N815
    endedAt = fields.String(required=True, allow_none=True, metadata=_INSTANT)  # noqa: N815
    attempt = fields.Integer(required=True)
    tries = fields.Integer(required=True)
    maxAttempts = fields.Integer(required=True)  # noqa: N815
    timeout = fields.Float(required=True, metadata={"description": "Seconds that an attempt may take."})
    priority = fields.Integer(required=True)
    key = fields.String(required=True, allow_none=True)
    unique = fields.String(required=True, allow_none=True)
    origin = fields.String(required=True, metadata={"example": "api"})
    startedBy = fields.String(required=True)  # noqa: N815
    schedule = fields.String(required=True, allow_none=True)
    cancelRequested = fields.Boolean(required=True)  # noqa: N815
    progress = fields.Nested(JobProgressSchema, required=True, allow_none=True)
    error = fields.Nested(JobErrorSchema, required=True, allow_none=True)


class AttemptSchema(ReplySchema):
    number = fields.Integer(required=True)
    session = fields.String(required=True, metadata={"description": "One life of a worker."})
    host = fields.String(required=True)
    sentAt = fields.String(required=True, metadata=_INSTANT)  # noqa: N815
    startedAt = fields.String(required=True, allow_none=True, metadata=_INSTANT)  # noqa: N815
    endedAt = fields.String(required=True, allow_none=True, metadata=_INSTANT)  # noqa: N815
    outcome = fields.String(required=True, allow_none=True)
    error = fields.Nested(JobErrorSchema, required=True, allow_none=True)
    output = fields.String(required=True, metadata={"description": "The end of what the handler printed."})


class WholeJobSchema(JobSchema):
    payload = fields.Raw(required=True, allow_none=True)
    result = fields.Raw(required=True, allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema), required=True)
    earlierAttempts = fields.Integer(  # noqa: N815
        required=True, metadata={"description": "How many are not in `attempts`, which has the newest."}
    )


class OneJobSchema(ReplySchema):
    success = fields.Boolean(required=True)
    job = fields.Nested(WholeJobSchema, required=True)


class JobListSchema(ReplySchema):
    """With `id`: `job` instead of `jobs` and `next`."""

    success = fields.Boolean(required=True)
    jobs = fields.List(fields.Nested(JobSchema))
    next = fields.String(allow_none=True, metadata={"description": "Send it as `before`; null at the end."})
    job = fields.Nested(WholeJobSchema)


class IdsSchema(RequestSchema):
    ids = fields.List(fields.String(validate=_NAME), required=True, validate=validate.Length(min=1, max=MAX_IDS))


class ChangedJobSchema(ReplySchema):
    id = fields.String(required=True)
    outcome = fields.String(
        required=True,
        validate=validate.OneOf(["changed", "stopping", "unchanged", "unknown"]),
        metadata={"description": "`stopping`: it still runs; `unchanged`: its state allows no such change."},
    )
    state = fields.String(required=True, allow_none=True)


class ChangedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    jobs = fields.List(fields.Nested(ChangedJobSchema), required=True)


class TypeNameSchema(RequestSchema):
    type = fields.String(
        load_default=None, allow_none=True, validate=_NAME, metadata={"description": "All types by default."}
    )


class PausedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    paused = fields.List(fields.String(), required=True, metadata={"description": "The types that are paused now."})


class JobTypeSchema(ReplySchema):
    type = fields.String(required=True)
    scope = fields.String(required=True, metadata={"description": "The scope that is needed to submit such a job."})
    timeout = fields.Float(required=True)
    maxAttempts = fields.Integer(required=True)  # noqa: N815
    workers = fields.Integer(required=True, metadata={"description": "Workers that run it now."})
    paused = fields.Boolean(required=True)
    schema = fields.Raw(required=True, allow_none=True, metadata={"description": "JSON Schema of its payload."})


class JobTypeListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    types = fields.List(fields.Nested(JobTypeSchema), required=True)


class ScheduleRequestSchema(RequestSchema):
    type = fields.String(required=True, validate=_NAME, metadata={"example": "report"})
    cron = fields.String(required=True, metadata={"example": "0 3 * * *"})
    timeZone = fields.String(load_default="UTC", metadata={"example": "Europe/Berlin"})  # noqa: N815
    payload = fields.Raw(load_default=None, allow_none=True)
    overlap = fields.Boolean(
        load_default=False, metadata={"description": "Submit a job even if the last one is unfinished."}
    )
    catchUp = fields.Float(  # noqa: N815
        load_default=86_400.0,
        validate=validate.Range(0, 366 * 86_400),
        metadata={"description": "Seconds; a firing that was missed for longer is skipped."},
    )
    paused = fields.Boolean(load_default=False)


class ScheduleSchema(ReplySchema):
    name = fields.String(required=True)
    type = fields.String(required=True)
    cron = fields.String(required=True)
    timeZone = fields.String(required=True)  # noqa: N815
    payload = fields.Raw(required=True, allow_none=True)
    overlap = fields.Boolean(required=True)
    catchUp = fields.Float(required=True)  # noqa: N815
    paused = fields.Boolean(required=True)
    inCode = fields.Boolean(  # noqa: N815
        required=True, metadata={"description": "A worker's module declares it, so it is changed there."}
    )
    next = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    last = fields.String(required=True, allow_none=True, metadata=_INSTANT)
    lastJob = fields.String(required=True, allow_none=True)  # noqa: N815
    skipped = fields.Integer(
        required=True, metadata={"description": "Firings without a job, because the last job was unfinished."}
    )


class OneScheduleSchema(ReplySchema):
    success = fields.Boolean(required=True)
    schedule = fields.Nested(ScheduleSchema, required=True)


class ScheduleListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    schedules = fields.List(fields.Nested(ScheduleSchema), required=True)


class DeletedScheduleSchema(ReplySchema):
    success = fields.Boolean(required=True)
    name = fields.String(required=True)
