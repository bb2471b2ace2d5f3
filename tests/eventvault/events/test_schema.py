"""The schema of an event: what it refuses, the texts of the problems, and that the compiled form agrees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault.events import schema
from eventvault.events.schema import EventSchema, FieldProblem, validate, validate_many


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": "a"},
        {"type": "a", "data": None},
        {"type": "a", "data": {"deep": [1, {"er": None}]}, "id": "x/y z", "source": "/s", "subject": "ü"},
        {"type": "a", "time": "2024-02-29T23:59:59.123456789+05:30"},
        {"type": "a", "time": "1990-12-31T23:59:60Z"},
        {"type": "a", "id": None, "source": None, "subject": None, "time": None, "specversion": None},
        {"type": "a", "specversion": "1.0", "datacontenttype": "application/json; charset=utf-8"},
        {"type": "a", "data_base64": "aGk="},
        {"type": "a", "data": 1, "data_base64": None},
        {"type": "a", "traceparent": "00-x-y-01", "priority": 3, "urgent": True, "gone": None},
        {"type": "a", "sequence": 7, "recordedtime": "2026-01-31T12:34:56.789012Z", "originalkey": "base64:AA=="},
    ],
)
def test_a_valid_event_has_no_problems(attributes: dict[str, Any]) -> None:
    assert validate(attributes) == []
    assert EventSchema().validate(attributes) == {}


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({}, "type"),
        ({"type": None}, "type"),
        ({"type": ""}, "type"),
        ({"type": 5}, "type"),
        ({"type": "a", "id": ""}, "id"),
        ({"type": "a", "id": 7}, "id"),
        ({"type": "a", "id": "x" * 2049}, "id"),
        ({"type": "a", "id": "line\nbreak"}, "id"),
        ({"type": "a", "id": "end\n"}, "id"),
        ({"type": "a", "source": "\x00"}, "source"),
        ({"type": "a", "specversion": "0.3"}, "specversion"),
        ({"type": "a", "time": "yesterday"}, "time"),
        ({"type": "a", "time": "2024-01-01T00:00:00"}, "time"),
        ({"type": "a", "time": "2023-02-29T00:00:00Z"}, "time"),
        ({"type": "a", "time": 1704067200}, "time"),
        ({"type": "a", "datacontenttype": "json"}, "datacontenttype"),
        ({"type": "a", "data_base64": "a?"}, "data_base64"),
        ({"type": "a", "data": {}, "data_base64": "aGk="}, "data_base64"),
        ({"type": "a", "userId": "1"}, "userId"),
        ({"type": "a", "extra": {"nested": 1}}, "extra"),
        ({"type": "a", "ratio": 0.5}, "ratio"),
    ],
)
def test_an_invalid_attribute_is_named(attributes: dict[str, Any], field: str) -> None:
    assert [problem.field for problem in validate(attributes)] == [field]


@pytest.mark.parametrize("value", [None, "text", 3, [], [{"type": "a"}]])
def test_what_is_no_object_is_no_event(value: object) -> None:
    assert validate(value) == [FieldProblem("event", "Not a JSON object.")]


def test_many_events_are_told_apart_by_index() -> None:
    found = validate_many([{"type": "a"}, {"type": ""}, 7, {"type": "b"}])

    assert sorted(found) == [1, 2]
    assert str(found[2][0]) == "event: Not a JSON object."
    assert validate_many([{"type": "a"}]) == {}


@pytest.mark.slow
def test_several_problems_of_one_event_are_all_said() -> None:
    assert {problem.field for problem in validate({"type": 1, "time": "no", "Bad": 2})} >= {"type", "time"}


def test_data_of_any_depth_raises_nothing() -> None:
    deep: Any = None
    for _ in range(2000):
        deep = [deep]
    assert isinstance(validate({"type": "a", "data": deep}), list)


_TEXTS = st.one_of(st.text(max_size=5), st.sampled_from(["a", "1.0", "aGk=", "a/b", "2024-01-31T00:00:00Z", ""]))
_VALUES = st.one_of(_TEXTS, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
_NAMES = st.one_of(st.sampled_from([*EventSchema().fields, "sequence", "ext", "userId"]), st.text(max_size=3))


@pytest.mark.slow
@settings(deadline=None, database=None)
@given(st.dictionaries(_NAMES, _VALUES, max_size=5))
def test_the_compiled_form_agrees_with_the_declaration(attributes: dict[str, Any]) -> None:
    assert schema._ONE_EVENT.is_valid(attributes) == (EventSchema().validate(attributes) == {})
