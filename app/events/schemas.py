"""The schemas of `/api/events`: query strings and answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from app.replies import ReplySchema
from eventvault import clock
from eventvault.events.event import LONGEST_TEXT

GENERATION_ID = validate.Regexp(re.compile(r"^[0-9a-f]{16}$(?!\n)"), error="Not the id of a generation.")


class WholeNumberField(fields.Integer):
    """Takes JSON's integers, among which JSON Schema counts `1.0`, and no text that may mean one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strict=True, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> Any:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        return super()._deserialize(whole, attr, data, **options)


CURSOR = r"^([0-9]{1,18}|c[A-Za-z0-9_-]{8,})$"
"""The form of a cursor, for the OpenAPI document; `eventvault.events.cursor` decides."""


class InstantField(fields.String):
    """An RFC 3339 instant as microseconds since the epoch. A space, which a query string makes of `+`, counts as `+`.

    up: round fractions of a microsecond up, for the start of a range; otherwise they are cut off.
    """

    def __init__(self, *, up: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._up = up

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> Any:
        text: str = super()._deserialize(value, attr, data, **options)
        try:
            return clock.parse_lenient(text, up=self._up)
        except (ValueError, OverflowError):
            raise ValidationError("Not an RFC 3339 instant with an offset, such as 2026-01-31T12:34:56.789Z.") from None


def as_of_field(description: str) -> InstantField:
    """Return the field for the instant whose registry is read."""
    return InstantField(data_key="asOf", metadata={"format": "date-time", "description": description})


def generation_field(
    description: str = "With `asOf`: the generation to read; a superseded one is allowed.",
) -> fields.String:
    return fields.String(validate=GENERATION_ID, metadata={"description": description})


def require_as_of(data: Mapping[str, Any]) -> None:
    """Raise ValidationError for a generation without an instant."""
    if "generation" in data and "as_of" not in data:
        raise ValidationError("Only together with asOf.", "generation")


class RangeQuerySchema(Schema):
    type = fields.String()
    recorded_from = InstantField(
        up=True, data_key="from", metadata={"format": "date-time", "description": "Earliest `recordedtime`, inclusive."}
    )
    recorded_to = InstantField(
        data_key="to", metadata={"format": "date-time", "description": "Latest `recordedtime`, inclusive."}
    )


class StreamQuerySchema(RangeQuerySchema):
    after = fields.String(
        metadata={"pattern": CURSOR, "description": "The `next` of an earlier answer, or a sequence number."}
    )
    subject = fields.String()
    source = fields.String()


class FilterQuerySchema(StreamQuerySchema):
    as_of = as_of_field("Read the registry as it was at this instant.")
    generation = generation_field()

    @validates_schema
    def _check_generation(self, data: dict[str, Any], **_: Any) -> None:
        require_as_of(data)
        if "generation" in data and "id" in data:
            raise ValidationError("Not together with id.", "generation")


class ListQuerySchema(FilterQuerySchema):
    before = fields.String(
        metadata={
            "pattern": CURSOR,
            "description": "Events below this: the `next` of an answer with the newest first, or a sequence.",
        }
    )
    order = fields.String(load_default="oldest", validate=validate.OneOf(["oldest", "newest"]))
    limit = fields.Integer(load_default=100, validate=validate.Range(1, 1000))
    id = fields.String(
        metadata={"description": "Answer with the event of this id. Add `source` if several events have the id."}
    )


class HistogramQuerySchema(RangeQuerySchema):
    type = fields.String(validate=validate.Length(max=LONGEST_TEXT))
    buckets = fields.Integer(load_default=100, validate=validate.Range(1, 1000))
    as_of = as_of_field("Count the events of the registry as it was at this instant.")
    generation = generation_field("The generation to read, to its end or `asOf`; a superseded one is allowed.")

    @validates_schema
    def _check_order(self, data: dict[str, Any], **_: Any) -> None:
        both = {"recorded_from", "recorded_to"} <= data.keys()
        if both and data["recorded_from"] > data["recorded_to"]:
            raise ValidationError("Later than `to`.", "from")


class TypesQuerySchema(Schema):
    after = fields.String(
        metadata={"pattern": CURSOR, "description": "Count events after this: a sequence number, or a cursor."}
    )
    upto = fields.Integer(
        validate=validate.Range(0, 2**63 - 2), metadata={"description": "Count events up to this sequence number."}
    )
    limit = fields.Integer(load_default=20, validate=validate.Range(1, 1000))


class EventQuerySchema(Schema):
    source = fields.String(metadata={"description": "The source, if events of several sources have the id."})


class RecordedEventSchema(ReplySchema):
    """A stored event: its CloudEvents attributes, `sequence` and `recordedtime`."""

    specversion = fields.String()
    id = fields.String(required=True)
    source = fields.String(required=True)
    type = fields.String(required=True)
    time = fields.String()
    subject = fields.String()
    datacontenttype = fields.String()
    data = fields.Raw(allow_none=True)
    sequence = fields.Integer(required=True)
    recordedtime = fields.String(required=True)


class AppendResultSchema(ReplySchema):
    id = fields.String(required=True)
    sequence = fields.Integer(required=True)
    recordedtime = fields.String(required=True)
    duplicate = fields.Boolean(required=True)
    differs = fields.Boolean(
        metadata={"description": "True if the content of a duplicate differs from the stored event."}
    )


class AppendedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    accepted = fields.Integer(required=True, metadata={"description": "Number of new events."})
    duplicates = fields.Integer(required=True)
    lastSequence = fields.Integer(required=True)  # noqa: N815  # the literal name of the answer's member
    results = fields.List(fields.Nested(AppendResultSchema), required=True)
    kafka = fields.String(
        validate=validate.OneOf(("published", "pending", "refused")),
        metadata={"description": "With `durability=kafka`: whether Kafka has the events, or refuses one of them."},
    )


class OneEventSchema(ReplySchema):
    success = fields.Boolean(required=True)
    event = fields.Nested(RecordedEventSchema, required=True)


class EventsSchema(ReplySchema):
    success = fields.Boolean(required=True)
    events = fields.List(fields.Nested(RecordedEventSchema), required=True)
    next = fields.String(
        required=True, allow_none=True, metadata={"description": "The cursor of the next page; null at the end."}
    )
    lastSequence = fields.Integer(required=True)  # noqa: N815


class HistogramSchema(ReplySchema):
    success = fields.Boolean(required=True)
    from_ = fields.String(required=True, data_key="from", metadata={"format": "date-time"})
    to = fields.String(required=True, metadata={"format": "date-time"})
    bucketSeconds = fields.Float(required=True)  # noqa: N815
    counts = fields.List(fields.Integer(), required=True)
    before = fields.Integer(required=True, metadata={"description": "Events before `from`, of any type."})
    exact = fields.Boolean(required=True, metadata={"description": "False if the counts of a type are estimated."})
    generation = fields.String(required=True, allow_none=True)


class LastOfTypeSchema(ReplySchema):
    sequence = fields.Integer(required=True)
    recordedtime = fields.String(required=True)


class TypeCountSchema(ReplySchema):
    type = fields.String(required=True)
    events = fields.Integer(required=True)
    last = fields.Nested(LastOfTypeSchema, required=True)


class EventTypesSchema(ReplySchema):
    success = fields.Boolean(required=True)
    types = fields.List(fields.Nested(TypeCountSchema), required=True)
    counted = fields.Integer(required=True, metadata={"description": "How many events were counted: the newest."})
    complete = fields.Boolean(required=True, metadata={"description": "False if not all events or types were counted."})
    generation = fields.String(required=True)


def problem_fields(problems: Mapping[int, list[Any]], *, many: bool) -> dict[str, Any]:
    """Return the `fields` of a 422: attribute → messages; if several events were sent, by the event's index."""
    by_index = {str(index): _by_field(messages) for index, messages in problems.items()}
    return by_index if many else next(iter(by_index.values()))


def _by_field(problems: list[Any]) -> dict[str, list[str]]:
    messages: dict[str, list[str]] = {}
    for problem in problems:
        messages.setdefault(problem.field, []).append(problem.message)
    return messages
