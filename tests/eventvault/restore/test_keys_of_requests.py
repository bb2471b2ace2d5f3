"""The keys of requests go with their events: through restores to a moment, undo and redo, archives and a recovery."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator

import pytest

from eventvault.journal import compaction, segment
from eventvault.keyed_request import KeyedRequest
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, ids, problem_codes
from tests.stores import running_service

pytestmark = pytest.mark.slow

NAMES = ["archived", "journaled", "last"]


@pytest.fixture
def settings(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true"})


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    """Each event was posted by a request with a key: one is in an archive, the others in a segment each."""
    with running_service(settings) as service:
        for name in NAMES:
            post(service, name)
            assert service.journal.flush()
            if name == "archived":
                service.create_backup()
        yield service


def keyed(name: str) -> KeyedRequest:
    return KeyedRequest(hashlib.md5(name.encode(), usedforsecurity=False).digest(), "content")


def post(service: StoreService, name: str, prefix: str = "") -> list[str] | None:
    """Send the request of that name; returns the ids of its first answer, None if there was none."""
    return service.append(drafts(1, prefix or name), keyed(name)).ids


def known(service: StoreService) -> list[str]:
    """The requests that are answered as before; the others store an event of their own."""
    return [name for name in NAMES if post(service, name, f"again-{name}") == [f"{name}-0"]]


@pytest.mark.parametrize("sequence", [0, 1, 2, 3])
def test_a_moment_has_the_keys_of_its_events_and_no_others(service: StoreService, sequence: int) -> None:
    assert known(service) == NAMES

    service.restore_moment(Moment(sequence=sequence))

    assert ids(service) == [f"{name}-0" for name in NAMES[:sequence]]
    assert known(service) == NAMES[:sequence]
    assert len(ids(service)) == 3


def test_undo_and_redo_bring_the_keys_of_their_events(service: StoreService) -> None:
    service.restore_moment(Moment(sequence=1))
    assert known(service) == NAMES[:1]
    service.undo()
    assert (known(service), len(ids(service))) == (NAMES, 3)
    service.undo()
    assert ids(service) == ["archived-0", "again-journaled-0", "again-last-0"]
    assert [post(service, name, "x") for name in NAMES] == [["archived-0"], ["again-journaled-0"], ["again-last-0"]]


def test_a_moment_of_a_generation_that_was_left_behind_has_its_keys(service: StoreService) -> None:
    earlier = service.status()["store"]["generation"]
    service.restore_moment(Moment(sequence=1))
    post(service, "another")
    service.restore_moment(Moment(generation=earlier, sequence=3))
    assert (known(service), ids(service)) == (NAMES, [f"{name}-0" for name in NAMES])


@pytest.mark.parametrize("archives", [True, False])
def test_a_recovery_of_a_lost_storage_has_the_keys(settings: Settings, archives: bool) -> None:
    with running_service(settings) as service:
        for name in NAMES:
            post(service, name)
        assert service.journal.flush()
        if archives:
            service.create_backup()
    shutil.rmtree(settings.storage_dir)
    with running_service(settings) as service:
        assert (known(service), ids(service), problem_codes(service)) == (NAMES, [f"{name}-0" for name in NAMES], [])


@pytest.mark.parametrize("archive", [True, False])
def test_an_old_copy_of_storage_gets_the_keys_with_the_events_that_it_lacks(settings: Settings, archive: bool) -> None:
    copy = settings.storage_dir.with_name("copy")
    with running_service(settings) as service:
        post(service, "archived")
    shutil.copytree(settings.database, copy)
    with running_service(settings) as service:
        post(service, "journaled")
        assert service.journal.flush()
        post(service, "last")
        if archive:
            service.create_backup()
        assert service.journal.flush(survey=True)
    shutil.rmtree(settings.database)
    copy.rename(settings.database)
    with running_service(settings) as service:
        assert (known(service), ids(service), problem_codes(service)) == (NAMES, [f"{name}-0" for name in NAMES], [])


def test_merged_segments_have_all_answers(service: StoreService) -> None:
    compaction.merge(service.journal.folder, service.journal.folder.segments()[0])
    service.restore_moment(Moment(sequence=2))
    assert known(service) == NAMES[:2]


def test_segments_without_answers_cost_no_key_that_the_open_database_has(service: StoreService) -> None:
    for each in service.journal.folder.segments()[0]:
        segment.write_segment(each.path.parent, each.header, segment.read_lines(each))
    assert {each.header.format_version for each in service.journal.folder.segments()[0]} == {1}

    service.restore_moment(Moment(sequence=2))

    assert known(service) == NAMES[:2]


def test_another_moment_is_read_as_before(service: StoreService) -> None:
    view = service.resolve_moment(Moment(sequence=2))
    assert view.sequence == 2
    assert service.rehearse(Moment(sequence=2)).ok
    assert service.rehearse().ok
    assert known(service) == NAMES
