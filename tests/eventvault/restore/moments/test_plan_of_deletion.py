"""The plan of a deletion: what `backups/` alone can restore before and after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eventvault.settings import Settings
from tests.restoring import generation, put
from tests.stores import running_service

pytestmark = pytest.mark.slow


def test_it_names_the_moments_that_only_this_archive_holds(settings_with: Callable[..., Settings]) -> None:
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        put(service, 2, "a")
        first = service.create_backup().backup.name
        put(service, 3, "b")
        second = service.create_backup().backup.name
        left = generation(service)
        service.restore(first)
        for segment in service.journal.folder.segments()[0]:
            segment.path.unlink()

        older, newest = service.plan_deletion(first), service.plan_deletion(second)

        windows = [plan["window"][state] for plan in (older, newest) for state in ("before", "after")]
        assert [(window["oldest"]["sequence"], window["newest"]["sequence"]) for window in windows] == [(0, 2)] * 4
        assert (older["lost"], older["protectedBy"], older["goodLeft"]) == ([], None, 1)
        assert newest["lost"] == [{"generation": left, "lastSequence": {"before": 5, "after": 2}}]


def test_the_present_generation_loses_nothing_with_its_last_archive(settings_with: Callable[..., Settings]) -> None:
    """The journal writes first what only the database would hold."""
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        put(service, 5, "a")
        name = service.create_backup().backup.name
        for segment in service.journal.folder.segments()[0]:
            segment.path.unlink()

        plan = service.plan_deletion(name)
        service.delete_backup(name, force=True)

        assert (plan["lost"], plan["window"]["after"]) == ([], plan["window"]["before"])
        assert plan["window"]["after"]["newest"]["sequence"] == 5
        assert [(each.first, each.last) for each in service.journal.folder.segments()[0]] == [(1, 5)]


def test_the_journal_holds_the_moments_of_a_deleted_archive(settings_with: Callable[..., Settings]) -> None:
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        put(service, 2, "a")
        service.create_backup()
        put(service, 3, "b")
        assert service.journal.flush()
        plan = service.plan_deletion(service.create_backup().backup.name)
        assert plan["lost"] == []
        assert plan["window"]["after"] == plan["window"]["before"]
