"""Reads jobs that a client sends, as one JSON object, an array or NDJSON, into JobRequests.

The API, the command line and the topic `jobs` take the same form. The payload stays as text, without the white space
between its tokens; `eventvault.jobs.checking` checks it against the schema of its type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import uuid_utils
from msgspec import Meta

from eventvault import clock, json_text
from eventvault.errors import EventVaultError, InvalidInput, MalformedInput, TooLarge
from eventvault.jobs.job import MAX_NAME_LENGTH, MAX_PAYLOAD_BYTES, JobRequest

MAX_JOBS = 10_000
"""Most jobs in one request, which is one write."""
MAX_DELAY_SECONDS = 10 * 365 * 86_400
MAX_TIMEOUT_SECONDS = 30 * 86_400
MAX_ATTEMPTS_ASKED = 1_000
MAX_DESCRIBED = 20
"""Most refused jobs of a request that the error describes."""

_MAX_DEPTH = json_text.MAX_DEPTH + 1
"""The payload is one level inside the job."""
_PLACE = re.compile(r"(?P<what>.*) - at `\$\.(?P<member>\w+).*`", re.DOTALL)
_MEMBER = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<member>.*)`", re.DOTALL)
_WITHOUT_PLACE = "job"
_LONGEST_MEMBER = 80

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
_Id = Annotated[Name, Meta(description="A new one by default; nothing is added if it is there.")]
_Delay = Annotated[float, Meta(ge=0, le=MAX_DELAY_SECONDS, description="Seconds from now until it may run.")]
_RunAt = Annotated[
    str, Meta(description="The instant from which it may run.", extra_json_schema={"format": "date-time"})
]
_WHOLE: dict[str, Any] = {"type": "integer"}
"""A whole number may be written as 1.0, for JSON Schema and here."""
_Priority = Annotated[
    float,
    Meta(ge=0, le=9, multiple_of=1, description="9 is the most urgent; 0 by default.", extra_json_schema=_WHOLE),
]
_Key = Annotated[Name, Meta(description="Jobs of one key run one at a time, in the order of creation.")]
_Unique = Annotated[Name, Meta(description="While one of this text is unfinished, no other is added.")]
_Tries = Annotated[float, Meta(ge=1, le=MAX_ATTEMPTS_ASKED, multiple_of=1, extra_json_schema=_WHOLE)]
_Timeout = Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_SECONDS, description="Seconds that an attempt may take.")]


class _Members(msgspec.Struct, rename="camel", kw_only=True):
    """The members of a submitted job; null is the same as absent."""

    type: Name
    id: _Id | None = None
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    delay: _Delay | None = None
    run_at: _RunAt | None = None
    priority: _Priority | None = None
    key: _Key | None = None
    unique: _Unique | None = None
    max_attempts: _Tries | None = None
    timeout: _Timeout | None = None


class SentJob(_Members, forbid_unknown_fields=True):
    """A job to submit. Only `type` is needed."""


_exact = msgspec.json.Decoder(SentJob).decode
_lenient = msgspec.json.Decoder(_Members).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a submitted job, for the OpenAPI document."""
    (schema,), components = msgspec.json.schema_components([SentJob], ref_template="{name}")
    job: dict[str, Any] = components[schema["$ref"]]
    both = {"delay": {"type": "number"}, "runAt": {"type": "string"}}
    return {**job, "not": {"required": list(both), "properties": both}}


def new_id() -> str:
    return str(uuid_utils.uuid7())


def read_jobs(body: bytes, content_type: str | None) -> list[JobRequest]:
    """Return the jobs of a request's body: one object, an array, or one object per line.

    Raises MalformedInput, UnsupportedMediaType, TooLarge, or InvalidInput. Its `fields` say what is wrong with each
    member; if the body has several jobs, by the index of the job.
    """
    texts, are_many = _texts_of(body, content_type)
    if len(texts) > MAX_JOBS:
        message = f"the request has {len(texts)} jobs, at most {MAX_JOBS} are accepted"
        raise TooLarge(message, hint="send fewer at a time")
    if not are_many:
        return [read_job(texts[0])]
    return list(_read_each(texts))


def _read_each(texts: list[bytes]) -> Iterator[JobRequest]:
    refused: dict[str, Any] = {}
    first = ""
    for index, text in enumerate(texts):
        try:
            yield read_job(text, f"job {index}")
        except InvalidInput as error:
            first = first or error.message
            refused[str(index)] = error.details.get("fields", {_WITHOUT_PLACE: [error.message]})
            if len(refused) == MAX_DESCRIBED:
                break
    if refused:
        raise InvalidInput(
            first, hint="no job of this request was accepted; `fields` says what is wrong", fields=refused
        )


def read_job(text: bytes, what: str = "the job", *, exact: bool = True) -> JobRequest:
    """Return the job in a JSON text. Raises MalformedInput, TooLarge, or InvalidInput with `fields`.

    exact: refuse unknown members. Messages of the topic `jobs` may have some.
    """
    _, compact = json_text.read(text, what, max_depth=_MAX_DEPTH)
    try:
        sent = _exact(compact) if exact else _lenient(compact)
    except msgspec.ValidationError as error:
        raise _invalid(what, *_problem(str(error))) from None
    payload = msgspec.Raw(b"null") if sent.payload is msgspec.UNSET else sent.payload.copy()
    if len(memoryview(payload)) > MAX_PAYLOAD_BYTES:
        raise TooLarge(
            f"the payload of {what} is larger than {MAX_PAYLOAD_BYTES} bytes",
            hint="send a reference in place of the data: an event's id, or the name of a file",
        )
    if sent.delay is not None and sent.run_at is not None:
        raise _invalid(what, "runAt", "Not together with delay.")
    return JobRequest(
        type=sent.type,
        id=sent.id,
        payload=payload,
        delay=sent.delay,
        run_at=None if sent.run_at is None else _instant(what, sent.run_at),
        priority=int(sent.priority or 0),
        key=sent.key,
        unique=sent.unique,
        max_attempts=None if sent.max_attempts is None else int(sent.max_attempts),
        timeout=sent.timeout,
    )


def _texts_of(body: bytes, content_type: str | None) -> tuple[list[bytes], bool]:
    """Return the JSON text of each job, and whether the form of the body allows several jobs."""
    kind, charset = json_text.media_type(content_type)
    is_lines = kind in json_text.NDJSON_TYPES
    if not is_lines:
        json_text.require_json_like(content_type)
    text = json_text.to_utf8(body, charset).strip()
    if is_lines:
        return _lines(text), True
    if text.startswith(b"["):
        return _array(text), True
    if not text:
        raise MalformedInput("the body is empty", hint='send a job: {"type": "…", "payload": …}')
    lines = _lines(text)
    return (lines, True) if len(lines) > 1 and _is_object(lines[0]) else ([text], False)


def _array(text: bytes) -> list[bytes]:
    if json_text.has_too_many_values(text):
        raise json_text.too_many_values("the body")
    try:
        return [bytes(element) for element in _elements(text)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedInput(f"the body is not JSON: {error}", hint=json_text.NOT_JSON_HINT) from None


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line.strip()]


def _is_object(line: bytes) -> bool:
    """Return whether a line is a whole object. If it is, the body is NDJSON, whatever its content type."""
    try:
        return isinstance(json_text.parse(line), dict)
    except EventVaultError:
        return False


def _instant(what: str, text: str) -> int:
    try:
        return clock.parse_lenient(text, up=True)
    except (ValueError, OverflowError):
        raise _invalid(
            what, "runAt", "Not an RFC 3339 instant with an offset, such as 2026-01-31T12:34:56.789Z."
        ) from None


def _problem(message: str) -> tuple[str, str]:
    """Return the member that msgspec names in its message, and what is wrong with it."""
    if match := _MEMBER.fullmatch(message):
        return match["member"], "Missing." if match["what"].startswith("missing") else "Unknown field."
    if match := _PLACE.fullmatch(message):
        return match["member"], f"{match['what']}."
    return _WITHOUT_PLACE, f"{message}."


def _invalid(what: str, member: str, reason: str) -> InvalidInput:
    member = member[:_LONGEST_MEMBER]
    return InvalidInput(f"{what} is not valid: {member}", hint="`fields` says what is wrong", fields={member: [reason]})
