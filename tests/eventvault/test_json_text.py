"""JSON as clients send it, with a right, a wrong or no content type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault import json_text
from eventvault.errors import InvalidInput, MalformedInput, UnsupportedMediaType
from tests.json_texts import JSON_TEXTS, Text

PROJECT = Path(__file__).resolve().parents[2]


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
    [b"{", b"label=x", b"nul", b'{"a":NaN}', b'"\xff"', b"[1]", b"7", b"null", b"[" * 100_000],
)
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedInput) as caught:
        json_text.parse_object(body, "application/json")
    assert caught.value.hint


def test_whole_numbers_keep_all_their_digits() -> None:
    assert json_text.parse(b"123456789012345678901234567890") == 123456789012345678901234567890


@pytest.mark.slow
@given(JSON_TEXTS)
def test_any_json_text_is_read_and_only_its_white_space_goes(text: Text) -> None:
    value, compact = json_text.read(text.sent.encode())
    assert compact == text.compact.encode()
    assert value == json.loads(text.sent)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":1,"b":2,"a":3}',
        '{"a":1,"\\u0061":2}',
        '{"":1,"":2}',
        '{"é":1,"\\u00E9":2}',
        '{"😀":1,"\\ud83d\\ude00":2}',
        '[0,{"x":[{"a":{"b":1,"b":2}}]}]',
        '{"a":{"a":{"a":1}},"a":1}',
        '{"a":1,"a":"\\u003a"}',
        '{"a":":","a":"\\u003A::"}',
        '{"a":1,"a":1,"b":"::::\\u003a\\u003a"}',
        '{"a":123456789012345678901234567890,"a":1}',
        '{"a":1e999,"a":1}',
        '{"a":' + "[" * 400 + "]" * 400 + ',"a":1}',
        '{"a\\\\":1,"a\\\\":2}',
    ],
)
def test_a_repeated_name_is_refused_at_any_depth_and_in_any_spelling(text: str) -> None:
    for body in (text, f" {text}\n", text.replace(":", " : ")):
        with pytest.raises(InvalidInput, match="twice"):
            json_text.read(body.encode())


@pytest.mark.parametrize(
    "text", ['{"a":{"a":[{"a":1},{"a":1}]}}', '{"a":1,"A":2}', '{"e\u0301":1,"é":2}', '["a:a:",{"a:":"a:"}]', "{}"]
)
def test_the_same_name_in_two_objects_is_not_repeated(text: str) -> None:
    assert json_text.read(text.encode())[1] == text.encode()


NAMES = st.lists(st.sampled_from(["a", "b", ":", "\\u003a", "\\u0061", '\\"', "::"]), min_size=1, max_size=5)


@pytest.mark.slow
@given(NAMES, st.sampled_from(['{"x":%s}', "[%s]", "%s"]), st.sampled_from(["1", '":"', '"\\u003a"', "1e400", "{}"]))
def test_a_repeated_name_is_found_however_many_colons_there_are(names: list[str], form: str, value: str) -> None:
    text = form % ("{" + ",".join(f'"{name}":{value}' for name in names) + "}")
    decoded = [json.loads(f'"{name}"') for name in names]
    try:
        json_text.read(text.encode())
        found = False
    except InvalidInput:
        found = True
    assert found == (len(set(decoded)) < len(decoded))


@pytest.mark.parametrize(
    "text",
    [b'"\\ud800"', b'["\\uDC00"]', b'{"a":"\\ud800\\u0041"}', b'{"\\udfff":1}', b'[1e999,"\\ud83d\\ud83d\\ude00"]'],
)
def test_a_lone_surrogate_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        json_text.read(text)


def test_escapes_that_look_like_surrogates_are_none() -> None:
    text = b'{"a":1e999,"b":"\\\\ud800 \\\\\\ud83d\\ude00 ud800"}'
    assert json_text.read(text)[1] == text


NOT_JSON = [
    "", " ", "{", "[1,]", '{"a":1,}', '{"a"}', "{,}", '{"a":}', "[1 2]", "01", "-01", "1.", ".5", "+1", "-", "1e",
    "nul", "NaN", "Infinity", "-Infinity", "[1e999,NaN]", "'a'", '"a', '"\t"', '"\\x"', '"\\u12"', '"\\ud83d\\ude0"',
    "1 2", "{}{}", "]", "[}", "\ufeff{}", "{1:2}", "\v1", "\u00a01", "[1]\x00", "// a\n1", '["\\ud800",]',
    '{"a":1,"a":2', "1e999x",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_the_grammar_does_not_allow_is_malformed(text: str) -> None:
    with pytest.raises(MalformedInput):
        json_text.read(text.encode())


@pytest.mark.parametrize(
    "text", [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'[1e999,"\xe9"]']
)
def test_what_is_not_utf_8_is_malformed(text: bytes) -> None:
    with pytest.raises(MalformedInput, match="UTF-8"):
        json_text.read(text)


@pytest.mark.parametrize("text", [b"\xff", b"[1,\xe9]", b'{"a":1,\xa0"b":2}'])
def test_other_bytes_between_tokens_are_not_json(text: bytes) -> None:
    with pytest.raises(MalformedInput, match="not JSON"):
        json_text.read(text)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 5000])
def test_a_number_that_python_does_not_hold_is_read_but_not_parsed(text: str) -> None:
    assert json_text.read(text.encode())[1] == text.encode()
    with pytest.raises(MalformedInput):
        json_text.parse(text.encode())


def test_depth_is_counted_in_brackets_outside_of_texts() -> None:
    deepest = b"[" * json_text.MAX_DEPTH + b'"[[["' + b"]" * json_text.MAX_DEPTH
    assert json_text.read(deepest)[1] == deepest
    with pytest.raises(InvalidInput, match="deep"):
        json_text.read(b"[" + deepest + b"]")


MANY = 300_000
HOSTILE: dict[str, Callable[[], bytes]] = {
    "millions of digits": lambda: b"9" * 30 * MANY,
    "millions of digits behind the point": lambda: b"0." + b"1" * 30 * MANY,
    "a long exponent": lambda: b"1e" + b"9" * 30 * MANY,
    "long integers": lambda: b"[" + b",".join([b"9" * 4300] * 2000) + b"]",
    "many members": lambda: b"{" + b",".join(b'"%d":1' % n for n in range(MANY)) + b"}",
    "many members, the last one repeated": lambda: b"{" + b",".join(b'"%d":1' % n for n in range(MANY)) + b',"0":1}',
    "one name many times": lambda: b"{" + b",".join([b'"a":1'] * MANY) + b"}",
    "many objects with a repeated name": lambda: b"[" + b",".join([b'{"a":1,"a":1}'] * MANY) + b"]",
    "many escapes": lambda: b'["' + b"\\u003a" * MANY + b'"]',
    "many lone surrogates": lambda: b'["' + b"\\ud83d" * MANY + b'"]',
    "many backslashes": lambda: b'["' + b"\\\\" * MANY + b'\\ud800"]',
    "nested deeply": lambda: b"[" * 5 * MANY + b"]" * 5 * MANY,
    "opened and never closed": lambda: b'{"a":' * MANY,
    "many brackets in a text": lambda: b'[1e999,"' + b"[{" * MANY + b'"]',
    "a text that does not end": lambda: b'[1e999,"' + b"a" * 10 * MANY,
    "blanks": lambda: b" " * 10 * MANY + b"1e999",
}
MEASURE = """
import resource, sys
from contextlib import suppress
from eventvault import json_text
from eventvault.errors import EventVaultError
text = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF)
with suppress(EventVaultError):
    json_text.read(text)
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime - before.ru_utime, (after.ru_maxrss - before.ru_maxrss) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_takes_bounded_time_and_memory(make: Callable[[], bytes]) -> None:
    text = make()
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", MEASURE], input=text, env=environment, capture_output=True, check=True)
    seconds, grown = map(float, done.stdout.split())
    assert seconds < 10, "of CPU time: it takes less than one"
    assert grown < 30 * len(text) + 2**22, "as much as a parsed body of small values takes"
