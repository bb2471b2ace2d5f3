"""JSON as clients send it, with a right, a wrong or no content type."""

from __future__ import annotations

import pytest

from eventvault import json_text
from eventvault.errors import MalformedInput, UnsupportedMediaType


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON; Charset="UTF-8"',
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/problem+json",
    ],
)
def test_json_is_read_under_each_label_that_clients_give_it(content_type: str | None) -> None:
    assert json_text.parse_object('{"label":"ü"}'.encode(), content_type) == {"label": "ü"}


@pytest.mark.parametrize("body", [b"", b"  \r\n"])
def test_an_empty_body_is_an_empty_object(body: bytes) -> None:
    assert json_text.parse_object(body, "application/octet-stream") == {}


@pytest.mark.parametrize(
    ("charset", "coding"), [("utf-16", "utf-16"), ("ISO-8859-1", "latin-1"), ("windows-1252", "cp1252")]
)
def test_a_charset_that_is_said_is_understood(charset: str, coding: str) -> None:
    body = '{"label":"ü"}'.encode(coding)
    assert json_text.parse_object(body, f"application/json; charset={charset}") == {"label": "ü"}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert json_text.parse_object(b'\xef\xbb\xbf{"a":1}', "application/json") == {"a": 1}


@pytest.mark.parametrize("charset", ["rot13", "hex", "utf-7", "no-such", "\x00"])
def test_other_charsets_are_refused(charset: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        json_text.parse_object(b"{}", f"application/json; charset={charset}")


@pytest.mark.parametrize("content_type", ["multipart/form-data", "image/png", "application/xml"])
def test_what_is_surely_no_json_is_refused_by_its_type(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        json_text.parse_object(b"{}", content_type)


@pytest.mark.parametrize(
    "body",
    [b"{", b"label=x", b"nul", b'{"a":NaN}', b'"\xff"', b"[1]", b"7", b"null", b'{"a":"\\ud800"}', b"[" * 100_000],
)
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedInput) as caught:
        json_text.parse_object(body, "application/json")
    assert caught.value.hint


def test_whole_numbers_keep_all_their_digits() -> None:
    assert json_text.parse(b"123456789012345678901234567890") == 123456789012345678901234567890
