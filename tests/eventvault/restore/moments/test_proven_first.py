"""By itself only a proven archive is used; another one only where nothing proven reaches, or by its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault.database.generation import Generation
from eventvault.database.values import ScanQuery
from eventvault.errors import MomentUnavailable
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import (
    accept_incomplete_recovery,
    drafts,
    forge_archive,
    generation,
    live,
    prefixes,
    problem_codes,
    put,
)
from tests.stores import running_service

pytestmark = pytest.mark.slow

ENVIRONMENT = {"JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true", "MAX_BACKUPS": "2", "KEEP_UNDO": "0"}


@pytest.fixture
def settings(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with(ENVIRONMENT)


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


def back_up(service: StoreService) -> Path:
    return Path(service.create_backup().backup.path)


def archive_of(service: StoreService, moment: Moment) -> Any:
    return service.plan_restore(moment)["archive"]


def events_at(service: StoreService, moment: Moment) -> list[bytes]:
    view = service.resolve_moment(moment)
    return service.scan(ScanQuery(generation=view.generation, upto=view.sequence, limit=1000)).events


def with_left_generation(service: StoreService) -> tuple[str, Path, list[bytes]]:
    """Restore event 2 of 6; return the generation that was left, its archive, and its events."""
    put(service, 6, "a")
    left, archive, events = generation(service), back_up(service), live(service)
    service.restore_moment(Moment(sequence=2))
    put(service, 1, "b")
    back_up(service)
    return left, archive, events


def test_a_restore_to_a_moment_does_not_begin_with_an_archive_that_is_not_proven(service: StoreService) -> None:
    put(service, 3, "a")
    ours = back_up(service)
    put(service, 3, "b")
    events = live(service)
    forge_archive(ours, ours.with_name("forged.tar.gz"), 4)

    assert archive_of(service, Moment(sequence=4)) == ours.name
    service.restore_moment(Moment(sequence=4))
    assert live(service) == events[:4]


def test_a_past_moment_is_not_read_from_an_archive_that_is_not_proven(service: StoreService) -> None:
    left, archive, events = with_left_generation(service)
    forge_archive(archive, archive.with_name("forged.tar.gz"), 4)

    for sequence in (4, 5, 6):
        assert events_at(service, Moment(sequence=sequence, generation=left)) == events[:sequence]
    with pytest.raises(MomentUnavailable):
        service.resolve_moment(Moment(sequence=7, generation=left))


def test_an_archive_that_is_not_proven_is_used_where_nothing_else_reaches(service: StoreService) -> None:
    left, archive, events = with_left_generation(service)
    forged = forge_archive(archive, archive.with_name("forged.tar.gz"), 7)
    moment = Moment(sequence=7, generation=left)

    assert archive_of(service, moment) == forged.name
    assert archive_of(service, Moment(sequence=6, generation=left)) == archive.name
    assert service.plan_restore(forged.name)["archive"] == forged.name
    forged.unlink()
    with pytest.raises(MomentUnavailable):
        service.plan_restore(moment)
    assert events_at(service, Moment(sequence=6, generation=left)) == events


@pytest.mark.parametrize("at", [7, 2**40])
def test_a_generation_that_an_archive_makes_up_hides_no_moment(service: StoreService, at: int) -> None:
    left, archive, events = with_left_generation(service)
    made_up = Generation("f" * 16, left, at, "restored", 1)
    present = Generation("e" * 16, generation(service), at, "restored", 1)
    forge_archive(archive, archive.with_name("f.tar.gz"), 9, generation=made_up, generations=[made_up, present])
    recorded = service.locator.time_of(service.locator.find_sources(), left, 6)
    assert recorded is not None

    assert events_at(service, Moment(instant=recorded, generation=left)) == events
    service.restore_moment(Moment(instant=recorded, generation=left))
    assert live(service) == events


def test_a_lost_disk_is_recovered_from_what_is_proven(settings: Settings) -> None:
    with running_service(settings) as service:
        put(service, 3, "a")
        ours = back_up(service)
        put(service, 2, "b")
        events = live(service)
    for number, claimed in enumerate((4, 5, 1000)):
        forge_archive(ours, ours.with_name(f"forged{number}.tar.gz"), claimed)
    shutil.rmtree(settings.storage_dir)

    with running_service(settings) as service:
        accept_incomplete_recovery(service)
        assert live(service) == events
        assert problem_codes(service) == []
        notes = " ".join(service.status()["lastRestore"]["notes"])
        assert [number for number in range(3) if f"forged{number}.tar.gz" in notes] == [2]


@pytest.mark.parametrize("lost", ["the journal", "the journal and the catalogue"])
def test_a_lost_disk_is_recovered_from_the_archives_alone(settings: Settings, lost: str) -> None:
    with running_service(settings) as service:
        put(service, 3, "a")
        ours = back_up(service)
    forge_archive(ours, ours.with_name("forged.tar.gz"), 1000, created="2039-01-01T00:00:00.000Z")
    shutil.rmtree(settings.storage_dir)
    shutil.rmtree(settings.backup_dir / "journal")
    if "catalogue" in lost:
        (settings.backup_dir / ".catalogue.json").unlink()

    with running_service(settings) as service:
        accept_incomplete_recovery(service)
        assert prefixes(service) == {"a": 3}


def test_a_lost_disk_is_recovered_from_our_archives_although_nothing_proves_them_any_more(settings: Settings) -> None:
    """`cp backups/* elsewhere/` forgets the key and the catalogue, but not the journal."""
    with running_service(settings) as service:
        put(service, 3, "a")
        back_up(service)
        put(service, 2, "b")
    shutil.rmtree(settings.storage_dir)
    for name in (".installation.key", ".catalogue.json"):
        (settings.backup_dir / name).unlink()
    for segment in sorted((settings.backup_dir / "journal").glob("*/*.gz"))[:1]:
        segment.unlink()

    with running_service(settings) as service:
        assert prefixes(service) == {"a": 3, "b": 2}


def test_an_archive_that_is_not_proven_starts_no_generation(settings: Settings) -> None:
    with running_service(settings) as service:
        put(service, 3, "a")
        ours, before = back_up(service), generation(service)
    forge_archive(ours, ours.with_name("forged.tar.gz"), 9)

    with running_service(settings) as service:
        assert generation(service) == before
        assert service.append(drafts(1, "b")).last_sequence == 4


def test_rotation_neither_counts_nor_removes_archives_that_only_claim_to_be_ours(service: StoreService) -> None:
    put(service, 1, "a")
    ours = back_up(service)
    forged = [forge_archive(ours, ours.with_name(f"forged{number}.tar.gz"), 5) for number in range(3)]
    copies = [Path(shutil.copy(ours, ours.with_name(f"copy{number}.tar.gz"))) for number in range(3)]
    assert service.status()["backup"]["notProven"] == 3
    made = [ours]
    for number in range(2):
        put(service, 1, f"more{number}")
        made.append(back_up(service))

    assert {entry.name for entry in service.list_backups()} == {path.name for path in (*forged, *copies, *made[1:])}
    assert service.status()["backup"]["notProven"] == 3
    assert problem_codes(service) == []


def test_segments_stay_although_an_archive_that_is_not_proven_holds_their_events(settings: Settings) -> None:
    with running_service(settings) as service:
        put(service, 3, "a")
        ours = back_up(service)
        ours.rename(settings.storage_dir / ours.name)
        forge_archive(settings.storage_dir / ours.name, ours.with_name("forged.tar.gz"), 3)
        service.verify_backup("forged.tar.gz")
        assert service.journal.flush(survey=True)
        assert sum(each.last - each.first + 1 for each in service.journal.folder.segments()[0]) == 3
