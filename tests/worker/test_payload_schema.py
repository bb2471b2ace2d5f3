"""The JSON Schema of a marshmallow schema takes and refuses what marshmallow does."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from worker.payload_schema import to_json_schema


class Place(Schema):
    name = fields.String(required=True, validate=validate.Length(min=1, max=10))
    within = fields.Nested(lambda: Place())


class Order(Schema):
    number = fields.Integer(required=True, strict=True, validate=validate.Range(min=1))
    state = fields.String(validate=validate.OneOf(["new", "paid"]))
    note = fields.String(allow_none=True)
    places = fields.List(fields.Nested(Place))
    kind = fields.String(data_key="type")


class Open(Schema):
    class Meta:
        unknown = EXCLUDE

    a = fields.Boolean()


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (Order(), {"number": 1}),
        (Order(), {"number": 1, "note": None, "type": "x", "state": "paid"}),
        (Order(), {"number": 1, "places": [{"name": "a", "within": {"name": "b", "within": {"name": "c"}}}]}),
        (Order(), {"number": 1, "places": [{"name": "a", "within": {"name": ""}}]}),
        (Order(), {}),
        (Order(), []),
        (Order(), {"number": 0}),
        (Order(), {"number": "one"}),
        (Order(), {"number": 1, "state": "old"}),
        (Order(), {"number": 1, "kind": "x"}),
        (Order(), {"number": 1, "places": [{"name": "a", "more": 1}]}),
        (Order(many=True), [{"number": 1}, {"number": 2}]),
        (Order(many=True), {"number": 1}),
        (Order(many=True), [{"number": 1}, {"number": None}]),
        (Open(), {"a": True, "b": 1}),
        (Open(), {"a": 7}),
    ],
)
def test_both_say_the_same(schema: Schema, payload: Any) -> None:
    try:
        schema.load(payload)
        takes = True
    except ValidationError:
        takes = False
    assert jsonschema_rs.Draft202012Validator(to_json_schema(schema)).is_valid(payload) == takes
