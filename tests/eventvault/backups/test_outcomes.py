"""Who is told how backups end, and that a listener that fails changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventvault.backups.outcomes import Outcomes
from eventvault.errors import Cancelled, EventVaultError, NoSpace
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.eventvault.backups.test_schedule import Scheduled
from tests.restoring import drafts

pytestmark = pytest.mark.slow


class Heard:
    """Writes down what it is told, and fails after that."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.calls: list[str] = []
        outcomes.add(self)

    def begun(self) -> None:
        self._note("begun")

    def succeeded(self) -> None:
        self._note("succeeded")

    def failed(self, error: EventVaultError) -> None:
        self._note(f"failed: {error.message}")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        raise RuntimeError("a listener that fails")


@pytest.fixture
def scheduled(settings: Settings) -> Iterator[Scheduled]:
    one = Scheduled(settings)
    one.service.initialize()
    one.service.append(drafts(2))
    yield one
    one.service.stop()
    one.service.bus.close()


def fail_with(service: StoreService, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(name: str, **_: object) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(service.chores, "run", run)


@pytest.mark.slow
def test_scheduled_backups_are_heard_of_from_their_start_to_their_end(scheduled: Scheduled) -> None:
    runs, backups = Heard(scheduled.service.schedule.outcomes), Heard(scheduled.service.backups.outcomes)

    scheduled.scheduler.run()
    scheduled.scheduler.run()

    assert runs.calls == ["begun", "succeeded"] * 2
    assert backups.calls == ["succeeded"] * 2, "one was made, one was skipped"
    assert scheduled.service.status()["status"] == "ok"
    assert len(scheduled.service.list_backups()) == 1


@pytest.mark.parametrize("error", [NoSpace("the disk is full"), OSError(28, "the disk is full")])
def test_a_scheduled_backup_that_fails(scheduled: Scheduled, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, backups = Heard(scheduled.service.schedule.outcomes), Heard(scheduled.service.backups.outcomes)
    fail_with(scheduled.service, monkeypatch, error)

    scheduled.scheduler.run()

    assert [call.partition(":")[0] for call in runs.calls] == ["begun", "failed"]
    assert {call.partition(":")[0] for call in backups.calls} == {"failed"}
    assert all("full" in call or "space" in call for call in [runs.calls[1], *backups.calls])


@pytest.mark.slow
def test_a_requested_backup_is_none_of_the_schedule(scheduled: Scheduled, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, backups = Heard(scheduled.service.schedule.outcomes), Heard(scheduled.service.backups.outcomes)

    scheduled.service.create_backup()
    fail_with(scheduled.service, monkeypatch, NoSpace("the disk is full"))
    with pytest.raises(NoSpace):
        scheduled.service.create_backup()

    assert runs.calls == []
    assert backups.calls == ["succeeded", "failed: the disk is full"]


def test_a_backup_that_the_stop_of_the_store_ends_has_not_failed(
    scheduled: Scheduled, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, backups = Heard(scheduled.service.schedule.outcomes), Heard(scheduled.service.backups.outcomes)
    fail_with(scheduled.service, monkeypatch, Cancelled("the store is stopping"))

    scheduled.scheduler.run()

    assert (runs.calls, backups.calls) == (["begun"], [])
