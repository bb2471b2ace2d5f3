"""How long the space on the disks lasts."""

from __future__ import annotations

from typing import Any

import pytest

from eventvault.backups import disk_space
from eventvault.backups.archive_totals import ArchiveTotals
from eventvault.backups.disk_space import describe_disks
from eventvault.settings import Settings


@pytest.fixture(autouse=True)
def full_in_a_hundred_bytes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (settings.storage_dir, settings.backup_dir):
        folder.mkdir(parents=True)
    monkeypatch.setattr(disk_space, "_space", lambda _: {"free": 100, "total": 200})


def forecast(settings: Settings, archives: int | None, database: int | None, *, has_day: bool = True) -> Any:
    """(backups, storage): (growthPerDay, daysLeft) of each."""
    totals = ArchiveTotals(on_disk=7, growth_per_day=archives, has_data_of_a_day=has_day)
    disks = describe_disks(settings, totals, database)
    assert disks["backups"]["archives"] == 7
    return tuple((disks[name]["growthPerDay"], disks[name]["daysLeft"]) for name in ("backups", "storage"))


def test_the_growth_of_both_folders_fills_the_disk_that_they_share(settings: Settings) -> None:
    assert forecast(settings, 15, 10) == ((15, 4), (10, 4))
    assert forecast(settings, None, 10) == ((None, 10), (10, 10))
    assert forecast(settings, -5, 10) == ((-5, 10), (10, 10))


def test_each_disk_fills_by_its_own_folder(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space, "_is_same_disk", lambda *_: False)
    assert forecast(settings, 20, 10) == ((20, 5), (10, 10))
    assert forecast(settings, 20, None) == ((20, 5), (None, None))


@pytest.mark.parametrize("growth", [None, 0, -5])
def test_a_disk_that_does_not_fill_has_no_last_day(settings: Settings, growth: int | None) -> None:
    assert [days for _, days in forecast(settings, growth, growth)] == [None, None]


def test_nothing_is_told_of_less_than_a_day(settings: Settings) -> None:
    assert forecast(settings, 15, None, has_day=False) == ((15, None), (None, None))


def test_a_folder_that_cannot_be_looked_at_has_no_forecast(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space, "_space", lambda _: None)
    assert describe_disks(settings, ArchiveTotals(), 5) == {"backups": None, "storage": None, "same": True}
