"""The table of docs/retention.md: how many archives stay with some rules, and how old the oldest one is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventvault import clock, settings
from eventvault.backups.entry import BackupEntry
from eventvault.backups.retention import plan_retention, rules_of

PAGE = Path(settings.PROJECT) / "docs" / "retention.md"
HOUR = 3_600_000_000
DAY = 24 * HOUR
UNITS = {"hours": HOUR, "days": DAY, "months": 30.5 * DAY, "years": 365.25 * DAY}
NOON = clock.parse("2026-11-29T12:00:00Z")
MOMENTS = [NOON + shift for shift in (0, 13 * HOUR, 40 * DAY + 5 * HOUR, 100 * DAY, 215 * DAY + 23 * HOUR)]


def rows() -> list[tuple[str, str, str]]:
    """(rules, archives, age of the oldest one) of each row that simple rules make."""
    text = PAGE.read_text().partition("## What each rule lets you restore")[2]
    return re.findall(r"^\| `([A-Z_=0-9 ]+)`[^|]*\| ([0-9–]+) \| ([0-9–]+ \w+) \|", text, re.MULTILINE)


def hourly_until(now: int) -> list[BackupEntry]:
    """Backups of each hour in 60 days, and of the last hour of each day in five years before: no rule needs others."""
    recent = [now - hour * HOUR for hour in range(60 * 24)]
    midnight = recent[-1] // DAY * DAY
    earlier = [midnight - day * DAY - HOUR // 2 for day in range(5 * 365)]
    return [made(number, instant) for number, instant in enumerate(reversed([*recent, *earlier]))]


def made(number: int, instant: int) -> BackupEntry:
    name = f"{number:06d}.tar.gz"
    return BackupEntry(name=name, path=name, size=1, created=instant, arrived=number, verified=1, generation="g",
                       sequence=number, origin="created", origin_proven=True)  # fmt: skip


def bounds(text: str) -> tuple[float, float]:
    low, _, high = text.partition("–")
    return float(low), float(high or low)


def test_the_table_has_rows() -> None:
    assert len(rows()) >= 5


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "archives", "age"), rows(), ids=lambda text: text)
def test_the_documentation_says_which_window_follows_from_which_rules(chosen: str, archives: str, age: str) -> None:
    rules = rules_of(settings.load(dict(each.split("=") for each in chosen.split())))
    number, (span, unit) = bounds(archives), age.split()
    assert str(rules.zone) == "UTC"
    for now in MOMENTS:
        entries = hourly_until(now)
        kept = plan_retention(entries, rules, now).retained
        left = [entry for entry in entries if entry.name in kept]
        assert number[0] <= len(left) <= number[1]
        least, most = (bound * UNITS[unit] for bound in bounds(span))
        assert least <= now - min(entry.created for entry in left) <= most
