"""Which events count as covered, and the content of the journal's record."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventvault.database.bus import EventBus
from eventvault.errors import DatabaseMissing
from eventvault.journal import segment
from eventvault.journal.folder import JournalFolder
from eventvault.journal.writer import FEW_RANGES, MAX_RECENT_EVENTS, SegmentWriter
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, live, problem_codes
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def recovering(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"JOURNAL_INTERVAL": "10", "AUTO_RECOVER": "true"})


def recorded(service: StoreService) -> int:
    record = service.journal.folder.read_record()
    return record.sequence if record else 0


def wait_for(service: StoreService, sequence: int) -> None:
    processes.wait_until(lambda: service.status()["journal"]["lastSequence"] == sequence, "it is not in the journal")


def test_what_another_installation_recorded_in_the_same_generation_counts_for_nothing(recovering: Settings) -> None:
    """A copy of `storage/` is in use elsewhere, and both write into the same BACKUP_DIR."""
    with running_service(recovering) as service:
        for number in range(3):
            service.append(drafts(1, f"ours-{number}"))
            wait_for(service, number + 1)
        ours = service.journal.folder.segments()[0]
        theirs = [line.replace(b"ours", b"else") for each in ours for line in segment.read_lines(each)]
        about = msgspec.structs.replace(ours[0].header, installation="another one")
        segment.write_segment(ours[0].path.parent, about, [*theirs, *theirs])

        assert service.journal.flush(survey=True)
        assert [each.path.exists() for each in ours] == [True] * 3
        assert service.timeline()["window"]["newest"]["sequence"] == 3
        service.append(drafts(1, "later"))
        wait_for(service, 4)
        expected = live(service)
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        assert live(service) == expected


def test_new_events_wait_for_a_few_ranges_of_what_waits_to_be_published(tmp_path: Path) -> None:
    """Each is a segment: many are written in the time that older events have."""
    writer = SegmentWriter(JournalFolder(tmp_path), EventBus(tmp_path / "event_registry_db"), "ours", list)
    assert not writer.must_write(in_time=True)
    writer.waiting = [(number, number) for number in range(2, 4 * FEW_RANGES, 2)]
    assert not writer.must_write(in_time=False)
    assert writer.must_write(in_time=True)
    writer.waiting = writer.waiting[:FEW_RANGES]
    assert writer.must_write(in_time=False)
    writer.waiting = [(1, MAX_RECENT_EVENTS + 1)]
    assert not writer.must_write(in_time=False)


def test_two_segments_that_disagree_both_stay(recovering: Settings) -> None:
    with running_service(recovering) as service:
        service.append(drafts(1, "first"))
        wait_for(service, 1)
        (one,) = service.journal.folder.segments()[0]
        lines = [line.replace(b"first", b"other") for line in segment.read_lines(one)]
        segment.write_segment(one.path.parent, one.header, [*lines, *lines])

        assert service.journal.flush(survey=True)

        assert len(service.journal.folder.segments()[0]) == 2


def test_the_record_tells_that_there_are_events_at_once_and_how_many_at_the_end(recovering: Settings) -> None:
    with running_service(recovering) as service:
        wait_for(service, 0)
        service.append(drafts(2))
        wait_for(service, 2)
        assert recorded(service) == 2
        service.append(drafts(3, "more"))
    assert recorded(service) == 5


def test_a_registry_of_which_only_the_record_is_left_is_never_taken_for_an_empty_one(recovering: Settings) -> None:
    with running_service(recovering) as service:
        service.append(drafts(3))
        wait_for(service, 3)
    for folder in (recovering.backup_dir / "journal").glob("*/"):
        shutil.rmtree(folder)
    shutil.rmtree(recovering.storage_dir)

    with running_service(recovering) as service:
        assert problem_codes(service) == ["database_missing"]
        with pytest.raises(DatabaseMissing):
            service.append(drafts(1))


@pytest.mark.parametrize("harm", ["removed", "set aside"])
def test_a_recovery_says_what_there_was_and_is_nowhere_any_more(recovering: Settings, harm: str) -> None:
    with running_service(recovering) as service:
        for number in range(2):
            service.append(drafts(1, f"{number}"))
            wait_for(service, number + 1)
        newest = max(each.path for each in service.journal.folder.segments()[0])
    if harm == "removed":
        newest.unlink()
    else:
        newest.rename(newest.with_name(newest.name + ".damaged"))
        (recovering.backup_dir / "journal" / "registry.json").unlink()
    shutil.rmtree(recovering.storage_dir)

    with running_service(recovering) as service:
        if harm == "set aside":  # somebody may mend it
            service.accept_problem("recovery_incomplete")
            processes.wait_until(lambda: service.state == "serving", "the accepted recovery is not done")
        assert len(live(service)) == 1
        assert [note for note in service.status()["lastRestore"]["notes"] if "events up to 2" in note]
