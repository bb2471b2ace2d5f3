"""Once a restore is decided, its answer is the restore's, whatever the disk says of what follows (P11)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventvault.database import opening
from eventvault.database.view import DatabaseView
from eventvault.errors import EventVaultError, StoreRestoring
from eventvault.operations.operation import Operation
from eventvault.restore.swap import in_place
from eventvault.restore.swap import intent as intents
from eventvault.restore.values import Moment, Restored
from eventvault.settings import Settings
from eventvault.store import lifecycle
from eventvault.store.owners import restores
from eventvault.store.service import StoreService
from tests import processes
from tests.eventvault.leveldb_errors import from_leveldb
from tests.restoring import drafts, leftovers, prefixes
from tests.stores import running_service

pytestmark = pytest.mark.slow

NUMBERS = [errno.ENOSPC, errno.EIO, errno.EMFILE]
Request = Callable[[StoreService, Operation], Restored]


class Failing:
    """Makes calls of a function fail: those that `when` chooses, `times` times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    @contextmanager
    def calls(
        self, place: Any, name: str, error: Exception, *, times: int = 1, when: Callable[..., bool] = lambda *_: True
    ) -> Iterator[list[int]]:
        real, failed = getattr(place, name), [0]

        def call(*arguments: Any, **named: Any) -> Any:
            if failed[0] < times and when(*arguments):
                failed[0] += 1
                raise error
            return real(*arguments, **named)

        with self._patch.context() as patch:
            patch.setattr(place, name, call)
            yield failed
        assert failed[0], "nothing failed"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    monkeypatch.setattr(lifecycle, "TICK_SECONDS", 0.05)
    return Failing(monkeypatch)


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    """With a backup of 3 events, from which 2 more were restored over, so that there is something to undo."""
    with running_service(settings) as service:
        service.append(drafts(3))
        service.create_backup()
        service.append(drafts(2, "later"))
        service.restore_moment(Moment(sequence=4))
        service.append(drafts(4, "live"))
        yield service


def an_archive(service: StoreService, operation: Operation) -> Restored:
    return service.restore(service.list_backups()[-1].name, operation=operation)


def a_moment(service: StoreService, operation: Operation) -> Restored:
    return service.restore_moment(Moment(sequence=3), operation=operation)


def an_undo(service: StoreService, operation: Operation) -> Restored:
    return service.undo(operation=operation)


REQUESTS = [(an_archive, {"live": 3}), (a_moment, {"live": 3}), (an_undo, {"live": 3, "later": 2})]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(("request_it", "events"), REQUESTS)
def test_a_database_that_opens_a_little_later_is_awaited(
    service: StoreService, failing: Failing, number: int, request_it: Request, events: dict[str, int]
) -> None:
    with failing.calls(opening, "open_leveldb", from_leveldb(number), times=3):
        restored = request_it(service, Operation())
    assert restored.events == sum(events.values())
    assert prefixes(service) == events
    assert service.append(drafts(1, "after")).last_sequence == restored.events + 1
    assert service.status()["status"] == "ok"
    assert not leftovers(service.settings.storage_dir)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_database_that_does_not_open_is_being_restored_and_a_repeated_request_gets_its_answer(
    service: StoreService, failing: Failing, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(restores, "DECIDED_SECONDS", 0.5)
    operation = Operation()
    with failing.calls(opening, "open_leveldb", from_leveldb(number), times=10**6):
        with pytest.raises(StoreRestoring, match=os.strerror(number)) as caught:
            an_archive(service, operation)
        assert caught.value.hint
        assert os.strerror(number) in str(service.status()["problems"])
        assert prefixes(service) == {"live": 3}  # of a view of the new database
    processes.wait_until(lambda: service.state == "serving", "it does not open")
    assert an_archive(service, operation).events == 3
    assert prefixes(service) == {"live": 3}


def test_a_swap_that_stops_between_its_two_renames_is_finished(service: StoreService, failing: Failing) -> None:
    name = service.settings.database.name

    def second(source: Path, target: Path) -> bool:
        return target.name == name

    error = OSError(errno.EIO, os.strerror(errno.EIO))
    with failing.calls(intents, "rename_durably", error, times=3, when=second):
        assert an_archive(service, Operation()).events == 3
    assert prefixes(service) == {"live": 3}
    assert service.status()["status"] == "ok"


def test_a_swap_that_stops_before_its_first_rename_changes_nothing(service: StoreService, failing: Failing) -> None:
    before = prefixes(service)
    with (
        failing.calls(in_place, "rename_durably", OSError(errno.EIO, "x")),
        pytest.raises(OSError, match="x") as caught,
    ):
        an_archive(service, Operation())
    assert not isinstance(caught.value, EventVaultError)
    assert prefixes(service) == before
    assert not leftovers(service.settings.storage_dir)
    assert service.append(drafts(1, "after"))


def test_an_intent_that_cannot_be_withdrawn_is_done_and_not_left_for_a_later_start(
    service: StoreService, failing: Failing
) -> None:
    with (
        failing.calls(in_place, "rename_durably", OSError(errno.EIO, "x")),
        failing.calls(intents, "remove_intent", OSError(errno.EIO, "x")),
    ):
        assert an_archive(service, Operation()).events == 3
    assert prefixes(service) == {"live": 3}
    assert not intents.intent_exists(service.settings.storage_dir)


def test_a_store_that_could_not_open_it_leaves_it_to_the_next(
    settings: Settings, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restores, "DECIDED_SECONDS", 0.2)
    operation = Operation()
    with running_service(settings) as service:
        service.append(drafts(3))
        service.create_backup()
        service.append(drafts(2, "later"))
        with (
            failing.calls(opening, "open_leveldb", from_leveldb(errno.ENOSPC), times=10**6),
            failing.calls(DatabaseView, "open", OSError(errno.ENOSPC, "x"), times=10**6),
            pytest.raises(StoreRestoring),
        ):
            an_archive(service, operation)
    with running_service(settings) as service:
        assert prefixes(service) == {"live": 3}
        assert an_archive(service, operation).events == 3
        assert prefixes(service) == {"live": 3}
