"""`restore/` after a lost disk: a file that was restored or skipped before does not replace the recovery."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.settings import Settings
from tests.restoring import drafts, make_archive, prefixes, problem_codes
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture(params=["true", "false"])
def settings_of(request: pytest.FixtureRequest, settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"AUTO_RECOVER": request.param})


def lose_the_disk(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(5, "months-of-work"))
        service.create_backup()
        service.append(drafts(1, "last"))
    shutil.rmtree(settings.storage_dir)


def assert_recovered(settings: Settings, expected: dict[str, int], problem: str) -> None:
    with running_service(settings) as service:
        if settings.auto_recover == "true":
            assert prefixes(service) == expected
            assert service.status()["lastRestore"]["reason"] == "recovered"
            assert problem_codes(service) == [problem]
        else:
            assert set(problem_codes(service)) == {"database_missing", problem}


def test_an_archive_that_was_left_for_a_newer_one_does_not_come_back(settings_of: Settings) -> None:
    settings_of.restore_dir.mkdir(parents=True, exist_ok=True)
    make_archive(settings_of.restore_dir / "old.tar.gz", "old", created="2020-01-01T00:00:00.000Z")
    make_archive(settings_of.restore_dir / "new.tar.gz", "new")
    lose_the_disk(settings_of)
    assert_recovered(settings_of, {"new": 3, "months-of-work": 5, "last": 1}, "restore_left")


def test_an_archive_that_could_not_be_moved_away_does_not_come_back(settings_of: Settings) -> None:
    settings_of.restore_dir.mkdir(parents=True, exist_ok=True)
    (settings_of.restore_dir / "restored").write_text("in the way")
    make_archive(settings_of.restore_dir / "a.tar.gz", "migrated")
    lose_the_disk(settings_of)
    assert_recovered(settings_of, {"migrated": 3, "months-of-work": 5, "last": 1}, "restore_not_moved")


def test_a_backup_folder_that_cannot_be_written_keeps_nothing_from_being_restored(settings: Settings) -> None:
    settings.restore_dir.mkdir(parents=True, exist_ok=True)
    make_archive(settings.restore_dir / "a.tar.gz", "migrated")
    memory: Path = settings.backup_dir / ".restore_memory.json"
    memory.mkdir(parents=True)
    with running_service(settings) as service:
        assert prefixes(service) == {"migrated": 3}
        assert problem_codes(service) == []
