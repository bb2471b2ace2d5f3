"""Moments and texts of the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from app.cli import text
from app.cli.moments import parse_instant, parse_moment
from eventvault import clock
from eventvault.errors import InvalidInput
from eventvault.restore.values import Moment

NOW = clock.parse("2026-11-28T20:46:12Z")


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    monkeypatch.setattr(clock, "_now", lambda: NOW)
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-11-28T19:44:12+01:00", "2026-11-28T18:44:12Z"),
        ("2026-11-28t19:44:12z", "2026-11-28T19:44:12Z"),
        ("2026-11-28 19:44", "2026-11-28T18:44:00Z"),
        ("2026-07-01", "2026-06-30T22:00:00Z"),
        ("19:44:12", "2026-11-28T18:44:12Z"),
        ("9:05", "2026-11-28T08:05:00Z"),
        ("2 min ago", "2026-11-28T20:44:12Z"),
        ("1.5h ago", "2026-11-28T19:16:12Z"),
        ("7 D ago", "2026-11-21T20:46:12Z"),
    ],
)
def test_an_instant_is_read_as_people_write_it(written: str, instant: str) -> None:
    assert parse_instant(written) == clock.parse(instant)
    assert parse_moment(f"0123456789abcdef@{written}") == Moment(
        instant=clock.parse(instant), generation="0123456789abcdef"
    )


def test_a_sequence_and_the_end_of_a_generation_are_moments() -> None:
    assert parse_moment("#41,202") == Moment(sequence=41202)
    assert parse_moment("0123456789abcdef@#0") == Moment(sequence=0, generation="0123456789abcdef")
    assert parse_moment("0123456789abcdef@") == Moment(generation="0123456789abcdef")


@pytest.mark.parametrize(
    "written",
    ["", "now", "41202", "#", "#x", "#99999999999999999999", "25:00", "2 moons ago", "ago", "2026-13-01", "@#1"],
)
def test_what_is_no_moment_is_refused_with_how_to_write_one(written: str) -> None:
    with pytest.raises(InvalidInput, match="is not a moment") as refused:
        parse_moment(written)
    assert "2 min ago" in refused.value.hint


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (739_123, "739 kB"), (999_600, "1.0 MB"), (4_200_000, "4.2 MB"),
        (99_960_000, "100 MB"), (74_800_000_000, "74.8 GB"), (None, "-"),
    ],
)  # fmt: skip
def test_a_size_is_short_and_decimal(count: int | None, shown: str) -> None:
    assert text.size(count) == shown


def test_names_control_no_terminal_and_are_never_cut() -> None:
    name = "backup_" + "x" * 200
    shown = text.table(["A", "NAME"], [["\x1b[31m", name]])
    assert shown.splitlines() == ["A         NAME", rf"\x1b[31m  {name}"]


def test_times_are_local_or_in_utc() -> None:
    assert text.Times(utc=False).with_zone(NOW) == "2026-11-28 21:46:12 CET"
    assert text.Times(utc=True).with_zone(NOW) == "2026-11-28 20:46:12 UTC"
    assert text.Times(utc=False).zone == "CET"
