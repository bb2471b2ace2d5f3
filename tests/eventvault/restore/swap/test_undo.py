"""Undo: the previous database comes back complete, and the events posted since are replaced."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventvault import data_folders
from eventvault.database.clone import copy_database
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.database.values import ScanQuery
from eventvault.errors import (
    ArchiveError,
    DatabaseDamaged,
    GenerationSuperseded,
    NothingToUndo,
    RestoreRunning,
    UndoNotFound,
)
from eventvault.operations.operation import Operation
from eventvault.restore.moments.replay import cut
from eventvault.restore.values import Moment, ReplacedEvents, Restored
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import (
    bytes_of,
    drafts,
    flip,
    ids,
    leftovers,
    make_archive,
    make_database,
    make_foreign_archive,
    prefixes,
    set_clock_back,
    waiting_chore,
)
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        service.append(drafts(5))
        yield service


def left_behind(restored: Restored) -> tuple[int, str | None, str | None]:
    """How many events were replaced, and the ids of the first and the last."""
    behind = restored.replaced_events
    assert isinstance(behind, ReplacedEvents)
    first, last = (value and value["id"] for value in (behind.first, behind.last))
    return behind.count, first, last


def mistaken_restore(service: StoreService) -> Restored:
    """Restore a backup with five events, while there are seven."""
    name = service.create_backup().backup.name
    service.append(drafts(2, "later"))
    return service.restore(name)


def test_a_restore_names_what_undoes_it(service: StoreService) -> None:
    generation = service.status()["store"]["generation"]

    undo = mistaken_restore(service).undo

    assert undo is not None
    assert (undo.name, undo.generation, undo.events) == (f"previous-{generation}", generation, 7)
    (entry,) = service.list_undo()
    assert (entry.name, entry.generation, entry.events) == (undo.name, undo.generation, undo.events)
    assert entry.source == service.list_backups()[0].name
    assert entry.size > 0


def test_what_was_there_before_the_restore_comes_back_and_what_was_posted_since_is_left_behind(
    service: StoreService,
) -> None:
    mistaken_restore(service)
    service.append(drafts(3, "since", data={"large": "x" * 1000}))

    undone = service.undo()

    assert prefixes(service) == {"live": 5, "later": 2}
    assert undone.events == 7
    assert left_behind(undone) == (3, "since-0", "since-2")
    assert "data" not in ((undone.replaced_events and undone.replaced_events.first) or {})
    assert service.append(drafts(1, "after")).last_sequence == 8
    assert service.status()["lastRestore"]["source"] == undone.source
    assert not leftovers(service.settings.storage_dir)


def test_what_the_newest_restores_replaced_stays_whatever_the_clock_said(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = []
    with running_service(settings_with({"KEEP_UNDO": "2"})) as service:
        service.append(drafts(1))
        name = service.create_backup().backup.name
        for prefix, days in (("first", 0), ("second", 300), ("third", 100), ("fourth", 200)):
            set_clock_back(monkeypatch, days)
            service.append(drafts(1, prefix))
            undo = service.restore(name).undo
            assert undo is not None
            replaced.append(undo.name)
        assert [entry.name for entry in service.list_undo()] == replaced[::-1]
        service.past._started_at -= 3600  # readers of before had their time
        service.create_backup()
        processes.wait_until(
            lambda: len(service.list_undo()) <= 2, "the backup does not drop what KEEP_UNDO does not keep"
        )

        assert [entry.name for entry in service.list_undo()] == replaced[:1:-1]
        service.undo()
        assert prefixes(service) == {"live": 1, "fourth": 1}


def test_an_undo_begins_a_generation_of_its_own(service: StoreService) -> None:
    restored = mistaken_restore(service)
    service.append(drafts(5, "since"))

    undone = service.undo()

    assert restored.undo is not None
    assert undone.generation not in (restored.generation, restored.undo.generation, None)
    with pytest.raises(GenerationSuperseded):
        service.scan(ScanQuery(after=9, generation=restored.generation))
    assert len(service.scan(ScanQuery(after=6, generation=restored.undo.generation)).events) == 1


def test_nothing_posted_since_is_nothing_left_behind(service: StoreService) -> None:
    mistaken_restore(service)

    assert left_behind(service.undo()) == (0, None, None)


def test_an_undo_can_be_undone_over_and_over(service: StoreService) -> None:
    mistaken_restore(service)
    service.append(drafts(3, "since"))
    before, restored = {"live": 5, "later": 2}, {"live": 5, "since": 3}

    for round_number in range(3):
        service.undo()
        assert prefixes(service) == before, round_number
        assert left_behind(service.undo()) == (0, None, None)
        assert prefixes(service) == restored, round_number
    assert len(service.list_undo()) == 1, "what was brought back is in the registry, and is not offered twice"


def test_what_an_earlier_restore_left_is_brought_back_by_its_name(service: StoreService) -> None:
    first = mistaken_restore(service).undo
    service.append(drafts(1, "between"))
    make_foreign_archive(service.settings.backup_dir / "foreign.tar.gz")
    service.restore("foreign.tar.gz")
    service.append(drafts(2, "since"))

    assert first is not None
    undone = service.undo(first.name)

    assert prefixes(service) == {"live": 5, "later": 2}
    assert left_behind(undone) == (5, "foreign-0", "since-1"), "nothing of an imported registry was there before"
    assert [entry.events for entry in service.list_undo()] == [5, 6]


def test_of_an_import_only_what_was_posted_since_counts_as_left_behind(service: StoreService) -> None:
    make_foreign_archive(service.settings.backup_dir / "foreign.tar.gz")
    service.restore("foreign.tar.gz")
    service.append(drafts(2, "since"))

    assert left_behind(service.undo()) == (2, "since-0", "since-1")
    assert prefixes(service) == {"live": 5}


def test_without_a_restore_there_is_nothing_to_undo(service: StoreService) -> None:
    with pytest.raises(NothingToUndo) as caught:
        service.undo()

    assert "restore" in caught.value.hint
    assert prefixes(service) == {"live": 5}


@pytest.mark.parametrize("name", ["previous-0000000000000000", "../event_registry_db", "", "previous-x/../../.."])
def test_what_is_not_kept_cannot_be_brought_back(service: StoreService, name: str) -> None:
    mistaken_restore(service)

    with pytest.raises(UndoNotFound):
        service.undo(name)
    assert prefixes(service) == {"live": 5}


@pytest.mark.parametrize("under_way", ["restore", "undo"])
def test_no_undo_while_a_restore_or_an_undo_is_under_way(service: StoreService, under_way: str) -> None:
    mistaken_restore(service)
    make_archive(service.settings.backup_dir / "a.tar.gz")
    work: Callable[[], Any] = (lambda: service.restore("a.tar.gz")) if under_way == "restore" else service.undo
    with waiting_chore(service) as reached:
        thread = threading.Thread(target=work)
        thread.start()
        assert reached.wait(60)
        with pytest.raises(RestoreRunning):
            service.undo()
    thread.join(60)

    assert prefixes(service) == ({"restored": 3} if under_way == "restore" else {"live": 5, "later": 2})


def test_the_same_request_that_is_sent_again_is_answered_and_not_done_again(service: StoreService) -> None:
    mistaken_restore(service)
    first = service.undo(operation=Operation("one"))
    service.append(drafts(1, "after"))

    assert service.undo(operation=Operation("one")) == first
    assert prefixes(service) == {"live": 5, "later": 2, "after": 1}


def test_what_is_kept_is_never_written_to(service: StoreService) -> None:
    undo = mistaken_restore(service).undo
    assert undo is not None
    folder = service.settings.storage_dir / undo.name
    before = bytes_of(folder)

    service.undo()
    service.append(drafts(50, "after"))
    service.create_backup()

    assert bytes_of(folder) == before


def test_the_tables_of_what_is_brought_back_are_hard_links(tmp_path: Path) -> None:
    make_database(tmp_path / "kept", events=50)
    with closing(open_leveldb(tmp_path / "kept")) as db:
        db.compact_range()

    copy_database(tmp_path / "kept", tmp_path / "copy")

    tables, copies = ({path.stat().st_ino for path in (tmp_path / name).glob("*.ldb")} for name in ("kept", "copy"))
    assert tables
    assert copies == tables


def test_what_is_kept_and_damaged_is_refused_and_touches_nothing(service: StoreService) -> None:
    undo = mistaken_restore(service).undo
    assert undo is not None
    (service.settings.storage_dir / undo.name / "CURRENT").unlink()

    with pytest.raises(ArchiveError, match=undo.name):
        service.undo()

    assert prefixes(service) == {"live": 5}
    assert service.append(drafts(1, "after")).last_sequence == 6
    assert not leftovers(service.settings.storage_dir)


def test_a_damaged_present_is_undone_too(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(5))
        mistaken_restore(service)
    (settings.database / "CURRENT").write_text("nonsense")

    with running_service(settings) as service:
        with pytest.raises(DatabaseDamaged):
            service.append(drafts(1))

        undone = service.undo()

        assert (undone.replaced_events, undone.undo) == (None, None), "neither could be read"
        assert prefixes(service) == {"live": 5, "later": 2}
        assert service.status()["status"] == "ok"
        with pytest.raises(NothingToUndo):
            service.undo()


def test_a_restart_forgets_nothing_of_it(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(5))
        mistaken_restore(service)
        service.append(drafts(1, "since"))
    with running_service(settings) as service:
        assert left_behind(service.undo()) == (1, "since-0", "since-0")
        assert prefixes(service) == {"live": 5, "later": 2}


def test_a_restore_at_the_start_of_the_service_is_undone_too(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(5))
    make_archive(settings.restore_dir / "a.tar.gz")
    with running_service(settings) as service:
        assert prefixes(service) == {"restored": 3}
        (entry,) = service.list_undo()
        assert (entry.events, entry.source) == (5, "a.tar.gz")

        service.undo()

        assert prefixes(service) == {"live": 5}


def test_a_restore_that_was_staged_leaves_nothing_until_it_is_applied(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(5))
        make_archive(settings.backup_dir / "a.tar.gz")
        assert service.restore("a.tar.gz", staged=True).undo is None
        assert service.list_undo() == []
        service.append(drafts(2, "later"))
    with running_service(settings) as service:
        service.append(drafts(1, "since"))

        assert left_behind(service.undo()) == (1, "since-0", "since-0")
        assert prefixes(service) == {"live": 5, "later": 2}


@pytest.mark.parametrize("notes", [None, b"", b"[{]"])
def test_without_the_notes_what_is_kept_is_brought_back_all_the_same(
    service: StoreService, notes: bytes | None
) -> None:
    mistaken_restore(service)
    service.append(drafts(1, "since"))
    noted = service.settings.storage_dir / data_folders.PREVIOUS_DATABASES
    noted.unlink()
    if notes is not None:
        noted.write_bytes(notes)

    assert left_behind(service.undo()) == (1, "since-0", "since-0")
    assert prefixes(service) == {"live": 5, "later": 2}


def test_what_is_brought_back_goes_with_the_next_good_backup(service: StoreService) -> None:
    undo = mistaken_restore(service).undo
    assert undo is not None
    service.undo()
    service.past._started_at -= 3600  # readers of before had their time
    service.past._last_used.clear()

    service.create_backup()

    assert not (service.settings.storage_dir / undo.name).exists()
    assert len(service.list_undo()) == 1


def test_a_reader_of_what_an_undo_left_behind_is_served_to_its_end(service: StoreService) -> None:
    mistaken_restore(service)
    service.append(drafts(3, "since"))
    first = service.scan(ScanQuery(limit=1))
    with service.lease_generation(first.generation):
        service.undo()
        query = ScanQuery(after=1, upto=first.last_sequence, generation=first.generation)
        rest = [orjson.loads(value)["id"] for value in service.scan(query).events]

    assert rest[-3:] == ["since-0", "since-1", "since-2"]
    assert "since-0" not in ids(service)


def test_a_kept_database_that_was_removed_by_hand_is_not_offered(service: StoreService) -> None:
    undo = mistaken_restore(service).undo
    assert undo is not None
    shutil.rmtree(service.settings.storage_dir / undo.name)

    assert service.list_undo() == []
    with pytest.raises(NothingToUndo):
        service.undo()


def shortened(folder: Path, upto: int) -> None:
    """As after a removal that was killed half-way: the database opens, but has fewer events."""
    with closing(open_leveldb(folder)) as db:
        cut(db, EventRegistry(db, folder), upto)


def test_a_kept_database_that_holds_less_than_was_left_is_refused(service: StoreService) -> None:
    undo = mistaken_restore(service).undo
    assert undo is not None
    shortened(service.settings.storage_dir / undo.name, 6)

    with pytest.raises(ArchiveError, match="6 events"):
        service.undo()
    with pytest.raises(DatabaseDamaged, match="6 events"):
        service.resolve_moment(Moment(generation=undo.generation))

    assert prefixes(service) == {"live": 5}
    assert not leftovers(service.settings.storage_dir)


def test_a_flipped_bit_in_a_table_of_what_is_kept_is_refused_and_touches_nothing(service: StoreService) -> None:
    service.append(drafts(300, "many", data={"text": "x" * 500}))
    undo = mistaken_restore(service).undo
    assert undo is not None
    folder = service.settings.storage_dir / undo.name
    with closing(open_leveldb(folder)) as db:
        db.compact_range()
    table = max(folder.glob("*.ldb"), key=lambda each: each.stat().st_size)
    flip(table, table.stat().st_size // 2)
    present = prefixes(service)

    with pytest.raises(ArchiveError, match=undo.name):
        service.undo()

    assert prefixes(service) == present
    assert not leftovers(service.settings.storage_dir)


def test_a_removal_of_what_is_kept_that_dies_half_way_leaves_nothing_to_bring_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings) as service:
        service.append(drafts(5))
        undo = mistaken_restore(service).undo
        assert undo is not None
        service.past._started_at -= 3600  # readers of before had their time
        service.past._last_used.clear()

        def dies(folder: Path) -> None:
            next(folder.iterdir()).unlink()
            raise OSError("killed")

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "rmtree", dies)
            with pytest.raises(OSError, match="killed"):
                service.previous.drop([undo.name])

        assert service.list_undo() == []
        assert not service.past.has(undo.generation)
    with running_service(settings):
        assert not leftovers(settings.storage_dir)
