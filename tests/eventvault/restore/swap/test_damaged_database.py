"""A restore to a moment with a damaged live database: the journal and the archives suffice."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import current_thread

import plyvel
import pytest

from eventvault.database import keys
from eventvault.database.registry import AppendBatch
from eventvault.errors import DatabaseDamaged, DiskFailed, NothingToUndo
from eventvault.events import event
from eventvault.kafka import offsets
from eventvault.kafka.offsets import StoredOffset
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from tests.eventvault.leveldb_errors import from_leveldb
from tests.restoring import drafts, live
from tests.stores import running_service

pytestmark = pytest.mark.slow

EVENTS = 300


@pytest.fixture
def quiet(settings_with: Callable[..., Settings]) -> Settings:
    """A service whose segments are written when a test says so."""
    return settings_with({"JOURNAL_INTERVAL": "3600000"})


def damage(database: Path) -> None:
    """Damage some events; LevelDB opens the database all the same."""
    table = max(database.glob("*.ldb"), key=lambda path: path.stat().st_size)
    content = bytearray(table.read_bytes())
    for position in range(len(content) // 5, len(content) // 2, 1000):
        content[position] ^= 255
    table.write_bytes(content)


def filled(settings: Settings) -> list[bytes]:
    """A registry whose events are in tables, and also in the journal."""
    with running_service(settings) as service:
        note = offsets.offset_put("events", 0, StoredOffset(next=5))
        service.bus.committer.append(AppendBatch(drafts(1, "from-kafka"), b"12345678", [note]))
        for number in range(3):
            service.append(drafts(EVENTS, f"{number}", data=random.Random(number).randbytes(300).hex()))
            assert service.journal.flush()
        service.bus._db.compact_range()
        with service.bus.using() as registry:
            return [line for _, line in registry.events(0, registry.last_sequence)]


@pytest.mark.parametrize("by", ["time", "sequence"])
def test_a_moment_comes_back_without_the_events_of_the_damaged_database(quiet: Settings, by: str) -> None:
    lines = filled(quiet)
    damage(quiet.database)
    upto = EVENTS + 1
    moment = Moment(instant=event.recorded_of(lines[upto - 1])) if by == "time" else Moment(sequence=upto)
    with running_service(quiet) as service:
        assert service.status()["store"]["state"] == "serving"
        with pytest.raises(DatabaseDamaged), service.bus.using() as registry:
            registry.at(len(lines) // 2)
        assert service.plan_restore(moment)["sequence"] == upto
        assert service.restore_moment(moment).events == upto
        assert live(service) == lines[:upto]
        assert service.status()["store"]["state"] == "serving"


def test_a_moment_comes_back_without_the_offsets_of_the_damaged_database(quiet: Settings) -> None:
    lines = filled(quiet)
    with running_service(quiet) as service:
        registry = service.bus.registry
        assert registry is not None
        read = registry.scan_meta

        def damaged(prefix: bytes) -> dict[bytes, bytes]:
            if prefix == keys.KAFKA:
                raise plyvel.CorruptionError("block checksum mismatch")
            return read(prefix)

        registry.scan_meta = damaged  # type: ignore[method-assign]

        restored = service.restore_moment(Moment(sequence=2))

        assert live(service) == lines[:2]
        assert [note for note in restored.notes if "Kafka's offsets" in note]


@pytest.mark.parametrize(
    ("good_reads", "what"), [(0, "reading .*event_registry_db failed"), (1, "reading Kafka's offsets failed")]
)
def test_a_disk_that_fails_at_the_offsets_refuses_the_moment_and_changes_nothing(
    quiet: Settings, good_reads: int, what: str
) -> None:
    lines = filled(quiet)
    with running_service(quiet) as service:
        registry = service.bus.registry
        assert registry is not None
        read, errors = registry.scan_meta, [from_leveldb(errno.EIO)]
        reads = count(1)

        def failing(prefix: bytes) -> dict[bytes, bytes]:
            if prefix == keys.KAFKA and current_thread().name != "journal" and next(reads) > good_reads and errors:
                raise errors[0]
            return read(prefix)

        registry.scan_meta = failing  # type: ignore[method-assign]
        with pytest.raises(DiskFailed, match=what):
            service.restore_moment(Moment(sequence=2))
        assert service.status()["store"]["state"] == "serving"
        assert live(service) == lines
        errors.clear()
        assert service.restore_moment(Moment(sequence=2)).events == 2


def test_an_undo_brings_back_what_the_newest_restore_left_or_nothing(quiet: Settings) -> None:
    with running_service(quiet) as service:
        service.append(drafts(3, "first"))
        name = service.create_backup().backup.name
        service.append(drafts(1, "left by the first restore"))
        service.restore(name)
        service.append(drafts(5, "months of work"))
        newer = service.create_backup().backup.name
    (quiet.database / "CURRENT").write_text("nonsense")
    with running_service(quiet) as service:
        assert service.restore(newer).undo is None
        before = live(service)

        with pytest.raises(NothingToUndo, match="newest restore") as caught:
            service.undo()

        assert live(service) == before
        (kept,) = service.list_undo()
        assert kept.name in caught.value.hint
        service.undo(kept.name)
        assert len(live(service)) == 4
