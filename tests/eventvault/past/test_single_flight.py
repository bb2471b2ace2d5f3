"""A moment without a database is built for its readers: once, and other readers do not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from eventvault.errors import MomentUnavailable, NoSpace
from eventvault.past.single_flight import MAX_CONCURRENT_BUILDS
from eventvault.past.views import Views
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.eventvault.past.past_moments import (
    forget_kept,
    generation_of,
    ids_at,
    ids_of,
    post,
    restored_mistakenly,
)
from tests.restoring import copies_for_readers, make_archive, make_database
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


class Made(NamedTuple):
    folder: Path


class Maker:
    """Builds five events for any moment, and plans as the service does. made: the moments it was asked for."""

    def __init__(self, service: StoreService) -> None:
        self.made: list[Moment] = []
        self.plan = service.moments.plan

    def materialise(self, moment: Moment, staging: Path) -> Made:
        self.made.append(moment)
        make_database(staging / "event_registry_db", "made", 5)
        return Made(staging / "event_registry_db")


def views_by(maker: Maker, service: StoreService) -> Views:
    return Views(service.bus, service.catalogue, service.chores, service.past, maker)


def test_what_nobody_keeps_is_made_into_a_database_once(service: StoreService) -> None:
    left, end = restored_mistakenly(service)
    forget_kept(service)
    maker = Maker(service)
    views = views_by(maker, service)
    for _ in range(3):
        view = views.resolve_moment(Moment(instant=end, generation=left))
        assert (view.sequence, view.of) == (5, left)
        assert ids_of(service, view) == [f"made-{number}" for number in range(5)]

    assert maker.made == [Moment(sequence=5, generation=left)]
    assert views.resolve_moment(Moment(generation=left)) == view, "the end of a generation is its latest moment"
    with pytest.raises(MomentUnavailable):
        views.resolve_moment(Moment(sequence=1, generation="0123456789abcdef"))
    assert len(maker.made) == 1, "nothing is made of a generation that is not known"


def test_all_instants_of_one_state_share_what_was_made_of_it(service: StoreService) -> None:
    post(service, "shared", 2)
    name = service.create_backup().backup.name
    left, instant = generation_of(service), post(service, "left", 3)
    beyond = post(service, "more")
    service.restore(name)
    forget_kept(service)
    moments = [Moment(instant=each, generation=left) for each in (instant, instant + 1, (instant + beyond) // 2)]
    moments += [Moment(instant=beyond - 1, generation=left), Moment(sequence=5, generation=left)]

    assert len({service.resolve_moment(moment) for moment in moments}) == 1
    assert ids_at(service, moments[0])[-1] == "left-2"
    assert len(copies_for_readers(service.settings.storage_dir)) == 1


def test_an_instant_of_which_only_an_archive_tells_is_made_as_it_was_asked_for(service: StoreService) -> None:
    left, end = restored_mistakenly(service)
    forget_kept(service)
    maker = Maker(service)
    planned = service.moments.plan(Moment(instant=end, generation=left))
    target = msgspec.structs.replace(planned.plan.target, sequence=None, instant=end)
    plan = msgspec.structs.replace(planned.plan, target=target)
    maker.plan = lambda _: msgspec.structs.replace(planned, plan=plan)

    views_by(maker, service).resolve_moment(Moment(instant=end, generation=left))

    assert maker.made == [Moment(instant=end, generation=left)]


class PausedMaker(Maker):
    """Stops at event 4 until the test lets it continue."""

    def __init__(self, service: StoreService) -> None:
        super().__init__(service)
        self.begun, self.may = threading.Event(), threading.Event()

    def materialise(self, moment: Moment, staging: Path) -> Made:
        if moment.sequence == 4:
            self.begun.set()
            assert self.may.wait(60)
        return super().materialise(moment, staging)


def test_what_is_open_and_what_is_small_do_not_wait_for_what_is_being_made(service: StoreService) -> None:
    left, end = restored_mistakenly(service)
    forget_kept(service)
    make_archive(service.settings.backup_dir / "theirs.tar.gz", "theirs")
    maker = PausedMaker(service)
    views = views_by(maker, service)
    before = views.resolve_moment(Moment(instant=end, generation=left))
    with ThreadPoolExecutor(4) as threads:
        slow = [threads.submit(views.resolve_moment, Moment(sequence=4, generation=left)) for _ in range(2)]
        assert maker.begun.wait(60)
        try:
            assert threads.submit(views.resolve_moment, Moment(instant=end, generation=left)).result(60) == before
            assert threads.submit(views.resolve_moment, Moment(archive="theirs.tar.gz")).result(60).sequence == 3
            assert not any(each.done() for each in slow)
        finally:
            maker.may.set()
        one, other = [each.result(60) for each in slow]

    assert one == other != before
    assert maker.made == [Moment(sequence=5, generation=left), Moment(sequence=4, generation=left)]


def test_what_could_not_be_made_is_tried_again_by_the_next_one(service: StoreService) -> None:
    left, _ = restored_mistakenly(service)
    forget_kept(service)
    maker = Maker(service)
    views = views_by(maker, service)

    def fail(moment: Moment, staging: Path) -> Made:
        raise NoSpace("no room", hint="")

    maker.materialise = fail  # type: ignore[method-assign]
    for _ in range(MAX_CONCURRENT_BUILDS + 1):
        with pytest.raises(NoSpace):
            views.resolve_moment(Moment(sequence=4, generation=left))
    del maker.materialise

    assert views.resolve_moment(Moment(sequence=4, generation=left)).sequence == 5
