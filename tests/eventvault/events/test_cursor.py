"""Cursors are opaque, and any other text is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault.errors import InvalidInput
from eventvault.events import cursor
from eventvault.events.cursor import Cursor


@pytest.mark.slow
@settings(deadline=None, database=None)
@given(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), st.integers(0, 2**63 - 1))
def test_a_cursor_comes_back_as_it_went(generation: str, sequence: int) -> None:
    text = cursor.encode(generation, sequence)

    assert cursor.decode(text) == Cursor(sequence, generation)
    assert text.isascii()


def test_a_plain_number_is_a_cursor_of_the_present_generation() -> None:
    assert cursor.decode("41") == Cursor(41, None)


def encoded(content: bytes) -> str:
    return "c" + base64.urlsafe_b64encode(content).decode().rstrip("=")


GENERATION = b"0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1.5", " 1", "x", "c", "c!", "9" * 30, "١", encoded(GENERATION + b":x"), encoded(b":5"),
     encoded(GENERATION[1:] + b":5"), encoded(b"moment-" + GENERATION + b"-5-:5"), encoded(b"\xff\xff")],
)  # fmt: skip
def test_anything_else_is_invalid(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        cursor.decode(text)
    assert "after" in caught.value.details["fields"]


@pytest.mark.slow
@settings(deadline=None, database=None)
@given(st.text(max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    try:
        assert cursor.decode(text).sequence >= 0
    except InvalidInput:
        assert text != cursor.encode("g", 1)
