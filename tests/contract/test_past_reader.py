"""What every PastReader promises."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import orjson
import pytest

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.errors import ExportNotFound, MomentUnavailable
from eventvault.past.values import CopyResult, DiffQuery
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.memory.store import MemoryStore
from eventvault.store.ports.store import Store
from tests.contract.events import drafts, ids
from tests.restoring import make_archive

pytestmark = pytest.mark.slow


def test_a_moment_of_the_past_is_read_as_it_was(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    instant = empty_store.append(drafts("b")).results[0].recorded
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("c"))
    old = empty_store.scan(ScanQuery()).generation
    empty_store.restore(name)
    empty_store.append(drafts("d"))

    for moment, there in {
        Moment(): ["a", "b", "d"],
        Moment(instant=instant): ["a", "b"],
        Moment(instant=clock.now(), generation=old): ["a", "b", "c"],
        Moment(sequence=1): ["a"],
        Moment(sequence=3, generation=old): ["a", "b", "c"],
        Moment(archive=name): ["a", "b"],
    }.items():
        view = empty_store.resolve_moment(moment)
        assert ids(empty_store, ScanQuery(generation=view.generation, upto=view.sequence)) == there, moment
        assert view.generation_id == (
            old if moment.archive or moment.generation else empty_store.scan(ScanQuery()).generation
        )
    for moment in (Moment(sequence=4), Moment(instant=2**55), Moment(instant=1), Moment(sequence=1, generation="x")):
        with pytest.raises(MomentUnavailable) as caught:
            empty_store.resolve_moment(moment)
        assert set(caught.value.details["window"]) == {"oldest", "newest"}


def test_two_generations_share_what_was_there_when_they_forked(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b"))
    name = empty_store.create_backup().backup.name
    found = []
    for event_id in ("c", "d"):
        empty_store.append(drafts(event_id))
        found.append(empty_store.scan(ScanQuery()).generation)
        empty_store.restore(name)
    present = empty_store.scan(ScanQuery()).generation

    assert empty_store.last_common(*found) == empty_store.last_common(found[1], found[0]) == 2
    assert empty_store.last_common(found[0], present) == empty_store.last_common(present, found[0]) == 2
    assert empty_store.last_common(found[0], "0" * 16) is empty_store.last_common("0" * 16, present) is None


def test_the_name_of_an_archives_copy_is_no_generation(empty_store: Store, settings: Settings, tmp_path: Path) -> None:
    empty_store.append(drafts("a-0"))
    archive = Path(empty_store.create_backup().backup.path)
    if not isinstance(empty_store, MemoryStore):  # a copy of its own would be proven
        archive = make_archive(tmp_path / "elsewhere.tar.gz", "a", 1)
    copy = settings.backup_dir / ".upload-1.tmp"
    shutil.copyfile(archive, copy)
    empty_store.adopt_upload(str(copy), "from-elsewhere.tar.gz")

    view = empty_store.resolve_moment(Moment(archive="from-elsewhere.tar.gz"))

    assert ids(empty_store, ScanQuery(generation=view.generation, upto=view.sequence)) == ["a-0"]
    assert view.generation_id != view.generation
    moment = Moment(sequence=1, generation=view.generation)
    for ask in (empty_store.resolve_moment, empty_store.restore_moment, empty_store.plan_restore):
        with pytest.raises(MomentUnavailable):
            ask(moment)


def test_what_two_moments_differ_in_is_read_page_by_page(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b"))

    page = empty_store.diff(
        DiffQuery(empty_store.resolve_moment(Moment(archive=name)), empty_store.resolve_moment(Moment()))
    )

    assert (page.only_one, page.only_other, page.different, page.next) == (0, 1, 0, None)


def test_events_of_the_past_are_copied_to_the_present_once(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b"))
    view = empty_store.resolve_moment(Moment())
    empty_store.restore(name)
    query = ScanQuery(generation=view.generation, upto=view.sequence)

    assert empty_store.copy_events_to_present(query) == CopyResult(2, 1, 1, 0, 2)
    assert empty_store.copy_events_to_present(query) == CopyResult(2, 0, 2, 0, 2)
    assert ids(empty_store) == ["a", "b"]


def test_an_export_is_a_file_of_the_events_at_a_moment(empty_store: Store) -> None:
    empty_store.append(drafts("a", "b"))
    moment = empty_store.resolve_moment(Moment())
    empty_store.append(drafts("c"))

    exported = empty_store.export_events(ScanQuery(generation=moment.generation, upto=moment.sequence))

    text = gzip.decompress(Path(empty_store.export_path(exported.operation)).read_bytes())
    assert [orjson.loads(line)["id"] for line in text.splitlines()] == ["a", "b"]
    assert (exported.events, exported.sequence, exported.generation) == (2, 2, moment.generation)
    empty_store.check_export(ScanQuery(generation=moment.generation, upto=moment.sequence))
    with pytest.raises(ExportNotFound):
        empty_store.export_path("0" * 16)


def test_an_export_of_a_superseded_generation_has_its_events(empty_store: Store) -> None:
    empty_store.append(drafts("a"))
    name = empty_store.create_backup().backup.name
    empty_store.append(drafts("b"))
    old = empty_store.resolve_moment(Moment())
    empty_store.restore(name)
    empty_store.append(drafts("c"))

    exported = empty_store.export_events(ScanQuery(generation=old.generation, upto=old.sequence))

    text = gzip.decompress(Path(empty_store.export_path(exported.operation)).read_bytes())
    assert [orjson.loads(line)["id"] for line in text.splitlines()] == ["a", "b"]
