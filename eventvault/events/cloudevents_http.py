"""Parses the bodies of posted events into events, without I/O or a framework.

Structured, batch and binary mode follow CloudEvents' HTTP protocol binding 1.0.2 (sections 3.1 to 3.3). A plain JSON
object or array and NDJSON (one JSON object per line) are accepted, too. `eventvault.events.schema` checks attributes.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from eventvault import json_text
from eventvault.errors import InvalidInput, MalformedInput, UnsupportedMediaType
from eventvault.events import sent as sent_event
from eventvault.events.event import MAX_EVENTS
from eventvault.events.sent import AnyEvent, SentEvent

MAX_EVENTS_PER_REQUEST = MAX_EVENTS
_MAX_LINES = 10 * MAX_EVENTS_PER_REQUEST
"""Lines of NDJSON, blank ones included."""

_STRUCTURED = "application/cloudevents"
_BATCH = "application/cloudevents-batch"

_URI_ATTRIBUTES = frozenset({"source", "dataschema", "dataref"})
"""Attributes that are URIs, which have their own escapes. `dataref` is a CloudEvents extension."""
_ESCAPE_OF_URI = re.compile(r"%(?!25)")
"""A `%` that is not percent-encoded: the sender did not encode the URI for the header."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

REPEATED = "\n"
"""Joins the values of a header that was sent several times; no single value contains it."""


class PostedEvents:
    """The events of a body, not validated yet. many: the body was an array or NDJSON, not a single event."""

    __slots__ = ("events", "many")

    def __init__(self, events: Sequence[AnyEvent], *, many: bool) -> None:
        if len(events) > MAX_EVENTS_PER_REQUEST:
            raise sent_event.too_many_events(f"{len(events)}")
        self.events = events
        self.many = many


def parse(body: bytes, content_type: str | None, headers: Mapping[str, str]) -> PostedEvents:
    """Return the events in a request's body.

    headers: the ones that begin with `ce-`, with names in lower case; only binary mode uses them. A WSGI server decodes
    their bytes as Latin-1. The values of a repeated header are joined with REPEATED.
    Raises MalformedInput, UnsupportedMediaType or TooLarge.
    """
    kind, charset = json_text.media_type(content_type)
    if kind.startswith(_STRUCTURED):
        return _parse_structured(kind, json_text.to_utf8(body, charset))
    if "ce-type" in headers or "ce-specversion" in headers:
        return PostedEvents([_parse_binary(body, content_type, headers)], many=False)
    if kind in json_text.NDJSON_TYPES:
        return _parse_lines(json_text.to_utf8(body, charset))
    json_text.require_json_like(content_type)
    return _parse_plain(json_text.to_utf8(body, charset))


def _parse_structured(kind: str, text: bytes) -> PostedEvents:
    if kind not in (f"{_STRUCTURED}+json", f"{_BATCH}+json"):
        raise UnsupportedMediaType(
            f"events in the format {kind!r} are not understood here",
            hint=f"send {_STRUCTURED}+json or {_BATCH}+json",
        )
    sent = sent_event.read(_not_empty(text))
    if kind.startswith(_BATCH) != isinstance(sent, Sequence):
        raise MalformedInput(
            f"a body of the type {kind} is {'an array' if kind.startswith(_BATCH) else 'one object'}, this one is not",
            hint=f"send an array as {_BATCH}+json, one event as {_STRUCTURED}+json",
        )
    return _posted_events(sent)


def _posted_events(sent: AnyEvent | Sequence[AnyEvent]) -> PostedEvents:
    return PostedEvents(sent, many=True) if isinstance(sent, Sequence) else PostedEvents([sent], many=False)


def _parse_plain(text: bytes) -> PostedEvents:
    """Parse one JSON value, or one per line: NDJSON is also recognised without its content type."""
    try:
        return _posted_events(sent_event.read(_not_empty(text)))
    except MalformedInput:
        if not _several_lines_of_json(text):
            raise
        return _parse_lines(text)


def _several_lines_of_json(text: bytes) -> bool:
    first, newline, rest = text.strip().partition(b"\n")
    if not newline or not rest:
        return False
    try:
        return isinstance(sent_event.read_one(first).attributes, dict)
    except MalformedInput:
        return False


def _parse_lines(text: bytes) -> PostedEvents:
    if text.count(b"\n") > _MAX_LINES:
        raise sent_event.too_many_events(f"more than {_MAX_LINES} lines with")
    return PostedEvents(sent_event.read_each(_named_lines(_not_empty(text))), many=True)


def _named_lines(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each line that is not blank. Raises TooLarge after MAX_EVENTS_PER_REQUEST lines."""
    count = 0
    for number, line in enumerate(io.BytesIO(text), 1):
        if line.strip():
            count += 1
            if count > MAX_EVENTS_PER_REQUEST:
                raise sent_event.too_many_events(f"more than {MAX_EVENTS_PER_REQUEST}")
            yield f"line {number}", line.removesuffix(b"\n")


def _not_empty(text: bytes) -> bytes:
    if not text.strip():
        raise MalformedInput("the request has no body", hint='send an event, such as {"type": "order.created"}')
    return text


def _parse_binary(body: bytes, content_type: str | None, headers: Mapping[str, str]) -> SentEvent:
    """Parse binary mode: attributes are `ce-` headers, the body is the data."""
    for name, value in headers.items():
        if REPEATED in value:
            raise MalformedInput(f"the header {name} is repeated", hint="send each attribute once")
    event: dict[str, Any] = {name[3:]: _attribute(name[3:], value) for name, value in headers.items()}
    for name in ("datacontenttype", "data", "data_base64"):
        if name in event:
            raise MalformedInput(
                f"the header ce-{name} is not allowed in binary mode",
                hint="the body is the data, and its type is the Content-Type header",
            )
    if content_type:
        event["datacontenttype"] = content_type
    return with_data(event, body, content_type)


def _attribute(name: str, value: str) -> str:
    """Return the attribute in a header: without quotes, then percent-decoded once (HTTP binding, section 3.1.3.2).

    The SDKs for JavaScript and Go do not percent-encode, so a URI from them is not decoded.
    """
    text = _unquote(_decode_header(value))
    if name in _URI_ATTRIBUTES and _ESCAPE_OF_URI.search(text):
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeError:
        raise MalformedInput(
            f"the header ce-{name} is percent-encoded, but not as UTF-8", hint="percent-encode the UTF-8 of its value"
        ) from None


def _decode_header(value: str) -> str:
    """Return a header's text: UTF-8, or else Latin-1, which JavaScript's `fetch` and Python's `http.client` send."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _unquote(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text


def with_data(attributes: dict[str, Any], body: bytes | None, content_type: str | None) -> SentEvent:
    """Return the event of binary mode. The body becomes `data` if it is JSON or text, otherwise `data_base64`.

    Raises MalformedInput or UnsupportedMediaType for data that is labelled as JSON but is not, and InvalidInput for a
    JSON text with a repeated name, a lone surrogate or too many levels.
    """
    if not body:
        return sent_event.from_attributes(attributes)
    kind, charset = json_text.media_type(content_type)
    if json_text.is_json(kind):
        return sent_event.from_attributes(attributes, _json_data(json_text.to_utf8(body, charset)))
    return sent_event.from_attributes(attributes | _text_or_base64(kind, charset, body))


def _json_data(text: bytes) -> bytes:
    try:
        return json_text.read(text, "the data")[1]
    except InvalidInput as error:
        error.details["fields"] = {"data": [f"{error.message}: {error.hint}."]}
        raise


def _text_or_base64(kind: str, charset: str | None, body: bytes) -> dict[str, str]:
    if kind.startswith("text/") and (charset or "utf-8").lower() in ("utf-8", "utf8", "us-ascii"):
        try:
            return {"data": body.decode()}
        except UnicodeError:
            pass
    return {"data_base64": base64.b64encode(body).decode()}
