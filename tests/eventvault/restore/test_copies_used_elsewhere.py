"""An archive of a copy of the installation that went on elsewhere: it is proven, and it has other events."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from eventvault.events import event
from eventvault.restore.values import Moment
from tests.copies import Copied
from tests.processes import wait_until
from tests.restoring import accept_incomplete_recovery, generation, live, problem_codes, put
from tests.stores import running_service

pytestmark = pytest.mark.slow


def lose(copied: Copied) -> list[bytes]:
    """Post three events, and lose `storage/`; returns what was live. The copy has an archive with four events more."""
    with running_service(copied.settings) as service:
        put(service, 3, "own")
        lost = live(service)
    copied.archive(4)
    shutil.rmtree(copied.settings.storage_dir)
    return lost


def test_a_recovery_does_not_take_its_events_for_the_lost_ones(copied: Copied) -> None:
    lost = lose(copied)

    with running_service(copied.settings) as service:
        (problem,) = [each for each in service.status()["problems"] if each["code"] == "recovery_incomplete"]
        assert "elsewhere" in problem["message"]
        assert "has another event 5 than" in problem["message"]
        (archive,) = copied.settings.backup_dir.glob("*elsewhere.tar.gz")
        archive.rename(copied.settings.storage_dir.parent / archive.name)
        wait_until(lambda: service.state == "serving", "it does not recover by itself")
        assert live(service) == lost


def test_a_recovery_that_is_accepted_brings_the_own_events_back(copied: Copied) -> None:
    lost = lose(copied)

    with running_service(copied.settings) as service:
        accept_incomplete_recovery(service)
        assert live(service) == lost
        assert problem_codes(service) == []


def by_sequence(_: list[bytes]) -> Moment:
    return Moment(sequence=4)


def by_instant(events: list[bytes]) -> Moment:
    return Moment(instant=event.recorded_of(events[3]))


@pytest.mark.parametrize("moment", [by_sequence, by_instant])
@pytest.mark.parametrize("events", [2, 1, 6], ids=["up to the moment", "before it", "beyond the present"])
@pytest.mark.parametrize("journaled", [True, False], ids=["journal", "no segment"])
def test_a_moment_has_the_own_events(
    copied: Copied, moment: Callable[[list[bytes]], Moment], events: int, journaled: bool
) -> None:
    """Without a segment only the open database has them."""
    with running_service(copied.settings) as service:
        for number in range(3):
            put(service, 1, f"own-{number}")
        own = live(service)
        archive = copied.archive(events)
        if not journaled:
            for segment in service.journal.folder.segments()[0]:
                segment.path.unlink()
        service.restore_moment(moment(own))
        assert live(service) == own[:4]
    assert archive.is_file()


@pytest.mark.parametrize("sequence", [3, 4, 5])
def test_a_moment_has_the_own_events_although_the_journals_were_merged(copied: Copied, sequence: int) -> None:
    with running_service(copied.settings) as service:
        put(service, 3, "own")
        own = live(service)
        copied.journal(6)
        service.restore_moment(Moment(sequence=sequence))
        assert live(service) == own[:sequence]


def test_a_recovery_from_merged_journals_is_refused(copied: Copied) -> None:
    """The segment of the copy reaches further than the own archive that it contradicts."""
    with running_service(copied.settings) as service:
        put(service, 3, "own")
        service.create_backup()
    copied.journal(6)
    shutil.rmtree(copied.settings.storage_dir)

    with running_service(copied.settings) as service:
        assert problem_codes(service) == ["database_missing", "recovery_incomplete"]


@pytest.mark.parametrize("archived", [True, False], ids=["archive", "journal"])
def test_the_own_events_come_back_if_the_database_is_the_one_of_the_copy(copied: Copied, archived: bool) -> None:
    with running_service(copied.settings) as service:
        put(service, 3, "own")
        if archived:
            service.create_backup()
        lost, own = generation(service), live(service)
    copied.exchange(1)

    with running_service(copied.settings) as service:
        assert problem_codes(service) == ["rolled_back"]
        service.restore_moment(Moment(generation=lost, sequence=5))
        assert live(service) == own
        assert problem_codes(service) == []
