"""A JSON array, split into its elements however it arrives."""

from __future__ import annotations

import json
import random
import tracemalloc
from typing import Any

import pytest

from eventvault.imports.arrays import records_of_array
from tests.eventvault.imports.reading import jsons, problems, records

EVENTS: list[Any] = [
    {"type": "a", "id": "1"},
    {"type": "b", "data": {"text": 'brackets ]}[{ and a quote \\" in "it"', "list": [[1, 2], {"x": []}]}},
    {"type": "c", "data": "\\"},
    {"type": "d", "data": '\\\\"]'},
]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("step", [1, 3, 64, 10_000])
def test_elements_come_one_by_one(indent: int | None, step: int) -> None:
    content = json.dumps(EVENTS, indent=indent).encode()
    assert [json.loads(text) for text in jsons(b" \n" + content + b"\n", step=step)] == EVENTS


def test_an_element_has_its_number_and_the_line_on_which_it_begins() -> None:
    found = records(b'[\n {"type":"a"},\n\n {"type":\n"b"}, {"type":"c"}]')
    assert [(record.number, record.line) for record in found] == [(1, 2), (2, 4), (3, 5)]


def test_an_empty_array_has_no_element() -> None:
    assert records(b" [ ] \n") == []


def test_what_is_no_object_is_rejected_alone() -> None:
    found = problems(b'[{"type":"a"},\n 42, "x",\n{"type":"b"}]\ntrailing')
    assert list(found) == [1, 3]
    assert jsons(b'[{"type":"a"}, 42, {"type":"b"}]') == [b'{"type":"a"}', b"", b'{"type":"b"}']


def test_an_array_in_an_array_is_one_element() -> None:
    assert jsons(b'[[1,[2]],{"type":"a"}]') == [b"[1,[2]]", b'{"type":"a"}']


@pytest.mark.parametrize("end", [b"", b'{"type":"b"', b'{"type":"b', b'{"type":"b\\'])
def test_an_array_that_breaks_off_says_so_and_what_came_before_is_whole(end: bytes) -> None:
    first, last = records(b'[{"type":"a"},' + end)
    assert first.json == b'{"type":"a"}'
    assert last.incomplete
    assert last.problem is not None
    assert "not closed" in last.problem.message


@pytest.mark.parametrize("step", [1, 50, 5000])
@pytest.mark.parametrize("filling", [b"x" * 3000, b'\\"' * 1500, b"]" * 3000])
def test_an_element_that_is_too_long_is_rejected_and_not_held(step: int, filling: bytes) -> None:
    content = b'[{"type":"a"},{"data":"' + filling + b'","more":[1,{"x":"]"}]},\n{"type":"b"}]'
    first, second, third = records(content, step=step)
    assert (first.json, third.json, third.line) == (b'{"type":"a"}', b'{"type":"b"}', 2)
    assert second.problem is not None
    assert "at most 1,000 are allowed" in second.problem.message
    assert second.digest


@pytest.mark.slow
def test_an_element_of_many_megabytes_is_read_in_bounded_memory() -> None:
    def chunks():  # type: ignore[no-untyped-def]
        yield b'[{"data":"'
        for _ in range(128):
            yield b"x" * 2**18
        yield b'"},{"type":"a"}]'

    tracemalloc.start()
    try:
        first, second = records_of_array(chunks(), 2**20, lambda: None)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert first.problem is not None
    assert second.json == b'{"type":"a"}'


def test_any_array_is_split_like_a_parser_splits_it() -> None:
    rng = random.Random(5)

    def value(depth: int) -> Any:
        kinds = ["text", "number", "list", "object"] if depth < 4 else ["text", "number"]
        match rng.choice(kinds):
            case "text":
                return "".join(rng.choices('ab"\\[]{},: \n', k=rng.randrange(8)))
            case "number":
                return rng.randrange(100)
            case "list":
                return [value(depth + 1) for _ in range(rng.randrange(3))]
            case _:
                return {str(number): value(depth + 1) for number in range(rng.randrange(3))}

    for _ in range(200):
        events = [{"n": value(0)} for _ in range(rng.randrange(5))]
        content = json.dumps(events, indent=rng.choice([None, 1])).encode()
        assert [json.loads(text) for text in jsons(content, step=rng.randrange(1, 30))] == events
