"""Cursors are opaque, and any other text is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault.errors import InvalidInput
from eventvault.events import cursor
from eventvault.events.cursor import Cursor


@settings(deadline=None, database=None)
@given(st.text(min_size=1, max_size=20), st.integers(0, 2**63 - 1))
def test_a_cursor_comes_back_as_it_went(generation: str, sequence: int) -> None:
    text = cursor.encode(generation, sequence)

    assert cursor.decode(text) == Cursor(sequence, generation)
    assert text.isascii()


def test_a_plain_number_is_a_cursor_of_the_present_generation() -> None:
    assert cursor.decode("41") == Cursor(41, None)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1.5", " 1", "x", "c", "c!", "9" * 30, "١", "c" + base64.urlsafe_b64encode(b"g:x").decode(),
     "c" + base64.urlsafe_b64encode(b":5").decode(), "c" + base64.urlsafe_b64encode(b"\xff\xff").decode()],
)  # fmt: skip
def test_anything_else_is_invalid(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        cursor.decode(text)
    assert "after" in caught.value.details["fields"]


@settings(deadline=None, database=None)
@given(st.text(max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    try:
        assert cursor.decode(text).sequence >= 0
    except InvalidInput:
        assert text != cursor.encode("g", 1)
