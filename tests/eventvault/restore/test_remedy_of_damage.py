"""Damage that a read meets is named with the restore that loses nothing, not with an older backup."""

from __future__ import annotations

import plyvel
import pytest

from eventvault.errors import DatabaseDamaged
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from tests import processes
from tests.restoring import drafts, ids, problem_codes
from tests.stores import running_service

pytestmark = pytest.mark.slow

DAMAGE = "Corruption: block checksum mismatch"


@pytest.mark.parametrize(
    ("archived", "journaled"),
    [
        pytest.param(0, 3, id="the journal alone has the events"),
        pytest.param(2, 3, id="the newest backup lacks some"),
        pytest.param(3, 0, id="the newest backup has all"),
    ],
)
def test_health_names_the_restore_that_loses_no_event(settings: Settings, archived: int, journaled: int) -> None:
    with running_service(settings) as service:
        if archived:
            service.append(drafts(archived, "archived"))
            service.create_backup()
        if journaled:
            service.append(drafts(journaled, "journaled"))
        last, events = archived + journaled, ids(service)
        restore = f'POST /api/backup/restore {{"sequence": {last}}} builds the database anew'

        with pytest.raises(DatabaseDamaged), service.bus.using():
            raise plyvel.CorruptionError(DAMAGE)
        processes.wait_until(lambda: restore in service.status()["problems"][0]["hint"], "no such restore is named")
        assert "loses no event" in service.status()["problems"][0]["hint"]

        with pytest.raises(DatabaseDamaged) as later, service.bus.using():
            raise plyvel.CorruptionError(DAMAGE)
        assert restore in (later.value.hint or "")

        service.restore_moment(Moment(sequence=last))
        assert (ids(service), problem_codes(service)) == (events, [])
