"""The schema of a valid event, declared once in marshmallow; the fast validator is compiled from that declaration.

`EventSchema` is the declaration. `JSON_SCHEMA`, also part of the OpenAPI document, is generated from it and compiled by
jsonschema-rs, which validates every event. Marshmallow only describes the problems of an invalid one. Source of the
rules: CloudEvents 1.0.2, "Context Attributes", with only `type` required, because the rest is filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import jsonschema_rs
from marshmallow import INCLUDE, Schema, ValidationError, fields, validates_schema
from marshmallow import validate as rules

from eventvault.events.event import EXTENSION_NAME, LONGEST_TEXT, REGISTRY_ATTRIBUTES

MAX_ATTRIBUTES = 10_000
MAX_PROBLEMS = 20
"""The most problems of an event, and invalid events of a request, that are described: answers have a bounded size."""
_LONGEST_NAME = 80
_LONGEST_MESSAGE = 200

_LEAST, _LARGEST = -(2**63), 2**64 - 1
"""Integers that common JSON readers keep exactly."""
_NO_CONTROL = r"[^\u0000-\u001f\u007f-\u009f]*"
_MEDIA_TYPE = r"[!-.0-~]+/[!-.0-:<-~]+[ \t]*(;[^\u0000-\u001f\u007f]*)?"
_BASE64 = r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


class FieldProblem(NamedTuple):
    """A problem of an event: the attribute's name, and why its value is not allowed."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class Matches(rules.Validator):
    """Checks that the whole text matches `pattern`, which must mean the same in Python and ECMA 262."""

    def __init__(self, pattern: str, message: str) -> None:
        self.pattern = pattern
        self.message = message
        self._compiled = re.compile(pattern)

    def __call__(self, value: str) -> str:
        if not self._compiled.fullmatch(value):
            raise ValidationError(self.message)
        return value


class TimestampField(fields.String):
    """An RFC 3339 instant, stored as it was sent."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        match = _INSTANT.fullmatch(text)
        try:
            if match is None:
                raise ValueError(text)
            seconds = "59" if match[2] == "60" else match[2]
            datetime.fromisoformat(f"{match[1]}{seconds}{match[4]}".upper())
        except ValueError:
            raise ValidationError("Not an RFC 3339 instant with an offset, such as 2026-01-31T12:34:56.789Z.") from None
        return text


def _text(*, required: bool = False, example: str) -> fields.String:
    return fields.String(
        required=required,
        allow_none=not required,
        validate=[
            rules.Length(min=1, max=LONGEST_TEXT),
            Matches(_NO_CONTROL, "Holds control characters."),
        ],
        metadata={"example": example},
    )


class EventSchema(Schema):
    """An event as it is sent. An attribute that is null counts as absent, except `type` and `data`."""

    class Meta:
        unknown = INCLUDE

    specversion = fields.String(allow_none=True, validate=rules.OneOf(["1.0"]))
    id = _text(example="order-4711")
    source = _text(example="/shop/berlin")
    type = _text(required=True, example="com.example.order.created")
    subject = _text(example="orders/4711")
    time = TimestampField(allow_none=True)
    datacontenttype = fields.String(
        allow_none=True, validate=Matches(_MEDIA_TYPE, "Not a media type such as application/json.")
    )
    dataschema = _text(example="https://example.com/order.json")
    data = fields.Raw(allow_none=True, metadata={"example": {"total": 19.9}})
    data_base64 = fields.String(allow_none=True, validate=Matches(_BASE64, "Not base64 (RFC 4648, section 4)."))

    @validates_schema
    def one_kind_of_data(self, event: Mapping[str, Any], **_: Any) -> None:
        if "data" in event and event.get("data_base64") is not None:
            raise ValidationError("Give data or data_base64, not both.", "data_base64")

    @validates_schema
    def has_few_attributes(self, event: Mapping[str, Any], **_: Any) -> None:
        if len(event) > MAX_ATTRIBUTES:
            raise ValidationError(too_many_attributes(len(event)), "event")

    @validates_schema
    def extensions_are_flat(self, event: Mapping[str, Any], **_: Any) -> None:
        extensions = {
            name: value for name, value in event.items() if name not in self.fields and name not in REGISTRY_ATTRIBUTES
        }
        wrong = {
            str(name): message for name, value in extensions.items() if (message := _extension_problem(name, value))
        }
        if wrong:
            raise ValidationError({name: [message] for name, message in wrong.items()})


def too_many_attributes(count: int) -> str:
    return f"Has {count} attributes, at most {MAX_ATTRIBUTES} are allowed: put them inside data."


def _extension_problem(name: Any, value: Any) -> str | None:
    if not isinstance(name, str) or not re.fullmatch(EXTENSION_NAME, name):
        return "Not an attribute's name (lower-case letters and digits, at most 64): put it inside data."
    if isinstance(value, float | int) and not _LEAST <= value <= _LARGEST:
        return "An integer beyond 64 bits: put it inside data, or send it as a string."
    whole = isinstance(value, float) and value.is_integer()
    if not (whole or value is None or isinstance(value, str | bool | int)):
        return "An extension is a string, a boolean or a whole number: put other values inside data."
    return None


def to_json_schema(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a flat marshmallow schema, with CloudEvents' extension attributes."""
    return {
        "type": "object",
        "maxProperties": MAX_ATTRIBUTES,
        "required": sorted(name for name, field in schema.fields.items() if field.required),
        "properties": {
            **{name: _property(field) for name, field in schema.fields.items()},
            **{name: {} for name in sorted(REGISTRY_ATTRIBUTES)},
        },
        "propertyNames": {"pattern": f"^({EXTENSION_NAME}|data_base64)$"},
        "additionalProperties": {
            "type": ["string", "boolean", "integer", "null"],
            "minimum": _LEAST,
            "maximum": _LARGEST,
        },
        "not": {"required": ["data", "data_base64"], "properties": {"data_base64": {"type": "string"}}},
    }


def _property(field: fields.Field[Any]) -> dict[str, Any]:
    definition: dict[str, Any] = {"examples": [field.metadata["example"]]} if "example" in field.metadata else {}
    if not isinstance(field, fields.String):
        return definition
    definition["type"] = ["string", "null"] if field.allow_none else "string"
    if isinstance(field, TimestampField):
        definition["format"] = "date-time"
    for rule in field.validators:
        definition |= _rule(rule, nullable=field.allow_none)
    return definition


def _rule(rule: object, *, nullable: bool) -> dict[str, Any]:
    match rule:
        case rules.Length():
            return {"minLength": rule.min, "maxLength": rule.max}
        case Matches():
            return {"pattern": f"^({rule.pattern})$"}
        case rules.OneOf():
            return {"enum": [*rule.choices, None] if nullable else [*rule.choices]}
    raise TypeError(f"no JSON Schema is known for the rule {rule!r}")


_SCHEMA = EventSchema()
JSON_SCHEMA = to_json_schema(_SCHEMA)
_ONE_EVENT = jsonschema_rs.Draft202012Validator(JSON_SCHEMA, validate_formats=True)
_VALUES = {
    name: jsonschema_rs.Draft202012Validator({"type": "array", "items": rules}, validate_formats=True)
    for name, rules in JSON_SCHEMA["properties"].items()
}
_MANY_EVENTS = jsonschema_rs.Draft202012Validator({"type": "array", "items": JSON_SCHEMA}, validate_formats=True)


def validate(attributes: object) -> list[FieldProblem]:
    """Return the first problems of one event in the order of the declaration; an empty list if it is valid."""
    try:
        if _ONE_EVENT.is_valid(attributes):
            return []
    except ValueError as error:
        return [FieldProblem("data", f"Cannot be kept as JSON: {error}.")]
    return _describe_problems(attributes) or [
        FieldProblem("event", error.message[:_LONGEST_MESSAGE])
        for error in islice(_ONE_EVENT.iter_errors(attributes), MAX_PROBLEMS)
    ]


def allows(name: str, values: Sequence[object]) -> bool:
    """Return whether the schema allows all of these values of an attribute."""
    return _VALUES[name].is_valid(values)


def validate_many(events: Sequence[object]) -> dict[int, list[FieldProblem]]:
    """Return the problems of the first invalid events by index; an empty dictionary if all are valid."""
    try:
        if _MANY_EVENTS.is_valid(events):
            return {}
    except ValueError:
        pass
    invalid = ((index, problems) for index, event in enumerate(events) if (problems := validate(event)))
    return dict(islice(invalid, MAX_PROBLEMS))


def _describe_problems(attributes: object) -> list[FieldProblem]:
    if not isinstance(attributes, Mapping):
        return [FieldProblem("event", "Not a JSON object.")]
    by_field: Mapping[str, Any] = _SCHEMA.validate(attributes)
    problems = (
        FieldProblem(shown_name(name), str(message)) for name, messages in by_field.items() for message in messages
    )
    return list(islice(problems, MAX_PROBLEMS))


def shown_name(name: str) -> str:
    """Return the name of an attribute for an answer: shortened, because clients choose names."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
