"""Prune: the plan tells what happens, and then exactly that happens; nothing goes while a doubt remains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock
from eventvault.archive.locks import shared_lock
from eventvault.backups import removal
from eventvault.errors import DatabaseDamaged, OperationCancelled, OperationDecided
from eventvault.operations.operation import Operation
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, generation, problem_codes, put
from tests.stores import running_service

pytestmark = pytest.mark.slow

HOUR = 3_600_000_000
DAY = 24 * HOUR


class Store:
    """A store whose clock a test sets. Its clock begins at noon of a Wednesday."""

    def __init__(self, service: StoreService) -> None:
        self.service = service
        self.now = clock.parse("2026-03-25T12:00:00Z")
        self._made = 0

    def back_up(self, *, after: int = 1_000_000) -> str:
        """Make a backup with an event of its own, so much later. Returns its name."""
        self.now += after
        self._made += 1
        self.service.append(drafts(1, f"event-{self._made}"))
        return self.service.create_backup().backup.name

    def names(self) -> list[str]:
        return [entry.name for entry in self.service.list_backups()]

    def retained_by(self) -> dict[str, tuple[str, ...]]:
        return {entry.name: entry.retained_by for entry in self.service.list_backups()}

    def plan(self) -> dict[str, Any]:
        return self.service.plan_prune()

    def folder(self) -> Path:
        return self.service.settings.backup_dir


@pytest.fixture
def opened(settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    @contextmanager
    def open_store(**rules: str) -> Iterator[Store]:
        with running_service(settings_with({"JOURNAL_INTERVAL": "86400000", **rules})) as service:
            store = Store(service)
            monkeypatch.setattr(clock, "_now", lambda: store.now)
            yield store

    return open_store


def going(plan: dict[str, Any]) -> list[str]:
    return [each["name"] for each in plan["remove"]]


def staying(plan: dict[str, Any]) -> dict[str, list[str]]:
    return {each["name"]: each["keptBy"] for each in plan["keep"]}


def test_what_the_plan_says_happens_and_a_second_prune_removes_nothing(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="2") as store:
        first = store.back_up()
        store.service.pin_backup(first, pinned=True, reason="audit")
        second = store.back_up()
        third, fourth = store.back_up(), store.back_up()
        assert store.names() == [fourth, third, first], "rotation removed the second"
        assert second not in store.names()
        store.service.pin_backup(first, pinned=False)

        plan = store.plan()
        assert going(plan) == [first]
        assert staying(plan) == {fourth: ["newest"], third: ["newest"]}
        size = (store.folder() / first).stat().st_size
        assert (plan["freesBytes"], plan["remove"][0]["freesBytes"], plan["goodLeft"]) == (size, size, 2)
        assert store.names() == [fourth, third, first], "a plan removes nothing"

        done = store.service.prune_backups()
        assert (done["plan"], done["removed"], done["freedBytes"]) == (plan, [first], size)
        assert store.names() == [fourth, third]
        again = store.service.prune_backups()
        assert (again["removed"], again["freedBytes"]) == ([], 0)


def test_the_list_says_which_rules_keep_an_archive(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="1", KEEP_DAILY="2", KEEP_WEEKLY="2", SCHEDULE_TIME_ZONE="Europe/Berlin") as store:
        sunday = store.back_up(after=-3 * DAY)
        tuesday = store.back_up(after=2 * DAY)
        store.back_up(after=DAY)
        now = store.back_up(after=HOUR)
        assert store.retained_by() == {now: ("newest", "daily", "weekly"), tuesday: ("daily",), sunday: ("weekly",)}
        store.service.pin_backup(sunday, pinned=True)
        assert store.retained_by()[sunday] == ("weekly", "pinned")
        assert store.service.status()["backup"]["latest"]["retained_by"] == ("newest", "daily", "weekly")
        assert store.service.status()["backup"]["keptBy"] == {"newest": 1, "daily": 2, "weekly": 2, "pinned": 1}


def test_the_days_are_those_of_the_time_zone(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="1", KEEP_DAILY="2", SCHEDULE_TIME_ZONE="Pacific/Auckland") as store:
        store.back_up(after=-2 * HOUR)  # 23:00 in Auckland
        before_midnight = store.back_up(after=HOUR // 2)
        store.back_up(after=HOUR)  # 00:30 in Auckland, on the same day in UTC
        after_midnight = store.back_up(after=HOUR)
        assert store.names() == [after_midnight, before_midnight]


def test_an_archive_that_is_read_stays(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "LOCK_PATIENCE_SECONDS", 0.0)
    with opened(MAX_BACKUPS="1") as store:
        first = store.back_up()
        with shared_lock(store.folder() / first):
            second = store.back_up()
            assert staying(store.plan()) == {second: ["newest"], first: ["being-read"]}
            assert store.service.prune_backups()["removed"] == []
        assert store.service.prune_backups()["removed"] == [first]


def test_a_damaged_archive_stays_and_takes_no_place(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="1") as store:
        first = store.back_up()
        store.service.catalogue.record_problem(first, "one byte is wrong")
        second = store.back_up()
        assert store.retained_by() == {second: ("newest", "last-good"), first: ("damaged",)}


def test_archives_that_are_too_old_go_with_the_next_backup(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="10", MAX_BACKUP_AGE="36h") as store:
        store.back_up()
        second = store.back_up(after=DAY)
        third = store.back_up(after=DAY)
        assert store.names() == [third, second]
        fourth = store.back_up(after=10 * DAY)
        assert store.names() == [fourth]


def test_archives_go_until_they_fit_and_pins_that_do_not_are_a_problem(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="10", MAX_BACKUP_BYTES="1") as store:
        first = store.back_up()
        assert store.names() == [first]
        assert problem_codes(store.service) == ["backups_too_large"], "the newest one alone is too large"
        store.service.pin_backup(first, pinned=True)
        second, third = store.back_up(), store.back_up()
        assert store.names() == [third, first]
        assert second not in store.names()
        plan = store.plan()
        assert plan["tooLargeBy"] == sum((store.folder() / name).stat().st_size for name in store.names()) - 1
        (problem,) = store.service.status()["problems"]
        assert (problem["code"], str(plan["tooLargeBy"]) in problem["message"]) == ("backups_too_large", True)


def test_while_the_clock_is_not_believed_nothing_goes_by_the_calendar(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="1", KEEP_DAILY="1") as store:
        store.back_up()
        store.service.remover._is_clock_held = lambda: True
        assert len([store.back_up(after=HOUR) for _ in range(2)]) == 2
        assert list(store.retained_by().values())[1:] == [("clock",), ("clock",)]
        (note,) = store.plan()["notes"]
        assert "clock" in note
        store.service.remover._is_clock_held = lambda: False
        assert len(store.service.prune_backups()["removed"]) == 2


def test_archives_that_a_clock_dated_in_another_order_stay(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="1", KEEP_DAILY="1") as store:
        first = store.back_up()
        second, third = store.back_up(after=-2 * HOUR), store.back_up(after=HOUR)
        assert store.retained_by() == {third: ("newest",), second: ("clock",), first: ("clock",)}
        store.service.delete_backup(first)
        assert store.retained_by() == {third: ("newest", "daily", "last-good"), second: ()}
        assert store.service.prune_backups()["removed"] == [second]


def test_the_window_is_what_backups_alone_restore_and_what_is_lost_is_named(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="2") as store:
        put(store.service, 3, "first")
        store.back_up()
        behind, had = generation(store.service), store.service.status()["store"]["lastSequence"]
        store.service.pin_backup(store.names()[0], pinned=True)
        store.service.restore_moment(Moment(sequence=2))
        put(store.service, 4, "second")
        store.back_up()
        put(store.service, 1, "third")
        newest = store.back_up()
        assert store.plan()["lost"] == []
        store.service.pin_backup(store.names()[-1], pinned=False)
        assert store.service.journal.flush(1.0, survey=True)

        plan = store.plan()
        last = store.service.status()["store"]["lastSequence"]
        for window in plan["window"].values():
            assert (window["oldest"]["sequence"], window["newest"]["sequence"]) == (0, last)
        assert len(plan["remove"]) == 1
        (lost,) = plan["lost"]
        assert (lost["generation"], lost["lastSequence"]["before"]) == (behind, had)
        assert lost["lastSequence"]["after"] < had
        assert plan["journal"]["bytesAfter"] < plan["journal"]["bytes"]
        assert plan["journal"]["oldestBackup"] == store.names()[1] != newest

        store.service.prune_backups()
        assert store.service.journal.flush(1.0, survey=True)
        assert store.plan()["journal"]["bytes"] == plan["journal"]["bytesAfter"]
        ends = {each["id"]: each["lastSequence"] for each in store.service.timeline()["generations"]}
        assert ends.get(behind, 0) == lost["lastSequence"]["after"]


def test_the_plan_says_how_much_of_the_journal_the_oldest_archive_holds(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="1") as store:
        oldest = store.back_up()
        store.service.pin_backup(oldest, pinned=True)
        put(store.service, 50, "between")
        store.back_up()
        put(store.service, 1, "later")
        held = store.plan()["journal"]
        assert (held["oldestBackup"], held["bytes"] == held["bytesAfter"] > held["bytesForOldest"] > 0) == (
            oldest,
            True,
        )
        store.service.pin_backup(oldest, pinned=False)
        assert store.plan()["journal"]["bytesAfter"] == held["bytes"] - held["bytesForOldest"]


def test_nothing_is_removed_while_the_database_is_known_to_be_damaged(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="1") as store:
        first = store.back_up()
        store.service.pin_backup(first, pinned=True)
        store.back_up()
        store.service.pin_backup(first, pinned=False)
        damage = DatabaseDamaged("a table is damaged", hint="restore")
        store.service.backups._problem = (generation(store.service), damage)
        with pytest.raises(DatabaseDamaged):
            store.service.prune_backups()
        assert len(store.names()) == 2


def test_several_batches_are_removed_one_after_another(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(MAX_BACKUPS="9") as store:
        made = [store.back_up() for _ in range(8)]
    monkeypatch.setattr(removal, "BATCH", 3)
    with opened(MAX_BACKUPS="1") as store:
        steps = list(store.service.remover.remove_planned(store.service.remover.plan(store.service.list_backups())))
        assert steps == [made[:3], made[3:6], made[6:7]]
        assert store.names() == made[-1:]


def test_one_that_was_pinned_since_the_plan_stays(opened: Callable[..., Any]) -> None:
    with opened(MAX_BACKUPS="9") as store:
        made = [store.back_up() for _ in range(3)]
    with opened(MAX_BACKUPS="1") as store:
        plan = store.service.remover.plan(store.service.list_backups())
        store.service.pin_backup(made[0], pinned=True)
        assert list(store.service.remover.remove_planned(plan)) == [[made[1]]]
        assert store.names() == [made[2], made[0]]


def test_a_prune_that_is_cancelled_in_time_removes_nothing_and_later_a_cancel_is_refused(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(MAX_BACKUPS="9") as store:
        made = [store.back_up() for _ in range(3)]
    with opened(MAX_BACKUPS="1") as store:
        prune, operation = store.service.calls["prune_backups"], Operation()
        operation.cancel()
        with pytest.raises(OperationCancelled):
            prune(operation=operation)
        assert store.names() == made[::-1]

        late, refused, remove_all = Operation(), list[bool](), store.service.catalogue.remove_all

        def cancel_and_remove(choose: Any) -> list[str]:
            with pytest.raises(OperationDecided):
                late.cancel()
            refused.append(True)
            names: list[str] = remove_all(choose)
            return names

        monkeypatch.setattr(store.service.catalogue, "remove_all", cancel_and_remove)
        assert prune(operation=late)["removed"] == made[:2]
        assert (refused, store.names()) == ([True], made[2:])
