"""The quarantine in memory and on LevelDB: what comes in, pages, replays, drops and bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault.database import keys
from eventvault.database.nonces import Nonces
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.database.values import AppendResult
from eventvault.errors import InvalidInput, KafkaUnreachable, NoSpace, QuarantineChanged, QuarantinedNotFound
from eventvault.events.event import EventDraft
from eventvault.kafka.quarantine import LIMITS, Change, Quarantine, QuarantineLimits
from eventvault.kafka.quarantine_format import DeadLetter, read_checked
from eventvault.kafka.values import MessageContent, QuarantineFilter, Reference
from eventvault.store.memory.store import MemoryStore
from tests.quarantine import EVERYTHING, SENT, letter, message

EVENT = b'{"type": "order.created", "id": "1", "source": "/s"}'
LARGE = QuarantineLimits(bytes_of_one=100)


class OnLevelDB:
    """The database of a quarantine. failing: raised by the next write."""

    def __init__(self, folder: Path) -> None:
        create_database(folder)
        self._folder, self._nonces = folder, Nonces()
        self.failing: Exception | None = None
        self.open()

    def open(self) -> None:
        self._db = open_leveldb(self._folder)
        self.registry = EventRegistry(self._db, self._folder)

    def reopen(self) -> None:
        self.close()
        self.open()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def using(self) -> Iterator[Any]:
        yield self.registry

    def append(
        self, drafts: Sequence[EventDraft], changes: Sequence[Change], leaving: Sequence[Sequence[bytes]] = ()
    ) -> AppendResult:
        if self.failing is not None:
            raise self.failing
        (results,) = self.registry.append([AppendBatch(drafts, self._nonces.next(), changes, leaving=leaving)])
        return AppendResult(results, self.registry.last_sequence)


class InMemory(OnLevelDB):
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._rows = MemoryStore(folder).kafka_control.rows
        self.failing = None

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass

    @contextmanager
    def using(self) -> Iterator[Any]:
        yield self._rows

    def append(
        self, drafts: Sequence[EventDraft], changes: Sequence[Change], leaving: Sequence[Sequence[bytes]] = ()
    ) -> AppendResult:
        if self.failing is not None:
            raise self.failing
        return self._rows.append(drafts, changes, leaving)


class Kept:
    """A quarantine with its database. in_kafka: the messages that can be fetched."""

    def __init__(self, database: OnLevelDB, limits: QuarantineLimits) -> None:
        self.database = database
        self.in_kafka: dict[Reference, MessageContent] = {}
        self.quarantine = Quarantine(database.using, lambda: database.append, self._fetch, limits=limits)

    def add(self, *letters: DeadLetter) -> None:
        self.quarantine.add(letters, lambda changes: self.database.append((), changes))

    def drop(self, wanted: QuarantineFilter) -> int:
        return self.quarantine.drop(wanted, self.quarantine.select(wanted))

    def ids(self, wanted: QuarantineFilter = EVERYTHING) -> list[str]:
        return [entry.id for entry in self.quarantine.page(wanted, 100, None).messages]

    def outcomes(self, *ids: str, mode: Any = None) -> list[str]:
        return [result.outcome for result in self.quarantine.replay(ids, mode)]

    def _fetch(self, reference: Reference) -> MessageContent:
        if reference not in self.in_kafka:
            raise KafkaUnreachable("no broker answers", hint="wait")
        return self.in_kafka[reference]


Make = Callable[..., Kept]


@pytest.fixture(params=[InMemory, OnLevelDB])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    databases: list[OnLevelDB] = []

    def begin(limits: QuarantineLimits = LIMITS) -> Kept:
        databases.append(request.param(tmp_path / f"db-{len(databases)}"))
        return Kept(databases[-1], limits)

    yield begin
    for database in databases:
        database.close()


@pytest.fixture
def kept(make: Make) -> Kept:
    return make()


def test_a_message_is_shown_with_its_bytes_and_the_reason(kept: Kept) -> None:
    kept.add(letter(7, b"\xff\x00", reason="it is not JSON"))
    found = kept.quarantine.message("events/0@7")
    assert (found.entry.facts.reason, found.entry.facts.timestamp) == ("it is not JSON", SENT)
    assert (found.content.key, found.content.value) == (b"key", b"\xff\x00")
    assert found.content.headers == (("h", b"v"), ("bytes", b"\xff"))
    held = kept.quarantine.held()
    assert (held.count, held.oldest, held.totals.letters) == (1, found.entry.at, 1)


def test_a_list_has_the_newest_first_and_pages_join_without_a_gap(kept: Kept) -> None:
    for number in range(7):
        kept.add(letter(number, partition=number % 2))
    found, before = [], None
    while True:
        page = kept.quarantine.page(EVERYTHING, 3, before)
        found += [entry.offset for entry in page.messages]
        before = page.next
        if before is None:
            break
        kept.add(letter(100 + len(found)))
    assert found == [6, 5, 4, 3, 2, 1, 0]


def test_a_filter_is_by_topic_partition_and_a_text_of_the_reason(kept: Kept) -> None:
    kept.add(letter(1, reason="Not JSON"), letter(2, partition=1), letter(3, topic="other", reason="not json either"))
    assert kept.ids(QuarantineFilter(topic="events")) == ["events/1@2", "events/0@1"]
    assert kept.ids(QuarantineFilter(partition=1)) == ["events/1@2"]
    assert kept.ids(QuarantineFilter(reason="not JSON")) == ["other/0@3", "events/0@1"]
    assert kept.ids(QuarantineFilter(topic="other", partition=1)) == []


@pytest.mark.parametrize("before", ["", "x", "AAAA", "é", "A" * 44])
def test_a_position_that_no_page_had_is_refused(kept: Kept, before: str) -> None:
    with pytest.raises(InvalidInput):
        kept.quarantine.page(EVERYTHING, 3, before)


@pytest.mark.parametrize(
    "name", ["", "events", "events/0", "events/0@", "a/b/0@1", "e/0@1.70000", "e/9999999999@1", "é/0@1"]
)
def test_what_is_no_id_is_refused(kept: Kept, name: str) -> None:
    with pytest.raises(InvalidInput):
        kept.quarantine.message(name)
    with pytest.raises(QuarantinedNotFound):
        kept.quarantine.message("events/0@1")


def test_a_replay_appends_the_event_and_takes_the_message_out(kept: Kept) -> None:
    kept.add(letter(1, EVENT, headers=[("content-type", b"\xff")]), letter(2))
    assert kept.outcomes("events/0@1", "events/0@2", "events/0@3") == ["refused", "refused", "unknown"]
    (result,) = kept.quarantine.replay(["events/0@1"], "plain")
    assert (result.outcome, result.event_id, result.source, result.sequence) == ("replayed", "1", "/s", 1)
    assert kept.ids() == ["events/0@2"]
    with pytest.raises(QuarantinedNotFound):
        kept.quarantine.replay(["events/0@1"], "plain")
    assert kept.quarantine.held().count == 1


def test_a_replay_that_is_sent_again_after_it_took_effect_says_the_same(make: Make) -> None:
    kept, noted = make(), list[dict[str, tuple[str, str]]]()
    kept.add(letter(1, EVENT), letter(2))
    ids = ["events/0@1", "events/0@2", "events/0@3"]
    kept.quarantine.replay(ids, None, note=lambda begun: noted.append(dict(begun)))
    assert noted == [{"events/0@1": ("1", "/s")}]
    if isinstance(kept.database, InMemory):
        return  # it has no keys of events
    first, second, third = kept.quarantine.replay(ids, None, noted[-1])
    assert (first.outcome, first.sequence, second.outcome, third.outcome) == ("replayed", 1, "refused", "unknown")


def test_an_event_that_is_there_already_is_a_duplicate_and_leaves_the_list(kept: Kept) -> None:
    kept.add(letter(1, EVENT), letter(2, EVENT))
    assert kept.outcomes("events/0@1") == ["replayed"]
    assert kept.outcomes("events/0@2") == ["duplicate"]
    assert kept.ids() == []


def test_another_event_of_the_same_identity_stays_in_the_list_and_is_refused(kept: Kept) -> None:
    other = b'{"type": "order.cancelled", "id": "1", "source": "/s"}'
    kept.add(letter(1, EVENT), letter(2, other), letter(3, EVENT))
    first, second, third = kept.quarantine.replay(["events/0@1", "events/0@2", "events/0@3"], None)
    assert (first.outcome, second.outcome, third.outcome) == ("replayed", "refused", "duplicate")
    assert (second.reason, second.sequence) == ("the event 1 has its source and id, and other content", 1)
    assert kept.outcomes("events/0@2") == ["refused"]
    assert kept.ids() == ["events/0@2"]
    before = kept.quarantine.held()
    kept.database.reopen()
    assert kept.quarantine.held() == before
    assert kept.quarantine.message("events/0@2").content.value == other


def test_two_messages_of_one_replay_with_the_same_event_are_one_event(kept: Kept) -> None:
    kept.add(letter(1, EVENT), letter(2, EVENT))
    assert kept.outcomes("events/0@1", "events/0@2", "events/0@1") == ["replayed", "duplicate"]


def test_a_replay_in_binary_mode_takes_the_attributes_from_the_headers(kept: Kept) -> None:
    headers = [("content-type", b"application/cloudevents+json"), ("ce_type", b"t"), ("ce_id", b"i")]
    kept.add(letter(1, b"no JSON", headers=headers))
    assert kept.outcomes("events/0@1") == ["refused"]
    kept.add(letter(2, b"text", headers=[("ce_type", b"t"), ("ce_id", b"j"), ("content-type", b"text/plain")]))
    assert kept.outcomes("events/0@2", mode="binary") == ["replayed"]


def test_headers_that_the_client_could_not_read_stop_what_needs_them_alone(kept: Kept) -> None:
    kept.add(letter(1, EVENT, headers=[], problem="its headers cannot be read"))
    assert kept.outcomes("events/0@1") == kept.outcomes("events/0@1", mode="binary") == ["refused"]
    assert kept.outcomes("events/0@1", mode="structured") == ["replayed"]


def test_a_write_that_fails_changes_neither_the_list_nor_the_events(kept: Kept) -> None:
    kept.add(letter(1, EVENT))
    kept.database.failing = NoSpace("the disk is full", hint="free some")
    for change in (
        lambda: kept.quarantine.replay(["events/0@1"], None),
        lambda: kept.drop(EVERYTHING),
        lambda: kept.add(letter(2)),
    ):
        with pytest.raises(NoSpace):
            change()
    assert kept.ids() == ["events/0@1"]
    assert kept.quarantine.held().count == 1
    kept.database.failing = None
    assert kept.outcomes("events/0@1") == ["replayed"]


def test_how_much_there_is_can_be_asked_during_a_write_without_reading_the_list(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.add(letter(1))
    counts = []

    def append(changes: Sequence[Change]) -> AppendResult:
        with monkeypatch.context() as patched:
            patched.setattr("eventvault.kafka.quarantine.bytes_counted", None)
            counts.append(kept.quarantine.held().count)
        return kept.database.append((), changes)

    kept.quarantine.add([letter(2)], append)
    assert (counts, kept.quarantine.held().count) == ([1], 2)


def test_a_message_that_is_taken_again_is_in_the_list_once(kept: Kept) -> None:
    kept.add(letter(1), letter(2))
    kept.add(letter(1), letter(2), letter(3))
    assert kept.ids() == ["events/0@3", "events/0@2", "events/0@1"]
    held = kept.quarantine.held()
    assert (held.count, held.totals.letters) == (3, 3)


def test_another_message_at_the_same_place_has_an_id_of_its_own(kept: Kept) -> None:
    kept.add(letter(1, b"old"))
    kept.add(letter(1, b"of the topic made anew"))
    kept.add(letter(1, b"of the topic made anew"))
    assert kept.ids() == ["events/0@1.1", "events/0@1"]
    assert kept.quarantine.message("events/0@1").content.value == b"old"
    assert kept.quarantine.message("events/0@1.1").content.value == b"of the topic made anew"


def test_beyond_the_bound_the_oldest_leave_and_are_counted(make: Make) -> None:
    kept = make(QuarantineLimits(messages=3))
    for number in range(3):
        kept.add(letter(number))
    kept.add(letter(3), letter(4))
    assert kept.ids() == ["events/0@4", "events/0@3", "events/0@2"]
    kept.add(*(letter(10 + number) for number in range(5)))
    assert kept.ids() == ["events/0@14", "events/0@13", "events/0@12"]
    held = kept.quarantine.held()
    assert (held.count, held.totals.letters, held.totals.dropped) == (3, 10, 7)
    kept.database.reopen()
    assert kept.quarantine.held() == held


def test_the_bytes_of_all_have_a_bound_too(make: Make) -> None:
    kept = make(QuarantineLimits(bytes=10_000))
    for number in range(20):
        kept.add(letter(number, b"x" * 1_000))
    held = kept.quarantine.held()
    assert held.bytes <= 10_000
    assert (held.count, held.totals.dropped) == (len(kept.ids()), 20 - held.count)
    assert kept.ids()[0] == "events/0@19"
    kept.database.reopen()
    assert kept.quarantine.held() == held


def test_a_message_that_is_too_large_is_a_reference_and_is_fetched_for_a_replay(make: Make) -> None:
    kept = make(LARGE)
    large = message(5, EVENT + b" " * 200)
    reference = Reference("events.dead-letter", 0, 9)
    kept.add(DeadLetter(large, "it is not right", reference), letter(6, b"y" * 200))
    found = kept.quarantine.message("events/0@5")
    assert (found.entry.facts.reference, found.content.value) == (reference, None)
    assert found.entry.facts.size == len(large.value or b"") + 11
    assert kept.quarantine.message("events/0@6").entry.facts.reference == Reference("events", 0, 6)

    (away,) = kept.quarantine.replay(["events/0@5"], None)
    assert (away.outcome, away.reason) == ("refused", "no broker answers")
    kept.in_kafka[reference] = MessageContent(at=0, key=b"key", value=b"another one", headers=tuple(large.headers))
    (other,) = kept.quarantine.replay(["events/0@5"], None)
    assert other.outcome == "refused"
    assert "another message" in str(other.reason)
    kept.in_kafka[reference] = MessageContent(at=0, key=b"key", value=large.value, headers=tuple(large.headers))
    assert kept.outcomes("events/0@5") == ["replayed"]


def test_what_came_after_a_drop_was_decided_stays(kept: Kept) -> None:
    kept.add(letter(1), letter(2, partition=1))
    selection = kept.quarantine.select(QuarantineFilter(partition=0))
    assert selection.count == 1
    kept.add(letter(3))
    assert kept.quarantine.drop(QuarantineFilter(partition=0), selection) == 1
    assert kept.ids() == ["events/0@3", "events/1@2"]
    assert kept.drop(QuarantineFilter(ids=("events/1@2", "events/1@2", "events/0@9"))) == 1
    with pytest.raises(QuarantinedNotFound):
        kept.quarantine.select(QuarantineFilter(topic="other"))


def test_a_drop_by_a_filter_is_of_the_messages_that_were_seen(kept: Kept) -> None:
    kept.add(letter(1), letter(2, partition=1))
    seen = QuarantineFilter(partition=0, newest="events/0@1")
    kept.drop(QuarantineFilter(ids=("events/1@2",)))
    kept.add(letter(3))
    selection = kept.quarantine.select(seen)
    assert selection.count == 1
    assert kept.quarantine.drop(seen, selection) == 1
    assert kept.ids() == ["events/0@3"]
    with pytest.raises(QuarantineChanged, match="events/0@1"):
        kept.quarantine.select(seen)


def test_a_drop_is_of_the_generation_in_which_it_was_decided(kept: Kept) -> None:
    kept.add(letter(1))
    selection = msgspec.structs.replace(kept.quarantine.select(EVERYTHING), generation="f" * 16)
    with pytest.raises(QuarantineChanged, match="restored meanwhile"):
        kept.quarantine.drop(EVERYTHING, selection)
    assert kept.ids() == ["events/0@1"]


def test_a_clock_that_is_set_back_keeps_the_order_in_which_messages_came(make: Make) -> None:
    kept, times = make(), iter([500, 400, 300])
    kept.quarantine._now = lambda: next(times)
    for number in range(3):
        kept.add(letter(number))
    assert kept.ids() == ["events/0@2", "events/0@1", "events/0@0"]


def test_what_is_stored_passes_its_own_check(make: Make) -> None:
    kept = make(LARGE)
    kept.add(letter(1), letter(2, None), letter(3, b"x" * 500), letter(4, problem="its headers cannot be read"))
    with kept.database.using() as rows:  # noqa: SIM117 - the others are of its rows
        with rows.rows(keys.QUARANTINE_LIST, b"m") as listed, rows.rows(b"d", keys.EVENT) as contents:
            found = [place.id for place, _ in read_checked(listed, contents)]
    assert found == ["events/0@1", "events/0@2", "events/0@3", "events/0@4"]


@pytest.mark.slow
def test_a_message_with_very_many_headers_is_a_reference_too(kept: Kept) -> None:
    kept.add(letter(1, headers=[("a", b"")] * 600_000))
    assert kept.quarantine.message("events/0@1").entry.facts.reference == Reference("events", 0, 1)
    assert msgspec.msgpack.encode(kept.quarantine.message("events/0@1"))
