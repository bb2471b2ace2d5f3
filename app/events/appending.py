"""Appends the events of a posted body; the reply means that they are on disk."""

from __future__ import annotations

from typing import Any

from flask import Request, Response

from app.bodies import read_body
from app.edge import current_edge, current_store
from app.events.schemas import problem_fields
from app.replies import reply
from eventvault import clock, json_text
from eventvault.database.values import AppendResult, ScanQuery
from eventvault.errors import InvalidInput, OutcomeUnknown, WriteFailed
from eventvault.events import cloudevents_http, event
from eventvault.events.event import Appended, EventDraft
from eventvault.events.sent import problems_of


def append_events(posted_request: Request) -> Response:
    """Append all events of the request or none. Raises the errors of parsing, validation and the store, or TooBusy."""
    drafts = _read_drafts(posted_request)
    if not drafts:
        return _reply([], [], current_store().scan(ScanQuery(limit=1)).last_sequence)
    appended = _append(drafts)
    return _reply(drafts, appended.results, appended.last_sequence)


def _append(drafts: list[EventDraft]) -> AppendResult:
    """Append the drafts. If nobody knows whether they are stored, the error has their ids, to send them again."""
    try:
        return current_store().append(drafts)
    except (OutcomeUnknown, WriteFailed) as error:
        error.details["ids"] = [draft.id for draft in drafts]
        raise


def _read_drafts(posted_request: Request) -> list[EventDraft]:
    """Parse and check the body within the budget for it; what remains has about the size of the body."""
    body = read_body()
    with current_edge().parsing.reserved(json_text.memory_to_parse(body)):
        posted = cloudevents_http.parse(body, posted_request.content_type, _event_headers(posted_request))
        _require_valid(posted)
        instant = clock.now()
        return [event.draft(sent.attributes, instant, sent.text) for sent in posted.events]


def _event_headers(posted_request: Request) -> dict[str, str]:
    return {
        f"ce-{name[8:].replace('_', '-').lower()}": value
        for name, value in posted_request.environ.items()
        if name.startswith("HTTP_CE_")
    }


def _require_valid(posted: cloudevents_http.PostedEvents) -> None:
    problems = problems_of(posted.events)
    if not problems:
        return
    index, event_problems = next(iter(problems.items()))
    place = f"event {index} of {len(posted.events)}" if posted.many else "the event"
    raise InvalidInput(
        f"{place} is not valid: {event_problems[0]}",
        hint="nothing of this request was stored; `fields` says what is wrong",
        fields=problem_fields(problems, many=posted.many),
    )


def _reply(drafts: list[EventDraft], results: list[Appended], last_sequence: int) -> Response:
    duplicates = sum(result.duplicate for result in results)
    body: dict[str, Any] = {
        "success": True,
        "accepted": len(results) - duplicates,
        "duplicates": duplicates,
        "lastSequence": last_sequence,
        "results": [_result(draft, result) for draft, result in zip(drafts, results, strict=True)],
    }
    return reply(body, 201 if duplicates < len(results) else 200)


def _result(draft: EventDraft, result: Appended) -> dict[str, Any]:
    body = {
        "id": draft.id,
        "sequence": result.sequence,
        "recordedtime": clock.format_microseconds(result.recorded),
        "duplicate": result.duplicate,
    }
    if result.differs:
        body["differs"] = True
    return body
