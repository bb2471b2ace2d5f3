"""Foreign JSON is split: what is JSON, which members it has, and what an event can embed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault.foreign.json_scanner import Document, Number, embeddable, read_document, read_value
from eventvault.json_text import MAX_DEPTH

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[1,]", '{"a":1,}', '{"a"}', "{,}", '{"a":}', "[1 2]", "01", "1.", ".5", "+1", "-", "nul",
     "truefalse", "NaN", "Infinity", "'a'", '"a', '"\t"', '"\\x"', '"\\u12"', "1 2", "{}{}", "]", "[}", "{]",
     '{"a":1 "b":2}', "[1e]", "\ufeff{}", '{1:2}', '{"a":1]', "[1e400", '["\\ud800"',
     '["\\ud800",]', "[" * 2000, "[1e400]]"],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_document(text.encode())


@pytest.mark.parametrize("value", [b"\xff", b'"\xed\xa0\x80"', b"\x00", b'{"a":"\xe9"}'])
def test_what_is_not_utf8_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError):
        read_document(value)


@pytest.mark.parametrize(
    "text", ["null", "1", '"a"', "[]", "[1,{}]", " true ", "1e400", '"\\ud800"', "[" * 3000 + "]" * 3000]
)
def test_json_that_is_no_object_has_no_members(text: str) -> None:
    assert read_document(text.encode()) == Document(None)


def test_members_keep_their_text() -> None:
    text = b'{"n":123456789012345678901234567890,"e":1E+2,"t":"\\u0041","o":{"a" : [1,2]}}'
    assert read_document(text).members == {
        "n": b"123456789012345678901234567890", "e": b"1E+2", "t": b'"\\u0041"', "o": b'{"a" : [1,2]}',
    }  # fmt: skip


def test_members_are_found_with_white_space_and_escaped_names() -> None:
    text = b' {\n "i\\u0064" : 1 ,\t"data":[ 1 ,{"x" : "}"} ]\r} '
    assert read_document(text) == Document({"id": b"1", "data": b'[ 1 ,{"x" : "}"} ]'})


def test_members_are_found_where_common_readers_give_up() -> None:
    deep = b"[" * 3000 + b"]" * 3000
    text = b'{"a":1e400,"b":"\\udc00","c":' + deep + b"}"
    assert read_document(text) == Document({"a": b"1e400", "b": b'"\\udc00"', "c": deep})


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{ "a":1, "a":2}'])
def test_a_name_that_comes_twice_is_said(text: str) -> None:
    assert read_document(text.encode()).repeated


def test_a_name_that_comes_twice_further_inside_is_not_said() -> None:
    assert read_document(b'{ "a":{"b":1,"b":2}, "b":[{"a":1}]}') == Document({"a": b'{"b":1,"b":2}', "b": b'[{"a":1}]'})


@pytest.mark.slow
@given(JSON, st.sampled_from([None, 0, 2]), st.booleans())
def test_any_document_comes_apart_and_together_again(value: object, indent: int | None, plain: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    document = read_document(text)
    if isinstance(value, dict):
        assert document.members is not None
        assert {name: json.loads(member) for name, member in document.members.items()} == value
        assert not document.repeated
    else:
        assert document.members is None


@pytest.mark.slow
@given(st.text(alphabet='{}[]:,"\\u0dD8 \n1eE+-.tfn', max_size=12))
def test_json_is_what_the_standard_library_takes_for_json(text: str) -> None:
    def refuse(_: str) -> None:
        raise ValueError

    try:
        json.loads(text, parse_constant=refuse)
        expected = True
    except ValueError:
        expected = False
    try:
        read_document(text.encode())
        found = True
    except ValueError:
        found = False
    assert found == expected


def test_what_is_embedded_is_one_line_and_else_unchanged() -> None:
    assert embeddable(b'{\n "a":\r\n"\\n", "b" : 1E2\n}') == b'{  "a":  "\\n", "b" : 1E2 }'


@pytest.mark.parametrize("text", [b"1e400", b'["\\ud800"]', b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)])
def test_what_common_readers_refuse_is_not_embedded(text: bytes) -> None:
    assert embeddable(text) is None


def test_many_brackets_are_no_depth() -> None:
    text = b"[" + b'{"[[":"]\\""},' * 600 + b"[" * (MAX_DEPTH - 1) + b"]" * MAX_DEPTH
    assert embeddable(text) == text


def test_a_number_is_read_as_it_is_written() -> None:
    assert read_value(b"1.50e3") == Number("1.50e3")
    assert isinstance(read_value(b"7"), Number)
    assert not isinstance(read_value(b'"7"'), Number)
