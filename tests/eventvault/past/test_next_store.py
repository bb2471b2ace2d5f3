"""What reads a moment goes on in the next store, which builds again what the first one had built for its readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from eventvault.database.generation import is_id
from eventvault.database.values import HistogramQuery, ScanQuery, TypesQuery
from eventvault.errors import GenerationSuperseded
from eventvault.past.pool import MAX_OPEN
from eventvault.past.values import CopyResult, DiffQuery, PastView
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.eventvault.past.past_moments import forget_kept, ids_of, restored_mistakenly
from tests.restoring import copies_for_readers, ids, make_archive, make_foreign_archive
from tests.stores import running_service

pytestmark = pytest.mark.slow

BEYOND_THE_FORK = ["shared-0", "shared-1", "left-0", "left-1", "left-2"]


class Read(NamedTuple):
    """store: the next one. view: of a moment that the first store built. left: the generation of its events."""

    store: StoreService
    view: PastView
    left: str

    @property
    def query(self) -> ScanQuery:
        return ScanQuery(generation=self.view.generation, upto=self.view.sequence)


@contextmanager
def read_by_two_stores(settings: Settings, *, by_instant: bool = False) -> Iterator[Read]:
    with running_service(settings) as first:
        left, end = restored_mistakenly(first)
        forget_kept(first)
        moment = Moment(instant=end, generation=left) if by_instant else Moment(sequence=5, generation=left)
        view = first.resolve_moment(moment)
        assert not is_id(view.generation), "it is read from a database that was built for it"
    with running_service(settings) as store:
        assert not copies_for_readers(settings.storage_dir), "what the first store built is gone"
        yield Read(store, view, left)


@pytest.mark.parametrize("by_instant", [False, True])
def test_a_copy_of_what_lies_beyond_a_fork(settings: Settings, by_instant: bool) -> None:
    with read_by_two_stores(settings, by_instant=by_instant) as read:
        assert read.store.copy_events_to_present(read.query) == CopyResult(5, 3, 2, 0, 6)
        assert ids(read.store) == ["shared-0", "shared-1", "since-0", "left-0", "left-1", "left-2"]


def test_an_export_and_what_it_says_of_its_generation(settings: Settings) -> None:
    with read_by_two_stores(settings) as read:
        read.store.check_export(read.query)
        exported = read.store.export_events(read.query)
        assert (exported.events, exported.sequence, exported.generation) == (5, 5, read.left)


def test_the_next_page_and_what_is_counted(settings: Settings) -> None:
    with read_by_two_stores(settings) as read:
        assert ids_of(read.store, read.view) == BEYOND_THE_FORK
    with running_service(settings) as store:
        asked = {"generation": read.view.generation, "upto": read.view.sequence}
        assert sum(store.histogram(HistogramQuery(buckets=1, **asked)).counts) == 5
    with running_service(settings) as store:
        assert store.event_types(TypesQuery(**asked)).counted == 5


def test_the_next_page_of_a_comparison(settings: Settings) -> None:
    with read_by_two_stores(settings) as read:
        page = read.store.diff(DiffQuery(read.view, read.store.resolve_moment(Moment())))
        assert (page.common, page.only_one, page.only_other) == (2, 3, 1)


@pytest.mark.parametrize("name", ["theirs.tar.gz", "node.tar.gz"])
def test_an_archive_that_was_unpacked(settings: Settings, name: str) -> None:
    make_archive(settings.backup_dir / "theirs.tar.gz", "from")
    make_foreign_archive(settings.backup_dir / "node.tar.gz", 3, "from")
    with running_service(settings) as first:
        view = first.resolve_moment(Moment(archive=name))
    query = ScanQuery(generation=view.generation, upto=view.sequence)
    with running_service(settings) as store:
        assert store.copy_events_to_present(query).appended == 3
    (settings.backup_dir / name).unlink()
    with running_service(settings) as store, pytest.raises(GenerationSuperseded):
        store.copy_events_to_present(query)


def test_what_made_room_for_other_moments_in_the_same_store(settings: Settings) -> None:
    with read_by_two_stores(settings) as read:
        for number in range(MAX_OPEN + 1):
            make_archive(settings.backup_dir / f"{number}.tar.gz", f"{number}")
        ids_of(read.store, read.view)
        for number in range(MAX_OPEN + 1):
            read.store.resolve_moment(Moment(archive=f"{number}.tar.gz"))
        assert not read.store.past.has(read.view.generation)
        assert ids_of(read.store, read.view) == BEYOND_THE_FORK


def test_a_copy_under_way_makes_room_for_no_other_moment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with read_by_two_stores(settings) as read:
        store, scan = read.store, read.store.event_log.scan
        present: list[bool] = []

        def scanned(asked: ScanQuery) -> object:
            if asked.generation is not None:
                for number in range(MAX_OPEN + 1):
                    make_archive(settings.backup_dir / f"{number}.tar.gz", f"{number}")
                    store.resolve_moment(Moment(archive=f"{number}.tar.gz"))
                present.append(store.past.has(read.view.generation))
            return scan(asked)

        monkeypatch.setattr(store.event_log, "scan", scanned)
        assert store.copy_events_to_present(read.query).appended == 3
        assert present == [True]


def test_a_made_up_key_without_an_end_builds_nothing(settings: Settings) -> None:
    with read_by_two_stores(settings) as read, pytest.raises(GenerationSuperseded):
        read.store.scan(ScanQuery(generation=read.view.generation, after=2))


@pytest.mark.parametrize("other", ["{0}-05-", "{0}-5", "{0}-5--", "x{0}-5-", "{0}-5-01"])
def test_a_key_that_no_store_makes_builds_nothing(settings: Settings, other: str) -> None:
    with read_by_two_stores(settings) as read, pytest.raises(GenerationSuperseded):
        read.store.scan(ScanQuery(generation=other.format(f"moment-{read.left}"), upto=5))
