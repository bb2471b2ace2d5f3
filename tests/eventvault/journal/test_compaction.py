"""Which archives decide the retention of segments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import generation, live, put
from tests.stores import running_service

pytestmark = pytest.mark.slow

HOUR = 3_600 * 10**9


@pytest.fixture
def service(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    """Segments are written when a test asks for it; MAX_BACKUPS is 2."""
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000", "MAX_BACKUPS": "2"})) as service:
        yield service


@pytest.fixture
def set_back(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Set the clock back by an hour."""
    real = time.time_ns
    return lambda: monkeypatch.setattr(time, "time_ns", lambda: real() - HOUR)


def reach(service: StoreService, generation: str) -> int:
    by_id = {each["id"]: each["lastSequence"] for each in service.timeline()["generations"]}
    return int(by_id[generation])


def test_a_future_that_was_left_stays_while_an_archive_leads_to_it_whatever_the_clock_says(
    service: StoreService, set_back: Callable[[], None]
) -> None:
    put(service, 4, "a")
    service.create_backup()
    put(service, 4, "b")
    assert service.journal.flush()
    left, events = generation(service), live(service)
    service.restore_moment(Moment(sequence=2))
    put(service, 1, "c")
    set_back()
    service.create_backup()
    assert service.journal.flush(survey=True)

    assert reach(service, left) == 8
    service.restore_moment(Moment(sequence=7, generation=left))
    assert live(service) == events[:7]


def test_segments_stay_until_all_archives_hold_them_though_the_clock_was_set_back(
    service: StoreService, set_back: Callable[[], None]
) -> None:
    put(service, 2, "a")
    service.create_backup()
    put(service, 2, "b")
    assert service.journal.flush()
    set_back()
    put(service, 2, "c")
    service.create_backup()
    assert service.journal.flush(survey=True)

    spans = [(each.first, each.last) for each in service.journal.folder.segments()[0]]
    assert spans[0][0] == 3
    assert spans[-1][1] == 6
