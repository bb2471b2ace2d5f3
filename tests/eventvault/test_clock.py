"""Instants: UTC, with exactly the printed precision."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventvault import clock

FIRST, LAST = clock.parse("1970-01-01T00:00:00Z"), clock.parse("9999-12-31T23:59:59.999999Z")
instants = st.integers(FIRST, LAST)


@pytest.mark.slow
@given(instants)
def test_microseconds_survive_being_written_and_read(instant: int) -> None:
    assert clock.parse(clock.format_microseconds(instant)) == instant


@pytest.mark.slow
@given(instants)
def test_milliseconds_are_cut_not_rounded(instant: int) -> None:
    assert clock.parse(clock.format_milliseconds(instant)) == instant - instant % 1000


@pytest.mark.slow
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


@given(st.integers(clock.parse("0001-01-01T00:00:00Z"), LAST))
def test_every_year_has_four_digits(instant: int) -> None:
    assert clock.parse(clock.format_microseconds(instant)) == instant


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-28T05:17:31z", "2026-11-28T05:17:31Z"),
        ("2026-11-28t05:17:31.5z", "2026-11-28T05:17:31.5Z"),
        ("2026-11-28T05:17:31 01:00", "2026-11-28T04:17:31Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.25Z", "2017-01-01T00:00:00.25Z"),
        ("2017-01-01T00:59:60+01:00", "2017-01-01T00:00:00Z"),
    ],
)
def test_what_rfc_3339_allows_is_an_instant_where_somebody_gives_one(text: str, same: str) -> None:
    assert clock.parse_lenient(text) == clock.parse(same)


def test_digits_beyond_the_microsecond_are_cut_or_rounded_up() -> None:
    there = clock.parse("2026-11-28T05:17:31.171526Z")
    assert clock.parse_lenient("2026-11-28T05:17:31.1715269Z") == there
    assert clock.parse_lenient("2026-11-28T05:17:31.1715269Z", up=True) == there + 1
    assert clock.parse_lenient("2026-11-28T05:17:31.1715260001+00:00", up=True) == there + 1
    assert clock.parse_lenient("2026-11-28T05:17:31.171526000Z", up=True) == there
    assert clock.parse_lenient("2026-11-28T05:17:31.171526Z", up=True) == there


@pytest.mark.parametrize(
    "text",
    ["2026-11-28T05:17:60Z", "2026-11-28T23:59:61Z", "2026-11-28T23:59:60", "2026-11-28T23:59:60+01:00", "", "z"],
)
def test_what_is_no_leap_second_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        clock.parse_lenient(text)


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


@pytest.mark.parametrize(
    "text",
    ["9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:60Z", "0001-01-01T00:00:00 14:00"],
)
def test_an_instant_that_cannot_be_shown_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        clock.parse_lenient(text)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00"])
def test_the_first_and_the_last_instant_can_be_shown(text: str) -> None:
    instant = clock.parse_lenient(text)
    assert clock.parse(clock.format_microseconds(instant)) == instant
