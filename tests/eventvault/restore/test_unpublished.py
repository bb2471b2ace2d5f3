"""No restore and no recovery leaves an event unpublished that was acknowledged; copies publish nothing."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from eventvault import clock
from eventvault.database.generation import lineage
from eventvault.database.nonces import Nonces
from eventvault.database.registry import AppendBatch
from eventvault.events import event
from eventvault.events.event import EventDraft
from eventvault.journal import compaction
from eventvault.journal.segment import Segment
from eventvault.journal.writer import archived_prefix
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.publishing import Topic, assert_in_order, publish
from tests.stores import running_service

pytestmark = pytest.mark.slow

RESTORED = "eventvault.restored"
PUBLISHES = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_PUBLISH_TOPIC": "published"}
NONCES = Nonces()


@pytest.fixture
def settings(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true", **PUBLISHES})


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


def drafts(*names: str) -> list[EventDraft]:
    """Events whose subject is the beginning of their name, up to a dot."""
    return [event.draft({"type": "t", "id": name, "subject": name.partition(".")[0]}, clock.now()) for name in names]


def post(service: StoreService, *names: str) -> list[tuple[str, str]]:
    service.append(drafts(*names))
    return [(name.partition(".")[0], name) for name in names]


def take_from_kafka(service: StoreService, *names: str) -> None:
    service.bus.committer.append(AppendBatch(drafts(*names), NONCES.next(), from_kafka=True))


def publish_after_loss(settings: Settings, topic: Topic) -> None:
    """Lose STORAGE_DIR, start again, and publish what waits."""
    shutil.rmtree(settings.storage_dir)
    with running_service(settings) as service:
        publish(service.bus, topic)


def pending(service: StoreService) -> list[str]:
    """The ids of what waits, in order; a restore counts as its type."""
    topic = Topic()
    with service.bus.using() as registry:
        waiting = [body for _, body in registry.outbox.messages()]
        waiting += [registry.at(sequence) for sequence in registry.outbox.pending(0, registry.last_sequence)]
    assert not topic.messages
    events = [orjson.loads(body) for body in waiting]
    return [each["type"] if each["type"] == RESTORED else each["id"] for each in events]


def archived_segments(service: StoreService) -> list[Segment]:
    """What the journal would not have if an archive had been made before its round, and the store was killed then."""
    journal = service.journal
    with service.bus.using() as registry:
        identity = registry.identity
    archived = archived_prefix(journal._entries(), identity.by_id(), identity.generation)
    bounds = dict(lineage(identity.by_id(), identity.generation))
    segments = journal.folder.segments()[0]
    return [each for each in segments if each.last <= min(archived, bounds.get(each.generation, 0))]


def announcements(service: StoreService) -> set[str]:
    """The generations whose restores are still to be announced."""
    with service.bus.using() as registry:
        waiting = [orjson.loads(body) for _, body in registry.outbox.messages()]
    return {each["id"] for each in waiting if each["type"] == RESTORED}


def test_what_was_posted_waits_and_what_came_from_kafka_does_not(service: StoreService) -> None:
    post(service, "a.1")
    take_from_kafka(service, "k.1")
    post(service, "a.2", "a.1")
    assert pending(service) == ["a.1", "a.2"]


def test_a_moment_keeps_what_it_has_and_publishes_what_it_lacks_too(service: StoreService) -> None:
    topic, posted = Topic(), post(service, "a.1", "a.2", "a.3", "a.4")
    publish(service.bus, topic, 1)
    service.restore_moment(Moment(sequence=2))
    posted += post(service, "a.5")

    assert pending(service) == ["a.3", "a.4", RESTORED, "a.2", "a.5"]
    publish(service.bus, topic)
    assert_in_order(topic, posted)
    assert len(topic.messages) == 6
    assert pending(service) == []


def test_an_undo_publishes_what_was_posted_before_and_since(service: StoreService) -> None:
    topic, posted = Topic(), post(service, "a.1", "a.2")
    service.restore_moment(Moment(sequence=1))
    posted += post(service, "a.3")
    service.undo()
    posted += post(service, "a.4")
    publish(service.bus, topic)
    assert_in_order(topic, posted)
    assert [headers["ce_type"] for _, _, headers in topic.messages].count(RESTORED.encode()) == 2


def test_an_archive_publishes_nothing_again_that_was_published_since(service: StoreService) -> None:
    topic, posted = Topic(), post(service, "a.1", "a.2")
    name = service.create_backup().backup.name
    publish(service.bus, topic)
    posted += post(service, "a.3")
    service.restore(name)
    assert pending(service) == ["a.3", RESTORED]
    publish(service.bus, topic)
    assert_in_order(topic, posted)


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("merged", [False, True])
def test_a_lost_storage_publishes_what_is_not_known_to_be_published(
    settings: Settings, archive: bool, merged: bool
) -> None:
    topic = Topic()
    with running_service(settings) as service:
        posted = post(service, "a.1", "a.2", "b.1")
        service.journal.flush()
        if archive:
            service.create_backup()
        publish(service.bus, topic, 2)
        take_from_kafka(service, "k.1")
        posted += post(service, "a.3", "b.2")
        service.journal.flush(survey=True)
        if merged and len(service.journal.folder.segments()[0]) > 1:
            compaction.merge(service.journal.folder, service.journal.folder.segments()[0])
    shutil.rmtree(settings.storage_dir)
    with running_service(settings) as service:
        assert pending(service) == [RESTORED, "b.1", "a.3", "b.2"]
        publish(service.bus, topic)
    assert_in_order(topic, posted)


def test_what_an_earlier_restore_took_out_is_published_after_a_loss(settings: Settings) -> None:
    topic = Topic()
    with running_service(settings) as service:
        posted = post(service, "a.1", "a.2", "a.3")
        service.restore_moment(Moment(sequence=1))
        publish(service.bus, topic, 1)
        posted += post(service, "a.4")
        service.journal.flush(survey=True)
    publish_after_loss(settings, topic)
    assert_in_order(topic, posted)


@pytest.mark.parametrize("published", [0, 1])
def test_what_a_restore_took_out_is_published_after_a_loss_though_the_oldest_archive_has_it_too(
    settings: Settings, published: int
) -> None:
    topic = Topic()
    with running_service(settings) as service:
        posted = post(service, "a.1", "a.2", "a.3")
        service.journal.flush()
        service.create_backup()
        publish(service.bus, topic, published)
        service.journal.flush(survey=True)
        service.restore_moment(Moment(sequence=2))
        service.journal.flush(survey=True)
    publish_after_loss(settings, topic)
    assert_in_order(topic, posted)


def test_what_an_archive_held_before_the_journal_and_a_restore_took_out_is_published_after_a_loss(
    settings: Settings,
) -> None:
    topic = Topic()
    with running_service(settings) as service:
        posted = post(service, "a.1", "a.2", "a.3")
        service.create_backup()
        service.journal.folder.remove(archived_segments(service))
    with running_service(settings) as service:
        posted += post(service, "a.4")
        service.restore_moment(Moment(sequence=1))
        publish(service.bus, topic, 1)
        service.journal.flush(survey=True)
    publish_after_loss(settings, topic)
    assert_in_order(topic, posted)


def test_the_journal_writes_what_waits_and_an_archive_has_and_once_it_is_published_does_without_it(
    settings: Settings,
) -> None:
    def ranges() -> list[tuple[int, int]]:
        return [(source.first, source.last) for source in service.journal.folder.segments()[0]]

    with running_service(settings) as service:
        post(service, "a.1")
        publish(service.bus, Topic())
        post(service, "a.2")
        take_from_kafka(service, "k.1")
        post(service, "a.3")
        take_from_kafka(service, "k.2")
        service.create_backup()
        service.journal.flush(survey=True)
        service.journal.folder.remove(archived_segments(service))
        service.journal.flush(survey=True)
        assert ranges() == [(2, 4)]
        service.journal.flush(survey=True)
        assert ranges() == [(2, 4)]
        publish(service.bus, Topic())
        service.journal.flush(survey=True)
        assert ranges() == []
        service.journal.flush(survey=True)
        assert ranges() == []


def test_the_journal_does_without_a_segment_that_an_archive_has_once_all_of_it_is_published(settings: Settings) -> None:
    with running_service(settings) as service:
        post(service, "a.1", "a.2", "a.3")
        service.journal.flush()
        service.create_backup()
        service.journal.flush(survey=True)
        assert len(service.journal.folder.segments()[0]) == 1
        service.restore_moment(Moment(sequence=2))
        service.journal.flush(survey=True)
        assert len(service.journal.folder.segments()[0]) == 1
        publish(service.bus, Topic())
        service.journal.flush(survey=True)
        assert service.journal.folder.segments()[0] == []


def test_what_waits_though_no_event_is_in_the_registry_is_published_after_two_losses(settings: Settings) -> None:
    topic = Topic()
    with running_service(settings) as service:
        posted = post(service, "a.1", "a.2")
        service.journal.flush(survey=True)
        service.restore_moment(Moment(sequence=0))
        service.journal.flush(survey=True)
    shutil.rmtree(settings.storage_dir)
    with running_service(settings) as service:
        service.journal.flush(survey=True)
    publish_after_loss(settings, topic)
    assert_in_order(topic, posted)


def test_what_was_published_after_the_newest_event_is_known_after_a_loss(settings: Settings) -> None:
    topic = Topic()
    with running_service(settings) as service:
        post(service, "a.1", "a.2")
        service.journal.flush()
        publish(service.bus, topic)
        service.journal.flush()
    shutil.rmtree(settings.storage_dir)
    with running_service(settings) as service:
        assert pending(service) == [RESTORED]


def test_an_old_copy_of_the_database_publishes_what_the_journal_brings_back(settings: Settings) -> None:
    copy = settings.storage_dir.with_name("copy")
    with running_service(settings) as service:
        post(service, "a.1")
    shutil.copytree(settings.database, copy)
    with running_service(settings) as service:
        publish(service.bus, Topic())
        take_from_kafka(service, "k.1")
        post(service, "a.2")
        service.journal.flush(survey=True)
    shutil.rmtree(settings.database)
    copy.rename(settings.database)
    with running_service(settings) as service:
        assert pending(service) == ["a.1", "a.2"]


def test_a_rehearsal_and_a_look_at_the_past_change_nothing_of_what_waits(service: StoreService) -> None:
    post(service, "a.1", "a.2")
    service.create_backup()
    service.rehearse(Moment(sequence=1))
    assert service.resolve_moment(Moment(sequence=1))
    assert pending(service) == ["a.1", "a.2"]


def test_an_archive_that_is_not_proven_brings_nothing_to_publish(
    service: StoreService, settings_with: Callable[..., Settings], tmp_path: Path
) -> None:
    folders = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
    elsewhere = {name: str(tmp_path / "elsewhere" / folder) for name, folder in folders.items()}
    with running_service(settings_with({**elsewhere, **PUBLISHES})) as other:
        post(other, "x.1")
        made = other.create_backup().backup
        shutil.copy(other.settings.backup_dir / made.name, service.settings.backup_dir / "arrived.tar.gz")
    post(service, "a.1")
    assert not service.restore("arrived.tar.gz").proven
    assert pending(service) == ["a.1", RESTORED]


def test_with_the_setting_off_what_waits_stays_and_nothing_is_added(
    settings: Settings, settings_with: Callable[..., Settings]
) -> None:
    with running_service(settings) as service:
        post(service, "a.1", "a.2")
    off = settings_with({"JOURNAL_INTERVAL": "3600000"})
    with running_service(off) as service:
        post(service, "a.3")
        assert service.status()["kafka"] == {"configured": False}
        service.restore_moment(Moment(sequence=1))
        assert pending(service) == ["a.2", "a.1"]
    with running_service(settings) as service:
        post(service, "a.4")
        assert pending(service) == ["a.2", "a.1", "a.4"]


def test_turned_on_later_only_what_is_posted_from_then_on_is_published(
    settings: Settings, settings_with: Callable[..., Settings]
) -> None:
    with running_service(settings_with({})) as service:
        post(service, "a.1")
        made = service.create_backup().backup
    with running_service(settings) as service:
        post(service, "a.2")
        assert pending(service) == ["a.2"]
        service.restore(made.name)
        assert pending(service) == ["a.2", RESTORED]


class _Series:
    """A store to which everything happens, in an order that `chance` decides; each is acknowledged before the next."""

    def __init__(self, settings: Settings, chance: random.Random) -> None:
        self._settings = settings
        self._chance = chance
        self._open = ExitStack()
        self.service = self._open.enter_context(running_service(settings))
        self.topic = Topic()
        self.posted: list[tuple[str, str]] = []
        self.taken: list[str] = []
        self.announced: set[str] = set()
        """The generations whose restores are to be announced."""
        self.lost: set[str] = set()
        """Those whose announcements were lost, unless an archive that has them is restored."""

    def step(self) -> None:
        works = (
            self._post, self._post, self._post, self._take, self._publish, self._publish, self._flush, self._back_up,
            self._restore_moment, self._restore_archive, self._undo, self._lose, self._restart, self._kill,
        )  # fmt: skip
        self._chance.choice(works)()

    def end(self) -> None:
        publish(self.service.bus, self.topic)
        assert pending(self.service) == []
        self._open.close()

    def _names(self) -> list[str]:
        number = len(self.posted) + len(self.taken)
        return [f"{self._chance.choice('abc')}.{number + each}" for each in range(self._chance.randint(1, 4))]

    def _post(self) -> None:
        self.posted += post(self.service, *self._names())

    def _take(self) -> None:
        names = [f"k{name}" for name in self._names()]
        take_from_kafka(self.service, *names)
        self.taken += names

    def _publish(self) -> None:
        publish(self.service.bus, self.topic, self._chance.randint(0, 6))

    def _flush(self) -> None:
        self.service.journal.flush(survey=True)

    def _back_up(self) -> None:
        self.service.create_backup()

    def _restore_moment(self) -> None:
        last = self.service.status()["store"]["lastSequence"]
        self.service.restore_moment(Moment(sequence=self._chance.randint(0, last)))
        self._note_restore()

    def _restore_archive(self) -> None:
        names = [entry.name for entry in self.service.list_backups()]
        if names:
            self.service.restore(self._chance.choice(names))
            self._note_restore()

    def _undo(self) -> None:
        if self.service.list_undo():
            self.service.undo()
            self._note_restore()

    def _restart(self) -> None:
        self._open.close()
        self.service = self._open.enter_context(running_service(self._settings))

    def _kill(self) -> None:
        """Before the journal wrote what an archive had already."""
        folder, unwritten = self.service.journal.folder, archived_segments(self.service)
        self._open.close()
        folder.remove(unwritten)
        self.service = self._open.enter_context(running_service(self._settings))

    def _lose(self) -> None:
        self._flush()
        waiting = announcements(self.service)
        self._open.close()
        shutil.rmtree(self._settings.storage_dir)
        self.service = self._open.enter_context(running_service(self._settings))
        self.lost |= waiting - announcements(self.service) - set(self.topic.ids)
        self.announced -= self.lost
        if self.service.status()["lastRestore"] is not None:  # a registry that had nothing yet begins anew
            self._note_restore()

    def _note_restore(self) -> None:
        self.announced.add(self.service.status()["store"]["generation"])


def _run(settings: Settings, seed: int, steps: int) -> None:
    print(f"seed {seed}")
    series = _Series(settings, random.Random(seed))
    for _ in range(steps):
        series.step()
    series.end()
    assert_in_order(series.topic, series.posted)
    assert not set(series.taken) & set(series.topic.ids)
    types = [headers["ce_type"].decode() for _, _, headers in series.topic.messages]
    names = {name for name, kind in zip(series.topic.ids, types, strict=True) if kind == RESTORED}
    assert series.announced <= names <= series.announced | series.lost


def test_whatever_happens_each_acknowledged_event_is_published_in_order(settings: Settings) -> None:
    _run(settings, random.randrange(2**32), 25)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(50))
def test_a_long_series_of_restores_and_losses(settings: Settings, number: int) -> None:
    _run(settings, random.randrange(2**32), 100)
