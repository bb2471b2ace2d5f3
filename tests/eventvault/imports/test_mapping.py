"""The mapping of columns to attributes, on the command line and in a file."""

from __future__ import annotations

import pytest

from eventvault.errors import InvalidInput
from eventvault.imports.mapping import Field, parse, parse_file


def test_a_mapping_names_columns_kinds_and_fixed_values() -> None:
    mapping = parse('type="order.paid",subject=order id,data.total:number=amount,region=r')
    assert mapping.fields == (
        Field(("type",), None, "text", "order.paid"),
        Field(("subject",), "order id"),
        Field(("data", "total"), "amount", "number"),
        Field(("region",), "r"),
    )


def test_a_file_says_the_same() -> None:
    text = (
        b'{"type": {"value": "order.paid"}, "subject": "order id", "data.total": {"column": "amount", "as": "number"}}'
    )
    assert parse_file(text).fields == parse('type="order.paid",subject=order id,data.total:number=amount').fields


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "maps no column"),
        ("type", "maps no column"),
        ("type=", "maps no column"),
        ("subject=x", "mapped to type"),
        ("type=a,type=b", "mapped twice"),
        ("type=a,data=b,data.x=c", "and so is a member"),
        ("type=a,Order=b", "is not an attribute"),
        ("type=a,data.x:integer=b", "is not an attribute"),
        ("type=a,data.=b", "is not an attribute"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        parse(text)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"type": 1}',
        b'{"type": {"colum": "x"}}',
        b'{"type": {}}',
        b'{"type": {"column": "a", "value": 1}}',
    ],
)
def test_a_file_that_makes_no_sense_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_file(content)
