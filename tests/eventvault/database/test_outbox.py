"""What waits in the outbox, by keys of many events and by keys of one event each, as they were written before."""

from __future__ import annotations

import json
import random
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from eventvault import clock
from eventvault.database import keys, outbox
from eventvault.database.generation import NO_BOUND
from eventvault.database.nonces import Nonces
from eventvault.database.outbox import Delivered, count_of, first_events, joined, sequences_of, within
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.events import event
from eventvault.restore.swap import unpublished
from eventvault.settings import Settings
from tests.eventvault.restore.test_unpublished import PUBLISHES, RESTORED, pending, post, publish_after_loss
from tests.publishing import Topic, assert_in_order, publish
from tests.service import PROJECT
from tests.stores import running_service

NONCES = Nonces()
FIXTURE = PROJECT / "tests" / "fixtures" / "outbox-of-single-keys"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())


def batch(
    registry: EventRegistry, count: int, *, from_kafka: bool = False, delivered: Delivered | None = None
) -> AppendBatch:
    names = (f"{registry.last_sequence}-{random.getrandbits(64)}" for _ in range(count))
    drafts = [event.draft({"type": "t", "id": name}, clock.now()) for name in names]
    return AppendBatch(drafts, NONCES.next(), from_kafka=from_kafka, delivered=delivered)


def waiting(registry: EventRegistry) -> list[int]:
    return list(registry.outbox.pending(0, registry.last_sequence))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_database(tmp_path / "event_registry_db")
    return tmp_path / "event_registry_db"


@pytest.fixture
def registry(folder: Path) -> Iterator[EventRegistry]:
    with closing(open_leveldb(folder)) as db:
        yield EventRegistry(db, folder, publishes=True)


def stored(registry: EventRegistry) -> dict[bytes, bytes]:
    return registry.scan_meta(keys.OUTBOX)


def test_consecutive_events_of_a_write_have_one_key(registry: EventRegistry) -> None:
    registry.append([batch(registry, 2), batch(registry, 3), batch(registry, 1, from_kafka=True), batch(registry, 1)])
    assert stored(registry) == dict([keys.outbox_put(1, 5), (keys.outbox_key(7), b"")])
    assert waiting(registry) == [1, 2, 3, 4, 5, 7]


def test_a_key_goes_once_its_last_event_is_published(registry: EventRegistry) -> None:
    registry.append([batch(registry, 4)])
    registry.append([batch(registry, 0, delivered=Delivered([], 3))])
    assert (waiting(registry), len(stored(registry))) == ([4], 1)
    registry.append([batch(registry, 0, delivered=Delivered([], 4))])
    assert (waiting(registry), len(stored(registry))) == ([], 0)
    assert registry.outbox.published(4) == 4


def test_how_many_wait_is_exact_though_the_same_is_removed_twice(registry: EventRegistry) -> None:
    """A publisher that ends does not hear of a removal that takes long, so the next one begins it again."""
    registry.outbox.note_count(0, 0, 0)
    registry.append([batch(registry, 4), batch(registry, 3)])
    again = Delivered([], 4)
    registry.append([batch(registry, 0, delivered=again), batch(registry, 0, delivered=again)])
    registry.append([batch(registry, 0, delivered=again), batch(registry, 0, delivered=Delivered([], 2))])
    assert registry.outbox.backlog == 3
    assert waiting(registry) == [5, 6, 7]


def test_a_message_that_is_removed_twice_counts_once(folder: Path) -> None:
    with closing(open_leveldb(folder)) as db:
        registry = EventRegistry(db, folder, publishes=True)
        registry.append([batch(registry, 2)])
        unpublished.put(db, [outbox.message_of(registry.at(1))])
        registry.outbox.note_count(3, 2, 0)
        (message,) = registry.outbox.message_keys(b"")
        for _ in range(2):
            registry.append([batch(registry, 0, delivered=Delivered([message], 1))])
        assert registry.outbox.backlog == 1


class Model:
    """An outbox and what is to wait in it, changed at random."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.waiting = set[int]()
        self.published = 0
        self._folder = folder
        self.open()

    def open(self) -> None:
        self.db = open_leveldb(self._folder)
        self.registry = EventRegistry(self.db, self._folder, publishes=True)
        self.registry.outbox.note_count(len(self.waiting), 0, 0)

    def reopen(self) -> None:
        self.db.close()
        self.open()

    def append(self) -> None:
        """With removals in the same write, of what was there before; some were removed already."""
        batches, last = list[AppendBatch](), self.registry.last_sequence
        for _ in range(self.chance.randint(1, 4)):
            count, from_kafka = self.chance.randint(0, 5), self.chance.random() < 0.3
            delivered = None
            if self.chance.random() < 0.3:
                delivered = Delivered([], self.chance.randint(0, self.registry.last_sequence))
                self.remove_upto(delivered.upto)
            batches.append(batch(self.registry, count, from_kafka=from_kafka, delivered=delivered))
            if not from_kafka:
                self.waiting |= set(range(last + 1, last + count + 1))
            last += count
        self.registry.append(batches)

    def append_as_before(self) -> None:
        """As earlier programs did: a key for each event."""
        first = self.registry.last_sequence + 1
        self.registry.append([batch(self.registry, 4, from_kafka=True)])
        for sequence in range(first, first + 4):
            self.db.put(keys.outbox_key(sequence), b"")
            self.waiting.add(sequence)
        self.reopen()

    def cut(self) -> None:
        upto = self.chance.randint(0, self.registry.last_sequence)
        write = self.db.write_batch()
        outbox.remove_after(self.db, write, upto)
        write.write()
        self.waiting -= set(range(upto + 1, self.registry.last_sequence + 1))
        self.published = min(self.published, upto)
        self.reopen()

    def note_published(self) -> None:
        upto = self.chance.randint(0, self.registry.last_sequence)
        outbox.note_published(self.db, upto)
        self.remove_upto(upto)
        self.reopen()

    def remove_upto(self, upto: int) -> None:
        self.published = max(self.published, upto)
        self.waiting -= set(range(upto + 1))

    def check(self) -> None:
        last, found = self.registry.last_sequence, self.registry.outbox
        assert waiting(self.registry) == sorted(self.waiting)
        assert found.upto == self.published
        assert found.backlog == len(self.waiting)
        after, upto = sorted((self.chance.randint(0, last), self.chance.randint(0, last)))
        part = [sequence for sequence in sorted(self.waiting) if after < sequence <= upto]
        runs = joined(found.runs(after, upto))
        assert list(sequences_of(runs)) == part
        assert all(first - before > 1 for (_, before), (first, _) in pairwise(runs))


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps", [pytest.param(150, id="short"), pytest.param(2000, id="long", marks=pytest.mark.soak)]
)
def test_whatever_happens_to_it_the_outbox_has_what_waits(folder: Path, steps: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    model = Model(folder, random.Random(seed))
    changes: list[Callable[[], None]] = [model.append] * 6
    changes += [model.reopen, model.append_as_before, model.cut, model.note_published]
    for _ in range(steps):
        model.chance.choice(changes)()
        model.check()
    model.db.close()


def test_keys_that_no_program_wrote_are_read_without_an_error_and_name_each_event_once(folder: Path) -> None:
    with closing(open_leveldb(folder)) as db:
        for key, value in (
            (keys.outbox_key(3), keys.pack_sequence(9)), (keys.outbox_key(6), keys.pack_sequence(2)),
            (keys.outbox_key(8), b"x" * 99), (keys.outbox_key(9), b"\x00"),
            (keys.OUTBOX + b"x", b""), (keys.outbox_key(2**64 - 1), b""),
        ):  # fmt: skip
            db.put(key, value)
        registry = EventRegistry(db, folder)
        assert list(registry.outbox.pending(0, 20)) == [3, 4, 5, 6, 8, 9]
        assert next(registry.outbox.pending(9, NO_BOUND)) == int.from_bytes(b"xx", "big")


def test_parts_of_runs() -> None:
    runs = [(1, 3), (4, 4), (7, 9)]
    assert list(within(runs, 1, 8)) == [(2, 3), (4, 4), (7, 8)]
    assert joined(runs) == [(1, 4), (7, 9)]
    assert joined(runs, apart=3) == [(1, 9)]
    assert list(first_events(runs, 5)) == [(1, 3), (4, 4), (7, 7)]
    assert list(first_events(runs, 0)) == []
    assert count_of(runs) == 7


@pytest.fixture
def earlier(settings_with: Callable[..., Settings], tmp_path: Path) -> Settings:
    """Of an installation whose outbox has a key for each event; make.py beside it wrote it with the program of then."""
    with tarfile.open(FIXTURE / "installation.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    return settings_with({"JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true", **PUBLISHES})


def posted_before() -> list[tuple[str, str]]:
    return [(name.partition(".")[0], name) for name in EXPECTED["waiting"]]


@pytest.mark.slow
def test_what_waited_under_the_program_before_is_published_by_this_one(earlier: Settings) -> None:
    topic = Topic()
    with running_service(earlier) as service:
        assert pending(service) == EXPECTED["waiting"]
        posted = posted_before() + post(service, "a.8", "b.8")
        publish(service.bus, topic, 1)
        service.bus.reopen()
        publish(service.bus, topic)
        assert pending(service) == []
    assert topic.ids == [*EXPECTED["waiting"], "a.8", "b.8"]
    assert_in_order(topic, posted)


@pytest.mark.slow
def test_an_archive_of_the_program_before_publishes_what_waited_and_nothing_else(earlier: Settings) -> None:
    topic = Topic()
    with running_service(earlier) as service:
        posted = posted_before() + post(service, "a.8")
        service.restore(EXPECTED["archive"])
        assert pending(service) == [*EXPECTED["beyondArchive"], "a.8", RESTORED, *EXPECTED["waitingInArchive"]]
        publish(service.bus, topic)
    assert_in_order(topic, posted)


@pytest.mark.slow
def test_after_a_loss_what_waited_under_the_program_before_is_published(earlier: Settings) -> None:
    topic = Topic()
    with running_service(earlier) as service:
        posted = posted_before() + post(service, "a.8")
        service.journal.flush()
    publish_after_loss(earlier, topic)
    assert_in_order(topic, posted)
