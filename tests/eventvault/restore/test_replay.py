"""A restore to a moment that reads Kafka's topics again: from the offsets of that moment, or from earlier ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault.backups.entry import BackupEntry
from eventvault.database import keys
from eventvault.database.generation import Generation
from eventvault.database.registry import AppendBatch
from eventvault.errors import DatabaseDamaged, InvalidInput
from eventvault.kafka import offsets
from eventvault.kafka.offsets import Offsets, StoredOffset
from eventvault.kafka.replayable import TopicBounds
from eventvault.restore.moments.build import MomentBuilder
from eventvault.restore.moments.offsets_of_moment import is_cut, read_again_from
from eventvault.restore.moments.plan import LIVE, Live, Plan, Sources, Target
from eventvault.restore.swap import carry_over
from eventvault.restore.swap import intent as intents
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, live
from tests.stores import running_service

pytestmark = pytest.mark.slow

ENVIRONMENT = {"JOURNAL_INTERVAL": "3600000", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}


@pytest.fixture
def settings(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with(ENVIRONMENT)


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    """A service whose segments are written when a test says so; no broker is asked."""
    with running_service(settings) as service:
        yield service


def take(service: StoreService, count: int, following: int, prefix: str = "e") -> None:
    """Append events with the offset behind them, and journal both."""
    note = offsets.offset_put("events", 0, StoredOffset(next=following, topic_id="T"))
    first = service.bus.registry.last_sequence  # type: ignore[union-attr]
    service.bus.committer.append(AppendBatch(drafts(count, f"{prefix}{first}"), b"12345678", [note]))
    assert service.journal.flush()


def following(service: StoreService) -> int | None:
    with service.bus.using() as registry:
        stored = offsets.stored_by_topic(registry.scan_meta(keys.KAFKA)).get("events", {})
    return stored[0].next if 0 in stored else None


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [(5, 50), (4, 20), (2, 20), (1, None), (9, 90)],
    ids=["at a segment", "behind one", "the first", "before all", "the present"],
)
@pytest.mark.parametrize("backup_after", [0, 2, 5, 9])
def test_the_offsets_are_those_of_the_moment_or_before(
    service: StoreService, sequence: int, expected: int | None, backup_after: int
) -> None:
    for count, behind in ((2, 20), (3, 50), (4, 90)):
        take(service, count, behind)
        if service.bus.registry.last_sequence == backup_after:  # type: ignore[union-attr]
            service.create_backup()
    restored = service.restore_moment(Moment(sequence=sequence), replay=True)
    assert restored.replay
    assert len(live(service)) == sequence
    assert following(service) == expected


def test_a_moment_before_an_archive_without_segments_is_read_from_the_beginning(service: StoreService) -> None:
    """The offsets in the archive are beyond the moment."""
    note = offsets.offset_put("events", 0, StoredOffset(next=50))
    service.bus.committer.append(AppendBatch(drafts(5, "e"), b"12345678", [note]))
    service.create_backup()
    service.restore_moment(Moment(sequence=3), replay=True)
    assert (len(live(service)), following(service)) == (3, None)


def test_what_comes_before_the_open_database_is_copied_is_read_again(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is not written: the open database alone has the newest events, and more when it is copied."""

    def append(count: int, behind: int) -> None:
        note = offsets.offset_put("events", 0, StoredOffset(next=behind, topic_id="T"))
        service.bus.committer.append(AppendBatch(drafts(count, f"e{behind}-"), b"12345678", [note]))

    copy = MomentBuilder._copy_live

    def copy_later(builder: MomentBuilder, staging: Path, live: Live) -> None:
        append(2, 90)
        copy(builder, staging, live)

    monkeypatch.setattr(MomentBuilder, "_copy_live", copy_later)
    take(service, 2, 20)
    monkeypatch.setattr(service.journal, "_write", lambda *_, **__: False)  # nor by its first round, which may be late
    append(3, 50)
    restored = service.restore_moment(Moment(sequence=5), replay=True)
    assert (restored.source, len(live(service)), following(service)) == (LIVE, 5, 20)


def test_the_offsets_of_an_archive_count_if_all_of_its_events_do() -> None:
    """One that was made before a fork has offsets of messages that are not in the other generation."""

    def is_cut_from(archive: int | None, base: int, sequence: int) -> bool:
        entry = BackupEntry(name="a", path="a", size=1, created=0, generation="one", sequence=archive)
        return is_cut(Plan(target=Target(generation="two", sequence=sequence), archive=entry, base=base), sequence)

    assert is_cut_from(archive=55, base=50, sequence=60)
    assert is_cut_from(archive=55, base=50, sequence=50)
    assert is_cut_from(archive=None, base=50, sequence=50)
    assert not is_cut_from(archive=50, base=50, sequence=60)


@pytest.mark.parametrize("replay", [False, True])
def test_what_a_restore_without_replay_left_out_does_not_come_again_with_a_later_one(
    service: StoreService, replay: bool
) -> None:
    """The segment behind the fork ends beyond the moment: only the generation tells where it began in Kafka."""
    for count, behind in ((2, 20), (3, 50), (4, 90)):
        take(service, count, behind)
    service.restore_moment(Moment(sequence=5), replay=replay)
    assert following(service) == (50 if replay else 90)
    take(service, 3, 99, "later")
    held_by(service, 0, 99)
    assert service.plan_restore(Moment(sequence=7), replay=True)["kafka"]["messages"] == (49 if replay else 9)
    service.restore_moment(Moment(sequence=7), replay=True)
    assert (len(live(service)), following(service)) == (7, 50 if replay else 90)


def test_what_came_again_since_the_offsets_were_lost_to_damage_comes_again_with_a_later_restore(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, behind in ((2, 20), (3, 50), (4, 90)):
        take(service, count, behind)
    monkeypatch.setattr(carry_over, "_carry_into", damaged)
    service.restore_moment(Moment(sequence=5))
    monkeypatch.undo()
    assert following(service) == 50
    take(service, 4, 90, "again")
    service.restore_moment(Moment(sequence=7), replay=True)
    assert (len(live(service)), following(service)) == (7, 50)


def damaged(*_: object) -> None:
    raise DatabaseDamaged("a block is damaged", hint="restore the newest backup")


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_staged_restore_to_which_nothing_was_carried_over_reads_again(settings: Settings, is_lost: bool) -> None:
    with running_service(settings) as service:
        for count, behind in ((2, 20), (3, 50), (4, 90)):
            take(service, count, behind)
        service.restore_moment(Moment(sequence=5), staged=True)
    if is_lost:
        shutil.rmtree(settings.database)
    else:
        (settings.database / "CURRENT").write_text("MANIFEST-999999\n")
    with running_service(settings) as service:
        assert (len(live(service)), following(service)) == (5, 50)
        take(service, 4, 90, "again")
        service.restore_moment(Moment(sequence=7), replay=True)
        assert (len(live(service)), following(service)) == (7, 50)


class Killed(BaseException):
    """The process ends here, for all that it does to its files."""


def test_a_database_that_is_damaged_after_a_kill_changes_nothing_of_what_was_carried_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restore was decided, with the offsets in the new database; the old one cannot be read a second time."""

    def killed(*_: object) -> None:
        raise Killed

    with running_service(settings) as service:
        for count, behind in ((2, 20), (3, 50), (4, 90)):
            take(service, count, behind)
        monkeypatch.setattr(intents, "swap_folders", killed)
        with pytest.raises(Killed):
            service.restore_moment(Moment(sequence=5))
    monkeypatch.undo()
    (settings.database / "CURRENT").write_text("MANIFEST-999999\n")
    with running_service(settings) as service:
        assert (len(live(service)), following(service)) == (5, 90)
        take(service, 4, 99, "later")
        service.restore_moment(Moment(sequence=7), replay=True)
        assert (len(live(service)), following(service)) == (7, 90)


def test_an_event_before_the_fork_is_of_the_generation_that_was_left(service: StoreService) -> None:
    for count, behind in ((2, 20), (3, 50), (4, 90)):
        take(service, count, behind)
    service.restore_moment(Moment(sequence=5))
    take(service, 1, 99, "later")
    service.restore_moment(Moment(sequence=5), replay=True)
    assert following(service) == 50


def test_an_archive_of_another_generation_says_nothing_of_the_moment(service: StoreService) -> None:
    """It has the same events, and the offsets that the restore before it kept."""
    for count, behind in ((2, 20), (3, 50), (4, 90)):
        take(service, count, behind)
    generation = service.status()["store"]["generation"]
    service.restore_moment(Moment(sequence=5))
    service.create_backup()
    service.restore_moment(Moment(sequence=7, generation=generation), replay=True)
    assert (len(live(service)), following(service)) == (7, 50)


def test_a_topic_that_was_made_anew_is_no_bound_for_the_earlier_one() -> None:
    sources = Sources({}, [], [])
    plan = Plan(target=Target(generation="one", sequence=5), base=5, archive=BackupEntry(
        name="a", path="a", size=1, created=0, generation="one", sequence=5,
    ))  # fmt: skip
    sources = msgspec.structs.replace(sources, generations={"one": Generation("one", None, 0, "created", 1)})
    based: Offsets = {"events": {"0": {"next": 50, "topicId": "T"}, "1": {"next": 7, "topicId": "T"}}}

    def begins(present: Offsets, archived: Offsets) -> dict[str, int]:
        found = read_again_from(plan, sources, 5, based=based, archived=archived, live=present)
        return {number: offset["next"] for number, offset in found["events"].items()}

    other: Offsets = {"events": {"0": {"next": 60, "topicId": "U"}, "1": {"next": 60, "topicId": None}}}
    assert begins(other, {}) == {"0": 0, "1": 7}
    assert begins(other, based) == {"0": 50, "1": 7}
    assert begins({}, {}) == {"0": 0, "1": 0}
    assert read_again_from(plan, sources, 5, based=based, archived={}, live=None) == based


def test_a_staged_restore_reads_again_after_the_restart(settings: Settings) -> None:
    with running_service(settings) as service:
        take(service, 2, 20)
        take(service, 3, 50)
        service.restore_moment(Moment(sequence=2), staged=True, replay=True)
        take(service, 4, 90)
    with running_service(settings) as service:
        assert (len(live(service)), following(service)) == (2, 20)
        service.undo()
        assert (len(live(service)), following(service)) == (9, 90)


def test_without_kafka_there_is_nothing_to_read_again(settings_with: Callable[..., Settings]) -> None:
    with running_service(settings_with({})) as service:
        service.append(drafts(3))
        assert service.plan_restore(Moment(sequence=2))["kafka"] is None
        for call in (service.plan_restore, service.restore_moment):
            with pytest.raises(InvalidInput, match="Kafka is not configured") as caught:
                call(Moment(sequence=2), replay=True)
            assert "replay" in caught.value.details["fields"]


def held_by(service: StoreService, begin: int, end: int, topic_id: str = "T") -> None:
    """Let the brokers hold these offsets of the topic."""
    service.broker_bounds.topics = lambda: ["events"]
    service.broker_bounds._ask = lambda _: {"events": TopicBounds(topic_id, {0: (begin, end)})}


@pytest.mark.parametrize(
    ("begin", "end", "topic_id", "expected"),
    [
        (0, 95, "T", {"messages": 45, "replayable": True}),
        (50, 95, "T", {"messages": 45, "replayable": True}),
        (60, 95, "T", {"messages": 35, "replayable": False}),
        (0, 40, "T", {"messages": 0, "replayable": False}),
        (0, 95, "U", {"messages": 45, "replayable": False}),
    ],
)
def test_the_plan_says_how_many_messages_come_again_and_whether_all_are_there(
    service: StoreService, begin: int, end: int, topic_id: str, expected: dict[str, Any]
) -> None:
    take(service, 2, 20)
    take(service, 3, 50)
    name = service.create_backup().backup.name
    take(service, 4, 90)
    held_by(service, begin, end, topic_id)
    assert service.plan_restore(name)["kafka"] == {"again": True, **expected}
    assert service.plan_restore(Moment(sequence=5), replay=True)["kafka"] == {"again": True, **expected}
    assert service.plan_restore(Moment(sequence=5))["kafka"] == {"again": False, **expected}
    (listed,) = service.list_backups()
    assert listed.kafka_replayable is expected["replayable"]
    assert service.backup_entry(name).kafka_replayable is expected["replayable"]
