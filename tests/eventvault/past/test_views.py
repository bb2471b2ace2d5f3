"""Moments of the past are read as they were, from any database or archive that has them, and refused otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventvault import clock, data_folders
from eventvault.archive import reader
from eventvault.database.values import ScanQuery
from eventvault.errors import BackupNotFound, MomentUnavailable, TooBusy
from eventvault.past.pool import MAX_OPEN
from eventvault.past.values import DiffQuery
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import format_2
from tests.eventvault.past.past_moments import forget_kept, generation_of, ids_at, ids_of, post, restored_mistakenly
from tests.restoring import bytes_of, copies_for_readers, ids, leftovers, make_archive, make_foreign_archive
from tests.stores import running_service


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


@pytest.mark.slow
def test_each_instant_gives_what_was_recorded_up_to_it(service: StoreService) -> None:
    instants = [post(service, name) for name in ("a", "b", "c")]

    for number, instant in enumerate(instants, start=1):
        assert len(ids_at(service, Moment(instant=instant))) == number
        assert len(ids_at(service, Moment(instant=instant - 1))) == number - 1
    assert len(ids_at(service, Moment(instant=clock.now()))) == 3


def test_each_sequence_gives_the_events_up_to_it(service: StoreService) -> None:
    post(service, "a", 3)

    assert [len(ids_at(service, Moment(sequence=number))) for number in range(4)] == [0, 1, 2, 3]
    assert len(ids_at(service, Moment())) == 3


@pytest.mark.slow
def test_the_very_moment_that_was_restored_is_readable_in_what_was_left_too(service: StoreService) -> None:
    instants = [post(service, name) for name in ("a", "b", "c")]
    first = generation_of(service)
    for _ in range(2):
        service.restore_moment(Moment(instant=instants[1], generation=first))
        service.undo()
    service.restore_moment(Moment(instant=instants[1], generation=first))
    forget_kept(service)

    assert len(ids_at(service, Moment(instant=instants[1], generation=first))) == 2
    assert len(ids_at(service, Moment(instant=instants[2], generation=first))) == 3


@pytest.mark.slow
def test_what_is_appended_later_never_becomes_part_of_a_moment(service: StoreService) -> None:
    for _ in range(50):
        post(service, "a" * 5)
        moment = Moment(instant=clock.now())
        before = service.resolve_moment(moment)
        post(service, f"later-{before.sequence}")
        assert service.resolve_moment(moment) == before


def test_an_empty_registry_has_a_past_too(service: StoreService) -> None:
    assert ids_at(service, Moment(instant=clock.now())) == []


@pytest.mark.parametrize(
    "moment",
    [
        Moment(instant=clock.parse("2001-01-01T00:00:00Z")),
        Moment(instant=clock.parse("2500-01-01T00:00:00Z")),
        Moment(sequence=4),
        Moment(sequence=-1),
        Moment(sequence=2**70),
        Moment(sequence=1, generation="0123456789abcdef"),
        Moment(instant=clock.parse("2020-01-01T00:00:00Z"), generation="../event_registry_db"),
        Moment(generation=""),
    ],
)
def test_a_moment_that_there_is_not_is_refused_with_those_there_are(service: StoreService, moment: Moment) -> None:
    post(service, "a", 3)

    with pytest.raises(MomentUnavailable) as caught:
        service.resolve_moment(moment)

    window = caught.value.details["window"]
    assert (window["oldest"]["sequence"], window["newest"]["sequence"]) == (0, 3)
    assert all(clock.parse(end["time"]) for end in window.values())
    assert caught.value.hint
    before = moment.sequence == -1 or (moment.instant or clock.now()) < clock.parse("2002-01-01T00:00:00Z")
    end = window["oldest" if before else "newest"]
    assert caught.value.details["nearest"] == [{"generation": generation_of(service), **end}]


@pytest.mark.slow
def test_a_moment_of_a_generation_that_was_left_behind_is_read_from_what_is_kept(service: StoreService) -> None:
    left, end = restored_mistakenly(service)
    kept = service.settings.storage_dir / f"previous-{left}"
    before = bytes_of(kept)

    assert ids_at(service, Moment(instant=end, generation=left))[-1] == "left-2"
    assert ids_at(service, Moment(sequence=4, generation=left)) == ["shared-0", "shared-1", "left-0", "left-1"]
    assert ids_at(service, Moment(generation=left))[-1] == "left-2"
    assert ids_at(service, Moment(instant=end)) == ["shared-0", "shared-1"], "the present lineage never had the others"
    assert ids_at(service, Moment(instant=clock.now())) == ["shared-0", "shared-1", "since-0"]
    assert bytes_of(kept) == before, "what is kept is never written to"


@pytest.mark.slow
def test_what_two_generations_share_is_had_also_when_nothing_is_kept(service: StoreService) -> None:
    left, end = restored_mistakenly(service)
    forget_kept(service, journal=True)

    assert ids_at(service, Moment(sequence=2, generation=left)) == ["shared-0", "shared-1"]
    for moment in (Moment(sequence=3, generation=left), Moment(instant=end, generation=left), Moment(generation=left)):
        with pytest.raises(MomentUnavailable) as caught:
            service.resolve_moment(moment)
        assert 2 in [near["sequence"] for near in caught.value.details["nearest"]]


@pytest.mark.slow
def test_what_nobody_keeps_is_put_together_from_the_journal(service: StoreService) -> None:
    left, end = restored_mistakenly(service)
    forget_kept(service)

    assert ids_at(service, Moment(instant=end, generation=left))[-1] == "left-2"
    assert ids_at(service, Moment(sequence=4, generation=left)) == ["shared-0", "shared-1", "left-0", "left-1"]
    assert len(ids_at(service, Moment(generation=left))) == 5
    view = service.resolve_moment(Moment(generation=left))
    page = service.diff(DiffQuery(view, service.resolve_moment(Moment())))
    assert (view.of, page.common, page.only_one, page.only_other) == (left, 2, 3, 1)


@pytest.mark.slow
def test_a_clock_that_was_set_back_withholds_nothing_of_the_past(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, end = restored_mistakenly(service)
    newest = post(service, "newest")
    system_now = clock.system_now
    for name in ("system_now", "_now"):
        monkeypatch.setattr(clock, name, lambda: system_now() - 7_200_000_000)

    assert post(service, "later") == newest, "a recorded time never decreases"
    assert ids_at(service, Moment(instant=newest))[-2:] == ["newest-0", "later-0"]
    with pytest.raises(MomentUnavailable, match="in the future"):
        service.resolve_moment(Moment(instant=newest + 1))
    assert ids_at(service, Moment(instant=end, generation=left))[-1] == "left-2"
    forget_kept(service)
    assert len(ids_at(service, Moment(generation=left))) == 5
    assert ids_at(service, Moment(instant=end, generation=left))[-1] == "left-2"


@pytest.mark.slow
def test_a_generation_that_was_brought_back_is_whole_in_the_present_one(service: StoreService) -> None:
    left, end = restored_mistakenly(service)
    service.undo()
    forget_kept(service)

    assert ids_at(service, Moment(instant=end, generation=left))[-1] == "left-2"
    assert len(ids_at(service, Moment(generation=left))) == 5


@pytest.mark.slow
def test_a_page_of_the_past_goes_on_across_a_restore(service: StoreService) -> None:
    post(service, "shared", 2)
    name = service.create_backup().backup.name
    moment = Moment(instant=post(service, "left", 3))
    view = service.resolve_moment(moment)
    service.restore(name)
    post(service, "since", 9)

    assert ids_of(service, view)[-1] == "left-2"


@pytest.mark.slow
def test_an_archive_that_was_made_here_is_read_without_unpacking_it(service: StoreService) -> None:
    post(service, "a", 3)
    name = service.create_backup().backup.name
    post(service, "later", 2)
    service.chores.cancel()

    assert ids_at(service, Moment(archive=name)) == ["a-0", "a-1", "a-2"]


@pytest.mark.slow
def test_any_other_archive_is_unpacked_once(service: StoreService) -> None:
    make_archive(service.settings.backup_dir / "theirs.tar.gz", "theirs")
    make_foreign_archive(service.settings.backup_dir / "node.tar.gz", 2, "node")
    post(service, "ours")

    assert ids_at(service, Moment(archive="theirs.tar.gz")) == ["theirs-0", "theirs-1", "theirs-2"]
    assert ids_at(service, Moment(archive="node.tar.gz")) == ["node-0", "node-1"]
    service.chores.cancel()
    assert len(ids_at(service, Moment(archive="theirs.tar.gz"))) == 3
    assert ids(service) == ["ours-0"]
    with pytest.raises(BackupNotFound):
        service.resolve_moment(Moment(archive="never.tar.gz"))


def without_seal(archive: Path, copy: Path) -> None:
    """Write the same archive again, so that nothing proves it."""
    unpacked = archive.with_name("unpacked")
    about = reader.unpack(archive, unpacked).manifest
    format_2.write_archive(copy, unpacked / data_folders.DATABASE, about)
    shutil.rmtree(unpacked)


@pytest.mark.slow
def test_an_archive_that_was_unpacked_is_said_to_be_of_its_own_generation(service: StoreService) -> None:
    post(service, "a", 3)
    made = Path(service.create_backup().backup.path)
    without_seal(made, made.with_name("copy.tar.gz"))
    make_archive(made.with_name("theirs.tar.gz"), "theirs")
    make_foreign_archive(made.with_name("node.tar.gz"), 2, "node")
    post(service, "later")

    copy, theirs, node = (
        service.resolve_moment(Moment(archive=f"{name}.tar.gz")) for name in ("copy", "theirs", "node")
    )

    assert copy.generation_id == generation_of(service)
    assert theirs.generation_id == service.catalogue.entry("theirs.tar.gz").generation != copy.generation_id
    assert node.generation_id is None
    page = service.diff(DiffQuery(copy, service.resolve_moment(Moment())))
    assert (page.only_one, page.only_other, page.different) == (0, 1, 0)
    assert page.common == 0, "an archive may say what it likes of its lineage: it was looked at from the beginning"
    proven = service.resolve_moment(Moment(archive=made.name))
    assert service.diff(DiffQuery(proven, service.resolve_moment(Moment()))).common == 3


@pytest.mark.slow
def test_what_was_unpacked_goes_when_nobody_reads_it(service: StoreService) -> None:
    make_archive(service.settings.backup_dir / "theirs.tar.gz", "theirs")
    key = service.resolve_moment(Moment(archive="theirs.tar.gz")).generation
    service.past._started_at -= 3600
    with service.lease_generation(key):
        service.past._last_used.clear()
        service.past.close_idle()
        assert service.past.has(key)
    service.past._last_used.clear()

    service.past.close_idle()

    assert not service.past.has(key)
    assert not leftovers(service.settings.storage_dir)


@pytest.mark.slow
def test_only_so_many_are_open_and_the_one_unread_for_longest_makes_way(service: StoreService) -> None:
    names = [f"{number}.tar.gz" for number in range(MAX_OPEN + 1)]
    for name in names:
        make_archive(service.settings.backup_dir / name, name)
    views = [service.resolve_moment(Moment(archive=name)) for name in names]

    assert [service.past.has(view.generation) for view in views] == [False, *[True] * MAX_OPEN]
    holders = [object() for _ in views[1:]]
    for holder, view in zip(holders, views[1:], strict=True):
        service.lease_generation(view.generation, holder)
    with pytest.raises(TooBusy):
        service.resolve_moment(Moment(archive=names[0]))
    for holder in holders:
        service.event_log.release(holder)
    assert len(ids_at(service, Moment(archive=names[0]))) == 3
    assert len(copies_for_readers(service.settings.storage_dir)) == MAX_OPEN


@pytest.mark.slow
def test_a_start_removes_the_copies_of_a_store_that_was_killed(settings: Settings) -> None:
    with running_service(settings) as service:
        make_archive(settings.backup_dir / "theirs.tar.gz", "theirs")
        service.resolve_moment(Moment(archive="theirs.tar.gz"))
        assert copies_for_readers(settings.storage_dir)
    with running_service(settings) as service:
        assert not leftovers(settings.storage_dir)
        assert service.scan(ScanQuery()).events == []
