"""The quarantine goes where Kafka's offsets go: through restarts, archives, moments, undo, and other installations."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from eventvault.database import keys
from eventvault.errors import ArchiveDamaged, QuarantineChanged
from eventvault.journal import dead_letters
from eventvault.kafka import quarantine_format
from eventvault.kafka.offsets import StoredOffset, offset_key, offset_put, stored_by_topic
from eventvault.kafka.quarantine import LIMITS, Quarantine, Selection
from eventvault.kafka.quarantine_format import MessagePlace
from eventvault.kafka.values import QuarantineFilter, Totals
from eventvault.operations.operation import Operation
from eventvault.restore.swap import carry_over
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.eventvault.kafka.test_quarantine import Kept, OnLevelDB
from tests.eventvault.restore.test_unproven import NAME, about, database, forged, pack
from tests.quarantine import ids_of, letter, take_letters
from tests.restoring import drafts
from tests.stores import running_service

__all__ = ["database"]


@pytest.fixture
def settings(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"JOURNAL_INTERVAL": "3600000", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        take_letters(service, letter(1), letter(2), drafts=drafts(2, "a"))
        yield service


def shown(service: StoreService) -> dict[str, Any]:
    kafka: dict[str, Any] = service.status()["kafka"]
    return {"deadLetters": kafka["deadLetters"], **kafka["quarantine"]}


@pytest.mark.slow
def test_the_counts_and_the_list_survive_a_restart(settings: Settings) -> None:
    with running_service(settings) as service:
        take_letters(service, letter(1), letter(2))
        service.drop_quarantined(QuarantineFilter(ids=("events/0@1",)))
        before = shown(service)
        assert (before["deadLetters"], before["count"], before["dropped"]) == (2, 1, 0)
    with running_service(settings) as service:
        assert (shown(service), ids_of(service)) == (before, ["events/0@2"])


@pytest.mark.slow
def test_health_names_what_waits_and_is_not_degraded_by_it(settings: Settings) -> None:
    with running_service(settings) as service:
        service.kafka._consumes = True
        assert [each["code"] for each in service.status()["problems"] if "quarantine" in each["code"]] == []
        take_letters(service, letter(1), letter(2))
        (problem,) = (each for each in service.status()["problems"] if each["code"] == "kafka_quarantine")
        assert problem["message"].startswith("2 messages from Kafka are not events")
        assert problem["details"]["oldest"] == shown(service)["oldest"]
        assert "flask kafka quarantine list" in problem["hint"]
        service.drop_quarantined(QuarantineFilter())
        assert [each["code"] for each in service.status()["problems"] if "quarantine" in each["code"]] == []


@pytest.mark.slow
def test_an_archive_brings_its_quarantine_and_the_plan_says_how_many_messages_leave(service: StoreService) -> None:
    name = service.create_backup().backup.name
    take_letters(service, letter(3), letter(5), letter(9, partition=1))
    service.drop_quarantined(QuarantineFilter(ids=("events/0@2",)))

    assert service.plan_restore(name)["quarantineLeaves"] == 3
    assert service.plan_restore(Moment(sequence=1))["quarantineLeaves"] == 0
    service.restore(name)

    assert ids_of(service) == ["events/0@2", "events/0@1"]
    assert shown(service)["count"] == shown(service)["deadLetters"] == 2
    take_letters(service, letter(3), letter(5))
    assert ids_of(service) == ["events/0@5", "events/0@3", "events/0@2", "events/0@1"]


@pytest.mark.slow
def test_an_undo_brings_back_the_quarantine_that_it_replaced(service: StoreService) -> None:
    name = service.create_backup().backup.name
    take_letters(service, letter(3))
    service.restore(name)
    service.undo()
    assert ids_of(service) == ["events/0@3", "events/0@2", "events/0@1"]
    assert shown(service)["count"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("archive", [True, False])
def test_a_moment_keeps_the_present_quarantine_as_it_keeps_the_offsets(service: StoreService, archive: bool) -> None:
    if archive:
        service.create_backup()
    take_letters(service, letter(3), letter(4), drafts=drafts(1, "b"))
    service.drop_quarantined(QuarantineFilter(ids=("events/0@1",)))
    before = shown(service)

    service.restore_moment(Moment(sequence=1))

    assert ids_of(service) == ["events/0@4", "events/0@3", "events/0@2"]
    assert shown(service) == before
    assert service.quarantined_message("events/0@4").content.value == letter(4).message.value


@pytest.mark.slow
@pytest.mark.parametrize("archive", [True, False])
def test_a_moment_from_which_kafka_is_read_again_keeps_the_quarantine(service: StoreService, archive: bool) -> None:
    """An archive before the moment lacks what came since, and its offsets may be behind that."""
    if archive:
        service.create_backup()
    take_letters(service, letter(3), drafts=drafts(1, "b"))
    assert service.journal.flush()
    take_letters(service, letter(5), drafts=drafts(1, "c"))

    service.restore_moment(Moment(sequence=3), replay=True)

    listed = ["events/0@5", "events/0@3", "events/0@2", "events/0@1"]
    assert ids_of(service) == listed
    take_letters(service, letter(5))
    assert ids_of(service) == listed
    assert shown(service)["count"] == shown(service)["deadLetters"] == 4


@pytest.mark.slow
def test_a_partition_that_is_read_from_its_beginning_keeps_its_dead_letters(service: StoreService) -> None:
    """Kafka may not have them any more. Nothing is known of an offset of it at the moment."""
    service.create_backup()
    take_letters(service, letter(3, partition=1), drafts=drafts(1, "b"))
    service.restore_moment(Moment(sequence=2), replay=True)
    with service.bus.using() as registry:
        assert 1 not in stored_by_topic(registry.scan_meta(keys.KAFKA))["events"]

    listed = ["events/1@3", "events/0@2", "events/0@1"]
    assert ids_of(service) == listed
    take_letters(service, letter(3, partition=1))
    assert ids_of(service) == listed
    assert shown(service)["count"] == shown(service)["deadLetters"] == 3


@pytest.mark.slow
def test_an_archive_that_is_not_proven_brings_such_dead_letters_too(service: StoreService, database: Any) -> None:
    forged(database, lambda db: (put_into(db, 4), db.delete(offset_key("events", 0))))
    pack(database, service.settings.backup_dir / NAME, about(database))
    service.restore(NAME)
    assert ids_of(service) == ["events/0@4"]


@pytest.mark.slow
def test_a_drop_that_a_restore_overtakes_drops_nothing(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    name = service.create_backup().backup.name
    select = Quarantine.select

    def restored_meanwhile(quarantine: Quarantine, wanted: QuarantineFilter) -> Selection:
        found = select(quarantine, wanted)
        service.restore(name)
        return found

    monkeypatch.setattr(Quarantine, "select", restored_meanwhile)
    with pytest.raises(QuarantineChanged, match="restored meanwhile"):
        service.drop_quarantined(QuarantineFilter())
    assert ids_of(service) == ["events/0@2", "events/0@1"]


@pytest.mark.slow
def test_a_drop_that_an_earlier_version_began_is_ended_or_refused(service: StoreService) -> None:
    """Its note has no generation: nobody knows whether what is in the list now is what was seen."""
    noted = {"drop": {"until": 2**53, "count": 2}}

    def drop_again() -> int:
        return service.drop_quarantined(QuarantineFilter(), operation=Operation(notes=noted))

    with pytest.raises(QuarantineChanged, match="an earlier version of EventVault began this drop"):
        drop_again()
    assert ids_of(service) == ["events/0@2", "events/0@1"]
    service.drop_quarantined(QuarantineFilter())
    assert drop_again() == 2


@pytest.mark.slow
def test_a_dead_letter_beyond_the_moment_is_counted_once_when_it_is_read_again(service: StoreService) -> None:
    """The archive has it, and more events than are used."""
    take_letters(service, letter(5), drafts=drafts(2, "b"))
    service.create_backup()
    service.restore_moment(Moment(sequence=3), replay=True)
    take_letters(service, letter(1), letter(2), letter(5))
    assert ids_of(service) == ["events/0@5", "events/0@2", "events/0@1"]
    assert shown(service)["count"] == shown(service)["deadLetters"] == 3


class Crashing:
    """A database that ends before a write. writes: how many it makes."""

    def __init__(self, db: Any, writes: int) -> None:
        self._db, self._writes = db, writes

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "delete", "write_batch"):
            if not self._writes:
                raise InterruptedError
            self._writes -= 1
        return getattr(self._db, name)


def test_a_crash_while_the_quarantine_is_carried_over_leaves_no_half_of_a_message(tmp_path: Path) -> None:
    live, staged = OnLevelDB(tmp_path / "live"), OnLevelDB(tmp_path / "staged")
    Kept(live, LIMITS).add(letter(2), letter(3), letter(4))
    kept = Kept(staged, LIMITS)
    kept.add(letter(1), letter(2, b"another one"))

    def half() -> list[str]:
        listed = {quarantine_format.content_key(key) for key in staged.registry.scan_meta(keys.QUARANTINE_LIST)}
        return sorted(map(repr, listed ^ staged.registry.scan_meta(keys.QUARANTINED).keys()))

    for writes in range(12):
        with suppress(InterruptedError):
            carry_over._carry_quarantine(Crashing(staged._db, writes), live.registry)
        assert half() == [], f"after {writes} writes"
    assert kept.ids() == ["events/0@4", "events/0@3", "events/0@2"]
    assert kept.quarantine.message("events/0@2").content.value == letter(2).message.value
    live.close()
    staged.close()


@pytest.mark.slow
def test_a_moment_of_an_earlier_generation_that_is_read_again_has_both_quarantines(service: StoreService) -> None:
    name = service.create_backup().backup.name
    generation = service.status()["store"]["generation"]
    take_letters(service, letter(3), drafts=drafts(1, "b"))
    service.create_backup()
    service.restore(name)
    take_letters(service, letter(1, partition=1), drafts=drafts(1, "c"))

    service.restore_moment(Moment(sequence=3, generation=generation), replay=True)

    assert ids_of(service) == ["events/1@1", "events/0@3", "events/0@2", "events/0@1"]
    assert shown(service)["deadLetters"] == shown(service)["count"] == 4


@pytest.mark.slow
def test_no_dead_letter_is_lost_between_the_base_and_a_moment_that_the_present_never_reached(
    service: StoreService,
) -> None:
    """Neither the archive has it nor the present database, which was restored from it and did not read so far."""
    name = service.create_backup().backup.name
    generation = service.status()["store"]["generation"]
    take_letters(service, letter(3), drafts=drafts(1, "b"))
    assert service.journal.flush()
    service.restore(name)
    moment = Moment(sequence=3, generation=generation)
    service.restore_moment(moment, replay=True)
    assert (service.status()["store"]["events"], next_offset(service)) == (3, 3)
    take_letters(service, letter(3))
    assert ids_of(service) == ["events/0@3", "events/0@2", "events/0@1"]
    assert shown(service)["count"] == shown(service)["deadLetters"] == 3


@pytest.mark.slow
def test_a_staged_moment_has_the_quarantine_of_the_restart(settings: Settings) -> None:
    with running_service(settings) as service:
        take_letters(service, letter(1), drafts=drafts(2, "a"))
        service.create_backup()
        service.restore_moment(Moment(sequence=1), staged=True)
        take_letters(service, letter(2))
        service.drop_quarantined(QuarantineFilter(ids=("events/0@1",)))
    with running_service(settings) as service:
        assert service.status()["store"]["events"] == 1
        assert ids_of(service) == ["events/0@2"]


def put_into(db: Any, *offsets: int) -> None:
    db.put(*offset_put("events", 0, StoredOffset(next=9)))
    for number, offset in enumerate(offsets):
        facts, content = quarantine_format.describe(letter(offset).message, "no type")
        for key, value in quarantine_format.key_values_of(
            MessagePlace("events", 0, offset), 5 + number, facts, content
        ):
            db.put(key, value)


@pytest.mark.slow
def test_an_archive_that_is_not_proven_brings_a_quarantine_that_was_checked(
    service: StoreService, database: Any
) -> None:
    forged(database, lambda db: put_into(db, 4, 6))
    pack(database, service.settings.backup_dir / NAME, about(database))
    assert service.plan_restore(NAME)["quarantineLeaves"] == 0

    service.restore(NAME)

    assert ids_of(service) == ["events/0@6", "events/0@4"]
    assert service.quarantined_message("events/0@6").content.key == b"key"
    assert shown(service)["deadLetters"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "forge",
    [
        lambda db: db.delete(MessagePlace("events", 0, 4).key),
        lambda db: db.put(keys.QUARANTINE_LIST + b"x", b"y"),
        lambda db: db.put(keys.QUARANTINED + b"x", b"y"),
        lambda db: db.put(MessagePlace("events", 0, 4).key, b"\xc1"),
        lambda db: db.put(MessagePlace("events", 3, 4).key, db.get(MessagePlace("events", 0, 4).key)),
    ],
)
def test_a_quarantine_that_eventvault_did_not_write_is_refused(
    forge: Callable[[Any], None], service: StoreService, database: Any
) -> None:
    forged(database, lambda db: (put_into(db, 4), forge(db)))
    pack(database, service.settings.backup_dir / NAME, about(database))
    with pytest.raises(ArchiveDamaged, match="quarantine"):
        service.restore(NAME)
    assert ids_of(service) == ["events/0@2", "events/0@1"]


@pytest.mark.slow
def test_a_replay_leaves_the_list_with_the_write_of_its_event(service: StoreService) -> None:
    take_letters(service, letter(7, b'{"type": "a", "id": "seven"}', headers=[]))
    (result,) = service.replay_quarantined(["events/0@7"])
    assert (result.outcome, result.event_id) == ("replayed", "seven")
    assert service.get("seven")
    assert shown(service)["count"] == 2


def test_totals_are_of_the_registry() -> None:
    assert quarantine_format.read_totals(quarantine_format.encoded_totals(Totals(3, 1))) == Totals(3, 1)
    assert quarantine_format.read_totals(None) == Totals()


@pytest.fixture
def recovering(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with(
        {"JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    )


@pytest.mark.slow
@pytest.mark.parametrize("archive", [True, False])
def test_a_lost_disk_costs_no_message_of_the_quarantine(recovering: Settings, archive: bool) -> None:
    with running_service(recovering) as service:
        take_letters(service, letter(1), drafts=drafts(2, "a"))
        if archive:
            service.create_backup()
        take_letters(service, letter(2, b"\xff"), letter(3))
        assert service.journal.flush()
        take_letters(service, letter(4))
        assert service.journal.flush()
        before = shown(service)
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        assert service.status()["store"]["events"] == 2
        assert ids_of(service) == ["events/0@4", "events/0@3", "events/0@2", "events/0@1"]
        assert service.quarantined_message("events/0@2").content.value == b"\xff"
        assert shown(service) == before
        assert next_offset(service) == 5


def next_offset(service: StoreService) -> int:
    with service.bus.using() as registry:
        return stored_by_topic(registry.scan_meta(keys.KAFKA))["events"][0].next


@pytest.mark.slow
def test_the_journal_never_has_an_offset_beyond_a_dead_letter_that_it_lacks(
    recovering: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(recovering) as service:
        take_letters(service, letter(1), drafts=drafts(1, "a"))
        assert service.journal.flush()
        monkeypatch.setattr(dead_letters, "durable_file", failing)
        take_letters(service, letter(2))
        assert not service.journal.flush()
        record = service.journal.folder.read_record()
        assert record is not None
        assert record.kafka["events"]["0"]["next"] == 2
        monkeypatch.undo()
        assert service.journal.flush()
        record = service.journal.folder.read_record()
        assert record is not None
        assert record.kafka["events"]["0"]["next"] == 3


def failing(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, "the disk failed")


@pytest.mark.slow
def test_an_old_copy_of_storage_gets_the_messages_that_it_lacks(recovering: Settings) -> None:
    copy = recovering.storage_dir.with_name("copy")
    with running_service(recovering) as service:
        take_letters(service, letter(1), drafts=drafts(1, "a"))
    shutil.copytree(recovering.database, copy)
    with running_service(recovering) as service:
        take_letters(service, letter(2), drafts=drafts(1, "b"))
        assert service.journal.flush()
    shutil.rmtree(recovering.database)
    copy.rename(recovering.database)
    with running_service(recovering) as service:
        assert service.status()["store"]["events"] == 2
        assert ids_of(service) == ["events/0@2", "events/0@1"]


def files(settings: Settings) -> list[Path]:
    return dead_letters.files_of(settings.backup_dir / "journal")


@pytest.mark.slow
def test_files_of_messages_that_left_the_list_are_removed_and_others_come_back(recovering: Settings) -> None:
    with running_service(recovering) as service:
        for number in range(1, 6):
            take_letters(service, letter(number), letter(10 + number))
            assert service.journal.flush()
        assert len(files(recovering)) == 5
        service.drop_quarantined(QuarantineFilter(ids=("events/0@1", "events/0@11", "events/0@12")))
        files(recovering)[-1].unlink()
        assert service.journal.flush(survey=True)
        installation = service.catalogue.installation
        held = [row[0] for path in files(recovering) for row in dead_letters.read(path, installation) or ()]
        with service.bus.using() as registry:
            assert set(held) >= set(registry.scan_meta(keys.QUARANTINE_LIST))
        assert len(files(recovering)) == 4
        service.drop_quarantined(QuarantineFilter())
        assert service.journal.flush(survey=True)
        assert files(recovering) == []


@pytest.mark.slow
def test_a_damaged_file_costs_no_recovery(recovering: Settings) -> None:
    with running_service(recovering) as service:
        take_letters(service, letter(1), drafts=drafts(1, "a"))
        assert service.journal.flush()
        take_letters(service, letter(2))
        assert service.journal.flush()
    first, _ = files(recovering)
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2] + bytes(9) + content[len(content) // 2 + 9 :])
    shutil.rmtree(recovering.storage_dir)
    with running_service(recovering) as service:
        assert (service.status()["store"]["events"], ids_of(service)) == (1, ["events/0@2"])


@pytest.mark.slow
def test_a_start_writes_no_message_twice(recovering: Settings) -> None:
    with running_service(recovering) as service:
        take_letters(service, letter(1), drafts=drafts(1, "a"))
        assert service.journal.flush()
    before = [(path, path.stat().st_ino) for path in files(recovering)]
    with running_service(recovering) as service:
        assert service.journal.flush()
        assert service.journal.flush(survey=True)
    assert [(path, path.stat().st_ino) for path in files(recovering)] == before
