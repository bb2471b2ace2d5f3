"""Answers with a page of events, or exports all of them. Events are sent as stored JSON, without parsing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec
import orjson
from flask import Response

from app.deeds import audit_export
from app.edge import current_edge, current_store, store_for_long_call
from app.replies import JSON
from app.store_retry import retry_while_store_is_away
from app.streaming import ndjson_response
from eventvault.database.values import Page, ScanQuery
from eventvault.errors import GenerationSuperseded, InvalidInput, MomentUnavailable
from eventvault.events import cursor
from eventvault.restore.values import Moment
from eventvault.store.ports.event_log import Lease
from eventvault.store.ports.store import Store

EXPORT_PAGE = 1000

_PAGE_BYTES = 24 * 2**20
"""Bytes after which a page is answered as it is, with its `next`: one event may have as many."""

_FILL_SECONDS = 1.0
"""Seconds after which a page that a filter has not filled is answered as it is, with its `next`."""


class PageRequest(NamedTuple):
    """A query, and the generation that the answer and its cursor name; None for the generation of the page.

    The query of a moment may read a temporary copy, whose name must not reach the client: each page resolves its moment
    again.
    """

    query: ScanQuery
    generation: str | None = None


def page_request_of(parameters: Mapping[str, Any], limit: int) -> PageRequest:
    """Return the request for a page. parameters: a validated query string. Raises InvalidInput, MomentUnavailable."""
    after = cursor.decode(parameters["after"]) if "after" in parameters else cursor.Cursor(0)
    before = cursor.decode(parameters["before"], "before") if "before" in parameters else None
    query = ScanQuery(
        after=after.sequence,
        before=None if before is None else before.sequence,
        newest_first=parameters.get("order") == "newest",
        generation=_common_generation(after, before),
        limit=limit,
        type=parameters.get("type"),
        subject=parameters.get("subject"),
        source=parameters.get("source"),
        recorded_from=parameters.get("recorded_from"),
        recorded_to=parameters.get("recorded_to"),
    )
    return (
        _request_as_of(query, parameters["as_of"], parameters.get("generation"))
        if "as_of" in parameters
        else PageRequest(query)
    )


def _common_generation(after: cursor.Cursor, before: cursor.Cursor | None) -> str | None:
    """Return the generation of the cursors. Raises InvalidInput if they are of different generations."""
    cursors = [position for position in (after, before) if position is not None]
    generations = {position.generation for position in cursors if position.generation is not None}
    if len(generations) > 1:
        raise InvalidInput(
            "`after` and `before` are cursors of different generations",
            hint="leave one of them out, or give a sequence number",
            fields={"before": ["Of another generation than `after`."]},
        )
    return next(iter(generations), None)


def _request_as_of(query: ScanQuery, instant: int, generation: str | None) -> PageRequest:
    """Return the query at a moment of the past. A page with a cursor stays in the cursor's generation."""
    moment = Moment(instant=instant, generation=query.generation if generation is None else generation)
    with store_for_long_call() as store:
        view = store.resolve_moment(moment)
        if generation is not None and query.generation not in (None, generation):
            _require_common_history(query, generation, store.last_common(query.generation, generation))
    return PageRequest(
        msgspec.structs.replace(query, generation=view.generation, upto=view.sequence), view.generation_id
    )


def query_at(moment: Moment, event_filter: Mapping[str, Any]) -> ScanQuery:
    """Return the query for the events of a moment that match a filter. Raises MomentUnavailable."""
    with store_for_long_call() as store:
        view = store.resolve_moment(moment)
    return ScanQuery(
        generation=view.generation,
        after=event_filter.get("fromSequence", 1) - 1,
        upto=min(view.sequence, event_filter.get("toSequence", view.sequence)),
        limit=EXPORT_PAGE,
        type=event_filter.get("type"),
        subject=event_filter.get("subject"),
        source=event_filter.get("source"),
        recorded_from=event_filter.get("recorded_from"),
        recorded_to=event_filter.get("recorded_to"),
    )


def _require_common_history(query: ScanQuery, generation: str, common: int | None) -> None:
    """Raise unless the cursor lies in the history that both generations share. common: its last sequence."""
    if common is None:
        raise InvalidInput(
            f"the cursor is of the unknown generation {query.generation}",
            hint="send the `next` of an earlier answer or a sequence number, or omit `after` to start at the first",
            fields={"after": ["Unknown generation."]},
        )
    if query.reach > common:
        raise GenerationSuperseded(
            f"the cursor is of generation {query.generation}, which shares no event after {common} with {generation}",
            hint="omit `generation` to continue at the cursor, or omit the cursor to begin again",
            generation=generation,
            forkSequence=common,
        )


def page_reply(page_request: PageRequest) -> Response:
    query = page_request.query
    page = _read_full_page(current_store(), query)
    generation = page_request.generation or page.generation
    next_cursor = b"null" if page.next is None else orjson.dumps(cursor.encode(generation, page.next))
    body = b'{"success":true,"events":[%s],"next":%s,"lastSequence":%d,"generation":%s}' % (
        b",".join(page.events),
        next_cursor,
        page.last_sequence if query.upto is None else query.upto,
        orjson.dumps(generation),
    )
    return Response(body, content_type=JSON)


def _read_full_page(store: Store, query: ScanQuery) -> Page:
    """Return a page of `query.limit` events, joined from several pages of the store if these are shorter.

    The first page fixes the generation and the last sequence, so a restore meanwhile does not change the page. If that
    generation, or what its moment was built from, is gone, the page ends early.
    """
    deadline = time.monotonic() + _FILL_SECONDS
    room = _PAGE_BYTES
    first = page = store.scan(query)
    upto = first.last_sequence if query.upto is None else query.upto
    events = page.events
    while page.next is not None and len(events) < query.limit and time.monotonic() < deadline:
        room -= sum(map(len, page.events))
        if room <= 0:
            break
        try:
            page = store.scan(_next_query(query, page, limit=query.limit - len(events), upto=upto))
        except (GenerationSuperseded, MomentUnavailable):
            break
        events = events + page.events
    return msgspec.structs.replace(page, events=events, last_sequence=first.last_sequence)


def _next_query(query: ScanQuery, page: Page, *, limit: int, upto: int | None) -> ScanQuery:
    assert page.next is not None
    bound = {"before" if query.newest_first else "after": page.next}
    return msgspec.structs.replace(query, **bound, generation=page.generation, limit=limit, upto=upto)


def export_reply(query: ScanQuery) -> Response:
    """Return all events of the query as NDJSON, one JSON object per line.

    The first page is read before the answer starts, so that an error still has its own status. It fixes the generation
    and the last sequence: a restore in between changes nothing.
    """
    release = current_edge().transfers.acquire()
    try:
        store = current_store()
        first = store.scan(query)
        return audit_export(ndjson_response(_lines(store, query, first), release, "events.ndjson"), query)
    except BaseException:
        release()
        raise


def _lines(store: Store, query: ScanQuery, first: Page) -> Iterator[bytes]:
    upto = first.last_sequence if query.upto is None else query.upto
    page = first
    with store.lease_generation(first.generation) as lease:
        while True:
            if page.events:
                yield b"\n".join(page.events) + b"\n"
            if page.next is None or page.next >= upto:
                return
            page = retry_while_store_is_away(
                partial(_read_next_page, store, lease, _next_query(query, page, limit=query.limit, upto=upto))
            )


def _read_next_page(store: Store, lease: Lease, query: ScanQuery) -> Page:
    lease.renew()
    return store.scan(query)
