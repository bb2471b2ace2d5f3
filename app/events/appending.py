"""Appends the events of a posted body; the reply means that they are on disk."""

from __future__ import annotations

import msgspec
from flask import Request, Response

from app.bodies import read_body
from app.edge import current_edge, current_store
from app.events.answers import describe_appended
from app.events.durability import durability_of
from app.events.schemas import problem_fields
from app.idempotency import is_final, keyed_request, refusal_of, refusal_reply
from eventvault import clock, json_text
from eventvault.database.values import AppendResult, ScanQuery
from eventvault.errors import EventVaultError, InvalidInput, OutcomeUnknown, WriteFailed
from eventvault.events import cloudevents_http
from eventvault.events.event import EventDraft
from eventvault.events.sent import drafts_of, problems_of
from eventvault.keyed_request import KeyedRequest


def append_events(posted_request: Request) -> Response:
    """Append all events of the request or none. Raises the errors of parsing, validation and the store, or TooBusy."""
    durability = durability_of(posted_request)
    keyed, drafts = _read(posted_request)
    if isinstance(drafts, EventVaultError):
        return _refuse(keyed, drafts)
    if not drafts and keyed is None:
        last_sequence = current_store().scan(ScanQuery(limit=1)).last_sequence
        return durability.reply(describe_appended([], [], last_sequence))
    appended = _append(drafts, keyed)
    if appended.refusal:
        return refusal_reply(appended.refusal)
    ids = [draft.id for draft in drafts] if appended.ids is None else appended.ids
    return durability.reply(describe_appended(ids, appended.results, appended.last_sequence))


def _read(posted_request: Request) -> tuple[KeyedRequest | None, list[EventDraft] | EventVaultError]:
    """Return the key of the request, and its events or why they are refused. The body is not held any longer."""
    body = read_body()
    keyed = keyed_request(body)
    try:
        return keyed, _drafts_of(body, posted_request)
    except EventVaultError as error:
        return keyed, error


def _refuse(keyed: KeyedRequest | None, error: EventVaultError) -> Response:
    """Raise the error, or store it under the key and answer as the first request with the key was answered."""
    if keyed is None or not is_final(error):
        raise error
    refusal = refusal_of(error)
    answered = _append([], msgspec.structs.replace(keyed, refusal=refusal))
    return refusal_reply(answered.refusal or refusal)


def _append(drafts: list[EventDraft], keyed: KeyedRequest | None) -> AppendResult:
    """Append the drafts. If it is unknown whether they are stored, the error has their ids, to send them again."""
    try:
        return current_store().append(drafts, keyed)
    except (OutcomeUnknown, WriteFailed) as error:
        error.details["ids"] = [draft.id for draft in drafts]
        raise


def _drafts_of(body: bytes, posted_request: Request) -> list[EventDraft]:
    """Parse and check the body within the budget for it; the drafts have about the size of the body."""
    with current_edge().parsing.reserved(json_text.memory_to_parse(body)):
        posted = cloudevents_http.parse(body, posted_request.content_type, _event_headers(posted_request))
        _require_valid(posted)
        return drafts_of(posted.events, clock.now())


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
