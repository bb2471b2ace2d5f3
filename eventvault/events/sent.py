"""Reads events as their senders wrote them: the parsed attributes, and the JSON text that is stored.

The stored text is the sender's text, so that every digit and escape of `data` is preserved. Only white space between
tokens is removed, which makes an event one line. `data` is validated once and then not read again.

`eventvault.events.ordinary` recognises ordinary events faster; this module reads all, and says why one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec
import orjson

from eventvault import json_text
from eventvault.errors import InvalidInput, MalformedInput, TooLarge
from eventvault.events import event, ordinary, schema
from eventvault.events.event import MAX_EVENTS, EventDraft, encoded, raw_attributes
from eventvault.events.ordinary import OrdinaryArray, OrdinaryEvent
from eventvault.events.schema import FieldProblem

MAX_REFUSED = schema.MAX_PROBLEMS
"""The most refused events of a request that are described, because describing takes time."""
_MAX_COMMAS = 2_000_000
"""The most commas in an array that is split: each may separate two elements, and an element takes 64 bytes."""
MAX_ATTRIBUTES_OF_ALL = 1_500_000
"""The most attributes of all events of a request, which are in memory at the same time."""
_MAX_DEPTH = json_text.MAX_DEPTH + 1
"""`data` is one level inside the event."""
_ARRAY = re.compile(rb"[ \t\r\n]*\[")
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


class SentEvent(msgspec.Struct, frozen=True):
    """An event as it was sent. attributes: parsed, with True for `data`; if the text is not an object, its value.

    text: compact JSON. problem: why the text is refused; then there are no attributes, unless the only problem is a
    repeated name in an object in `data`.
    """

    attributes: Any
    text: bytes
    problem: FieldProblem | None = None

    @property
    def attribute_count(self) -> int:
        return len(self.attributes) if isinstance(self.attributes, dict) else 0

    @property
    def sent_id(self) -> str | None:
        """The id that the sender of a valid event gave; None if there is none."""
        event_id: str | None = self.attributes.get("id")
        return event_id

    def with_id(self, event_id: str, *, first: bool = False) -> SentEvent:
        """Return a valid event, which has no id or null, with this id.

        first: put a new member in front of the other attributes.
        """
        value = orjson.dumps(event_id)
        if first and "id" not in self.attributes:
            text = b'{"id":' + value + b"," + self.text[1:]
        else:
            text = msgspec.json.encode(raw_attributes(self.text) | {"id": msgspec.Raw(value)})
        return SentEvent({**self.attributes, "id": event_id}, text)

    def draft(self, instant: int) -> EventDraft:
        """Return a valid event as a draft. instant: in microseconds, used as `time` if the event has none."""
        return event.draft(self.attributes, instant, self.text)


AnyEvent = SentEvent | OrdinaryEvent

_UNREAD = SentEvent({"type": "unread"}, b"")


def read(text: bytes) -> AnyEvent | Sequence[AnyEvent]:
    """Return the event in a JSON text, or the events in an array. Raises MalformedInput if the text is not JSON."""
    return _read_array(text) if _ARRAY.match(text) else read_one(text)


def read_one(text: bytes, what: str = "the body") -> SentEvent:
    """Return the event in a JSON text. Raises MalformedInput, which names `what`, if it is not JSON."""
    try:
        return _event(*json_text.read(text, what, max_depth=_MAX_DEPTH))
    except InvalidInput as error:
        refusal = error.with_traceback(None)  # frees the parsed values
    problem = _problem(text, refusal)
    if isinstance(refusal, json_text.RepeatedName) and problem.field == "data":
        data = bytes(raw_attributes(text)["data"])
        with suppress(InvalidInput):  # the text has another problem, too, such as a repeated attribute
            return SentEvent(json_text.read(text.replace(data, b"true"))[0], json_text.compact(text), problem)
    return SentEvent({}, b"", problem)


def read_each(texts: Iterable[tuple[str, bytes]]) -> list[AnyEvent]:
    """Return the event in each text. texts: pairs of a name, for errors, and a text.

    After MAX_REFUSED refused events the others are not read, because the request is refused anyway. Raises
    MalformedInput as `read_one`, and TooLarge if the events have more than MAX_ATTRIBUTES_OF_ALL attributes.
    """
    events, refused, attributes = list[AnyEvent](), 0, 0
    for what, text, ordinary_event in _with_ordinary(texts):
        sent = ordinary_event or (read_one(text, what) if refused < MAX_REFUSED else _UNREAD)
        refused += sent.problem is not None
        attributes += sent.attribute_count
        if attributes > MAX_ATTRIBUTES_OF_ALL:
            raise TooLarge(
                f"the events have more than {MAX_ATTRIBUTES_OF_ALL} attributes", hint="send fewer events in one request"
            )
        events.append(sent)
    return events


def _with_ordinary(texts: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes, OrdinaryEvent | None]]:
    """Yield each text with its name, and with its event if that is ordinary."""
    rest = iter(texts)
    while some := list(islice(rest, ordinary.TOGETHER)):
        for (what, text), ordinary_event in zip(some, ordinary.read_many([text for _, text in some]), strict=True):
            yield what, text, ordinary_event


def from_attributes(attributes: dict[str, Any], data: bytes | None = None) -> SentEvent:
    """Return the event of attributes that were sent one by one, as in binary mode. data: compact JSON.

    The event keeps the dictionary.
    """
    if data is None:
        return SentEvent(attributes, encoded(attributes))
    attributes["data"] = orjson.Fragment(data)
    text = encoded(attributes)
    attributes["data"] = True
    return SentEvent(attributes, text)


def problems_of(events: Sequence[AnyEvent]) -> dict[int, list[FieldProblem]]:
    """Return the problems of the first invalid events by index, in order; an empty dictionary if all are valid."""
    if isinstance(events, OrdinaryArray):
        return {}
    unchecked = {index: sent for index, sent in enumerate(events) if isinstance(sent, SentEvent)}
    if not unchecked:
        return {}
    indexes = list(unchecked)
    invalid = schema.validate_many([sent.attributes for sent in unchecked.values()])
    problems = {indexes[position]: why for position, why in invalid.items()}
    refused = {index: [sent.problem] for index, sent in unchecked.items() if sent.problem is not None}
    return dict(sorted((problems | refused).items())[: schema.MAX_PROBLEMS]) if refused else problems


def drafts_of(events: Sequence[AnyEvent], instant: int) -> list[EventDraft]:
    """Return valid events as drafts. instant: in microseconds, used as `time` of events without one."""
    return events.drafts(instant) if isinstance(events, OrdinaryArray) else [sent.draft(instant) for sent in events]


def _read_array(text: bytes) -> Sequence[AnyEvent]:
    """Read an array at once, which is faster, or event by event if all of them together would fill the memory."""
    if json_text.has_too_many_values(text):
        if text.count(b",") > _MAX_COMMAS:
            raise json_text.too_many_values("the body")
        return _read_elements(text, None)
    if (events := ordinary.read_array(text)) is not None:
        return events
    try:
        values, compact = json_text.read(text, max_depth=_MAX_DEPTH + 1)
    except InvalidInput as error:
        return _read_elements(text, error)
    return [_event(value, bytes(element)) for value, element in zip(values, _elements(compact), strict=True)]


def _read_elements(text: bytes, error: InvalidInput | None) -> list[AnyEvent]:
    """Read event by event. error: the problem of the whole array; this finds out which events have it."""
    try:
        elements = _elements(text)
    except msgspec.DecodeError as refusal:
        if error is not None:  # a lone surrogate: the decoder stops there
            raise error from None
        raise MalformedInput(f"the body is not JSON: {refusal}", hint=json_text.NOT_JSON_HINT) from None
    except RecursionError:
        raise MalformedInput("the body is nested too deeply", hint=json_text.DEEP_HINT) from None
    if len(elements) > MAX_EVENTS:
        raise too_many_events(f"{len(elements)}")
    return read_each((f"event {index}", bytes(element)) for index, element in enumerate(elements))


def too_many_events(count: str) -> TooLarge:
    return TooLarge(f"{count} events in one request", hint=f"send at most {MAX_EVENTS} a request")


def _event(value: Any, text: bytes) -> SentEvent:
    if isinstance(value, dict) and len(value) > schema.MAX_ATTRIBUTES:
        return SentEvent({}, b"", FieldProblem("event", schema.too_many_attributes(len(value))))
    if isinstance(value, dict) and "data" in value:
        value["data"] = True  # frees the parsed data
    return SentEvent(value, text)


def _problem(text: bytes, error: InvalidInput) -> FieldProblem:
    """Return the problem with the name of the attribute that has it; `event` if that cannot be found out."""
    message = f"{error.message[:1].upper()}{error.message[1:]}: {error.hint}."
    try:
        members = raw_attributes(text)
    except (msgspec.MsgspecError, RecursionError):
        return FieldProblem("event", message)
    for name, value in members.items():
        try:
            json_text.read(bytes(value))
        except InvalidInput:
            return FieldProblem(schema.shown_name(name), message)
    return FieldProblem("event", message)
