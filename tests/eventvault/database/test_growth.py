"""By how much the database grows a day."""

from __future__ import annotations

import pytest

from eventvault import clock
from eventvault.database.growth import AGAIN_SECONDS, DAYS, DatabaseGrowth
from eventvault.files import folder_size
from eventvault.settings import Settings
from tests.restoring import put
from tests.stores import running_service

DAY = 86_400_000_000


@pytest.mark.slow
def test_it_is_told_from_the_events_of_the_last_days(settings: Settings) -> None:
    now, seconds = [0], [0.0]
    with running_service(settings) as service:
        growth = DatabaseGrowth(service.bus, settings.database, lambda: now[0], lambda: seconds[0])

        def after(days: float) -> int | None:
            now[0] = began + round(days * DAY)
            seconds[0] += AGAIN_SECONDS
            return growth.per_day()

        began = clock.now()
        assert after(5) is None
        put(service, 10, "a")
        began = service.bus.registry.first_recorded  # type: ignore[union-attr,assignment]
        assert after(0.99) is None
        size = folder_size(settings.database)
        assert after(2) == pytest.approx(size / 2, abs=2)
        assert after(DAYS - 1) == pytest.approx(size / (DAYS - 1), abs=2)
        assert after(DAYS + 1) == 0


def test_it_is_measured_once_a_minute(settings: Settings) -> None:
    seconds = [0.0]
    with running_service(settings) as service:
        put(service, 1, "a")
        began: int = service.bus.registry.first_recorded  # type: ignore[union-attr,assignment]
        growth = DatabaseGrowth(service.bus, settings.database, lambda: began + 2 * DAY, lambda: seconds[0])
        first = growth.per_day()
        assert first
        (settings.database / "larger").write_bytes(bytes(10**6))
        assert growth.per_day() == first
        seconds[0] = AGAIN_SECONDS
        assert (growth.per_day() or 0) > first


def test_nothing_is_known_of_a_database_that_is_not_open(settings: Settings) -> None:
    with running_service(settings) as service:
        put(service, 1, "a")
        began: int = service.bus.registry.first_recorded  # type: ignore[union-attr,assignment]
        service.bus.close()
        assert DatabaseGrowth(service.bus, settings.database, lambda: began + 2 * DAY).per_day() is None
