"""Kafka's offsets in the journal: after a recovery, Kafka continues at the last journaled event, never after it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from eventvault.database import keys
from eventvault.database.registry import AppendBatch, EventRegistry
from eventvault.database.values import ScanQuery
from eventvault.journal import segment, writer
from eventvault.kafka import offsets
from eventvault.kafka.offsets import StoredOffset
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def recovering(settings_with: Callable[..., Settings]) -> Settings:
    """Segments are written when a test asks for it."""
    return settings_with({"JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true"})


@contextmanager
def quiet(settings: Settings) -> Iterator[StoreService]:
    """A service whose journal has written once by itself and is idle now."""
    with running_service(settings) as service:
        processes.wait_until(lambda: service.journal._surveyed > 0, "the journal did not begin")
        yield service


def take(service: StoreService, count: int, following: int) -> None:
    """Append events as the Kafka consumer does, with the offset after them."""
    note = offsets.offset_put("events", 0, StoredOffset(next=following))
    service.bus.committer.append(AppendBatch(drafts(count, f"at-{following}"), b"12345678", [note]))


def stands(service: StoreService) -> tuple[int, int | None]:
    """Return (last sequence, offset at which Kafka continues)."""
    with service.bus.using() as registry:
        stored = offsets.stored_by_topic(registry.scan_meta(keys.KAFKA)).get("events", {})
    return len(service.scan(ScanQuery(limit=1000)).events), stored[0].next if stored else None


def killed(service: StoreService) -> None:
    """Let the store end without the journal's last flush, as if it was killed."""
    service.journal.flush = lambda *_, **__: True  # type: ignore[method-assign]


def recovered(settings: Settings) -> tuple[int, int | None]:
    shutil.rmtree(settings.storage_dir)
    with running_service(settings) as service:
        standing = stands(service)
        killed(service)
    return standing


def test_what_is_committed_while_a_segment_is_written_is_taken_again(recovering: Settings) -> None:
    with quiet(recovering) as service:
        assert service.journal.flush()
        take(service, 10, 10)
        assert service.journal._writer.poll()
        take(service, 10, 20)
        assert service.journal._writer.write_next()
        killed(service)

    assert recovered(recovering) == (10, 10)


def test_a_write_that_only_the_database_knows_of_yet_is_taken_again(
    recovering: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quiet(recovering) as service:
        take(service, 10, 10)
        assert service.journal.flush()
        take(service, 1, 11)

        def look_at_it(registry: EventRegistry) -> None:
            """Run between LevelDB's write and the update of `last_sequence`."""
            assert service.journal.flush()

        monkeypatch.setattr(EventRegistry, "_sync_names", look_at_it)
        take(service, 10, 21)
        monkeypatch.undo()
        killed(service)

    assert recovered(recovering) == (11, 10)


def test_of_many_segments_the_last_one_has_the_offsets(recovering: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 1000)
    with quiet(recovering) as service:
        take(service, 2, 2)
        assert service.journal.flush()
        take(service, 50, 52)
        assert service.journal._writer.poll()
        while service.journal._writer.upto - service.journal._writer.holes[0][0] > 20:
            assert service.journal._writer.write_next()
        killed(service)
        found = service.journal.folder.segments()[0]
        assert found[-1].last > 20

    assert recovered(recovering) == (found[-1].last, 2)


def test_offsets_come_back_once_everything_is_journaled(recovering: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 1000)
    with quiet(recovering) as service:
        take(service, 50, 50)
        assert service.journal.flush()
        killed(service)

    assert recovered(recovering) == (50, 50)


def test_a_merge_keeps_the_newest_offsets(recovering: Settings) -> None:
    with quiet(recovering) as service:
        for number in range(1, 17):
            take(service, 1, number)
            assert service.journal.flush()
        newest = service.journal.folder.segments()[0][-1]
        without = msgspec.structs.replace(newest.header, kafka={})
        segment.write_segment(newest.path.parent, without, segment.read_lines(newest))
        assert service.journal.flush(survey=True)
        (merged,) = service.journal.folder.segments()[0]
        killed(service)
    assert merged.last == 16

    (recovering.backup_dir / "journal" / "registry.json").unlink()  # which would tell, too
    assert recovered(recovering) == (16, 15)
