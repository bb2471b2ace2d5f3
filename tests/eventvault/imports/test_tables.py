"""Tables (CSV): rows become events, and a row that is wrong is rejected alone."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from eventvault.errors import InvalidInput
from eventvault.imports.mapping import parse
from tests.eventvault.imports.reading import jsons, problems, records

MAPPING = parse("type=kind,subject=order_id,data.total:number=amount,time=created_at")
HEADER = b"kind,order_id,amount,created_at\n"
ROW = b"order.paid,orders/1,19.90,2026-01-31T12:00:00Z\n"
EVENT = b'{"type":"order.paid","subject":"orders/1","data":{"total":19.90},"time":"2026-01-31T12:00:00Z"}'


def events(content: bytes, **form: Any) -> list[Any]:
    return [orjson.loads(text) for text in jsons(content, **form) if text]


def test_a_row_becomes_an_event_by_the_mapping_and_numbers_keep_their_digits() -> None:
    assert jsons(HEADER + ROW, mapping=MAPPING) == [EVENT]


def test_columns_with_the_names_of_attributes_need_no_mapping() -> None:
    content = b"type,id,data.total,data.who.name\na,1,7,Ann\nb,2,,\n"
    assert events(content) == [
        {"type": "a", "id": "1", "data": {"total": "7", "who": {"name": "Ann"}}},
        {"type": "b", "id": "2"},
    ]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("step", [1, 10, 1000])
def test_quotes_hold_delimiters_quotes_and_line_ends(ends: bytes, step: int) -> None:
    content = b'type,subject,data\na,"x, ""y""","one' + ends + b'two"' + ends + b"b,,z" + ends
    assert events(content.replace(b"data\n", b"data" + ends), step=step) == [
        {"type": "a", "subject": 'x, "y"', "data": f"one{ends.decode()}two"},
        {"type": "b", "data": "z"},
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_tells_the_delimiter(delimiter: str) -> None:
    content = "type,id,subject\na,1,x\n".replace(",", delimiter).encode()
    assert events(content) == [{"type": "a", "id": "1", "subject": "x"}]
    assert events(content, delimiter=delimiter) == [{"type": "a", "id": "1", "subject": "x"}]


def test_a_ragged_row_is_rejected_by_its_line_and_the_rest_is_read() -> None:
    content = b"type,id\na,1\nb\nc,3,x\n\nd,4\n"
    assert problems(content) == {
        3: "the row has 1 cells, the header has 2",
        4: "the row has 3 cells, the header has 2",
    }
    assert [event["id"] for event in events(content)] == ["1", "4"]
    assert [record.line for record in records(content)] == [2, 3, 4, 6]


def test_a_quote_that_is_not_closed_rejects_its_line_alone() -> None:
    content = b'type,id\na,1\n"b,2\nc,3\nd,4\n'
    assert list(problems(content)) == [3]
    assert [event["id"] for event in events(content)] == ["1", "3", "4"]


def test_a_quote_within_an_unquoted_cell_is_text() -> None:
    assert events(b'type,data\na,5" pipe\nb,x\n') == [{"type": "a", "data": '5" pipe'}, {"type": "b", "data": "x"}]


def test_a_quoted_cell_that_is_too_long_rejects_its_first_line_alone() -> None:
    content = b'type,id\na,1\n"b,2\n' + b"c,3\n" * 400
    assert list(problems(content, longest=1000)) == [3]
    assert len(events(content, longest=1000)) == 401


def test_a_line_that_is_too_long_is_rejected_by_its_number() -> None:
    content = b"type,data\na,1\nb," + b"x" * 5000 + b"\nc,3\n"
    assert list(problems(content, longest=1000)) == [3]
    assert [event["type"] for event in events(content, longest=1000)] == ["a", "c"]


def test_cells_that_are_not_what_the_mapping_says_are_rejected() -> None:
    mapping = parse("type=t,data.n:number=n,data.b:boolean=b,data.j:json=j")
    content = b't,n,b,j\na,1e3,yes,"{""x"": [1]}"\nb,007,no,\nc,,maybe,\nd,,,"1},""type"":""evil"""\n'
    assert events(content, mapping=mapping) == [{"type": "a", "data": {"n": 1000, "b": True, "j": {"x": [1]}}}]
    assert problems(content, mapping=mapping) == {
        3: "n: '007' is not a number",
        4: "b: 'maybe' is not a boolean: true, false, yes, no, 1 or 0",
        5: 'j: \'1},"type":"evil"\' is not JSON',
    }


def test_a_row_that_is_no_utf_8_is_rejected() -> None:
    content = b"type,subject\na,caf\xe9\nb,caf\xc3\xa9\n"
    assert problems(content) == {2: "the row is not UTF-8"}
    assert events(content) == [{"type": "b", "subject": "café"}]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"kind,id\na,1\n", "'kind'|no column is called type"),
        (b"type,order_id\na,1\n", "'order_id' is not an attribute"),
        (b"type,type\na,1\n", "two columns"),
        (b'type,"id\na,1\n', "header"),
        (b"\x00\x01\x02JPEG", "is not an attribute"),
    ],
)
def test_a_header_that_names_no_attributes_is_refused_before_anything_is_read(content: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        records(content)


def test_a_column_that_is_missing_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(InvalidInput, match="'amount'") as caught:
        records(b"kind,order_id,created_at\n", mapping=MAPPING)
    assert "kind, order_id, created_at" in caught.value.hint


def test_an_empty_table_has_no_row() -> None:
    assert records(b"") == []
    assert records(b"\n\n") == []
    assert records(b"type,id\n") == []
