"""Answers with a stream of events: those that follow a position, and each new one as soon as it is on disk."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from flask import Response, request

from app.edge import current_edge
from app.streams.answer import stream_reply
from app.streams.events import EventSource, restore_message
from app.streams.messages import id_of, note_id
from app.streams.source import StreamSource
from eventvault.database.values import Head, Resumption, ScanQuery
from eventvault.errors import InvalidInput
from eventvault.events import cursor
from eventvault.store.ports.store import Store

_LAST_EVENT_ID = re.compile(r"([0-9a-f]{16}):([0-9]{1,18})")


def stream_events_reply(parameters: dict[str, Any]) -> Response:
    """Return the stream. parameters: a validated query string. Raises InvalidInput, or TooBusy if no slot is free."""
    query = ScanQuery(
        type=parameters.get("type"),
        subject=parameters.get("subject"),
        source=parameters.get("source"),
        recorded_from=parameters.get("recorded_from"),
        recorded_to=parameters.get("recorded_to"),
    )
    reader = _last_event_id() or (cursor.decode(parameters["after"]) if "after" in parameters else None)

    def begin() -> tuple[bytes, StreamSource]:
        edge = current_edge()
        resumption = _resume(edge.store, reader)
        first = restore_message(resumption) or note_id(id_of(Head(resumption.generation, resumption.sequence)))
        return first, EventSource(edge.event_feed, query, resumption)

    return stream_reply(begin)


def _last_event_id() -> cursor.Cursor | None:
    """Return the position of a client that comes back; None for a new one."""
    text = request.headers.get("Last-Event-ID", "")
    if not text:
        return None
    parts = _LAST_EVENT_ID.fullmatch(text)
    if parts is None:
        raise InvalidInput(
            f"{text[:80]!r} is not the id of a message of this stream",
            hint="send the `id` of the last message, or leave Last-Event-ID out",
            fields={"Last-Event-ID": ["Not the id of a message."]},
        )
    return cursor.Cursor(int(parts[2]), parts[1])


def _resume(store: Store, reader: cursor.Cursor | None) -> Resumption:
    if reader is None:
        return store.resume(None)
    if reader.generation is None:
        return msgspec.structs.replace(store.resume(None), sequence=reader.sequence)
    return store.resume(Head(reader.generation, reader.sequence))
