"""Instants: UTC, with exactly the precision that is printed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault import clock

FIRST, LAST = clock.parse("1970-01-01T00:00:00Z"), clock.parse("9999-12-31T23:59:59.999999Z")
instants = st.integers(FIRST, LAST)


@given(instants)
def test_microseconds_survive_being_written_and_read(instant: int) -> None:
    assert clock.parse(clock.format_microseconds(instant)) == instant


@given(instants)
def test_milliseconds_are_cut_not_rounded(instant: int) -> None:
    assert clock.parse(clock.format_milliseconds(instant)) == instant - instant % 1000


@given(instants)
def test_a_datetime_is_the_same_instant(instant: int) -> None:
    assert clock.to_microseconds(clock.from_microseconds(instant)) == instant


def test_the_written_form_is_rfc_3339_in_utc() -> None:
    assert clock.format_microseconds(1_769_862_896_789_012) == "2026-01-31T12:34:56.789012Z"
    assert clock.format_milliseconds(1_769_862_896_789_999) == "2026-01-31T12:34:56.789Z"


def test_any_offset_is_the_same_instant() -> None:
    expected = clock.parse("2026-01-31T12:34:56Z")
    assert clock.parse("2026-01-31T18:04:56+05:30") == clock.parse("2026-01-31T11:34:56-01:00") == expected


@pytest.mark.parametrize("text", ["2026-01-31T12:34:56", "2026-01-31", "yesterday", "", "2026-02-30T00:00:00Z"])
def test_what_is_no_instant_with_an_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.compile("offset|isoformat|day|month", re.IGNORECASE)):
        clock.parse(text)


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(TypeError):
        clock.to_microseconds(datetime(2026, 1, 31))  # noqa: DTZ001


def test_a_datetime_with_an_offset_is_converted() -> None:
    there = datetime(2026, 1, 31, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    assert clock.format_microseconds(clock.to_microseconds(there)) == "2026-01-31T12:00:00.000000Z"


def test_now_lies_between_two_readings_of_the_system_clock() -> None:
    before = clock.now()
    assert before <= clock.now()
    assert clock.from_microseconds(before).year >= 2024
