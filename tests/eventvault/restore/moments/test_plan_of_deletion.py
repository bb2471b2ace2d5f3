"""The plan of a deletion: what `backups/` alone can restore before and after it."""

from __future__ import annotations

from collections.abc import Callable

from eventvault.settings import Settings
from tests.restoring import generation, put
from tests.stores import running_service


def test_it_names_the_moments_that_only_this_archive_holds(settings_with: Callable[..., Settings]) -> None:
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        put(service, 2, "a")
        first = service.create_backup().backup.name
        put(service, 3, "b")
        second = service.create_backup().backup.name
        for segment in service.journal.folder.segments()[0]:
            segment.path.unlink()
        present = generation(service)

        older, newest = service.plan_deletion(first), service.plan_deletion(second)

        assert older["window"]["before"] == older["window"]["after"] == newest["window"]["before"]
        ends = [newest["window"][state]["newest"]["sequence"] for state in ("before", "after")]
        assert (ends, newest["window"]["after"]["oldest"]["sequence"]) == ([5, 2], 0)
        assert (older["lost"], older["protectedBy"], older["goodLeft"]) == ([], None, 1)
        assert newest["lost"] == [{"generation": present, "lastSequence": {"before": 5, "after": 2}}]


def test_the_journal_holds_the_moments_of_a_deleted_archive(settings_with: Callable[..., Settings]) -> None:
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        put(service, 2, "a")
        service.create_backup()
        put(service, 3, "b")
        assert service.journal.flush()
        plan = service.plan_deletion(service.create_backup().backup.name)
        assert plan["lost"] == []
        assert plan["window"]["after"] == plan["window"]["before"]
