"""The source of a stream of events on an in-memory store: every event once and in order, wherever it is read from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.streams import events, feed, shared_threads
from app.streams.events import EventSource
from app.streams.feed import EventFeed, Tail
from eventvault.database.values import Head, Page, ScanQuery
from eventvault.errors import StoreUnavailable
from eventvault.store.memory.store import MemoryStore
from tests.contract.events import drafts
from tests.processes import wait_until


class FlakyStore(MemoryStore):
    """away: how many calls still fail."""

    away = 0
    scans = 0

    def scan(self, query: ScanQuery) -> Page:
        self.scans += 1
        self._fail_if_away()
        return super().scan(query)

    def wait_for_events(self, seen: Head | None, seconds: float) -> Head:
        self._fail_if_away()
        return super().wait_for_events(seen, min(seconds, 0.2))

    def _fail_if_away(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("no store process answers")


@pytest.fixture
def store(tmp_path: Path) -> FlakyStore:
    return FlakyStore(tmp_path)


@pytest.fixture
def event_feed(store: FlakyStore, monkeypatch: pytest.MonkeyPatch) -> EventFeed:
    monkeypatch.setattr(shared_threads, "AGAIN_SECONDS", 0.01)
    return EventFeed(store)


class Reader:
    """Reads a source as a writer does."""

    def __init__(self, source: EventSource) -> None:
        self.source = source
        self.text = b""
        self._woken = threading.Event()
        source.start(self._woken.set)

    def read_until(self, text: bytes, seconds: float = 30) -> str:
        def found() -> bool:
            while piece := self.source.take():
                self.text += piece
            return text in self.text

        wait_until(found, f"{text!r} does not come", seconds)
        return self.text.decode()


@pytest.fixture
def following(store: FlakyStore, event_feed: EventFeed) -> Iterator[list[EventSource]]:
    sources: list[EventSource] = []
    yield sources
    for source in sources:
        source.close()


@pytest.fixture
def follow(store: FlakyStore, event_feed: EventFeed, following: list[EventSource]) -> type[Reader]:
    class Follow(Reader):
        def __init__(self, query: ScanQuery | None = None, reader: Head | None = None) -> None:
            following.append(EventSource(event_feed, query or ScanQuery(), store.resume(reader)))
            super().__init__(following[-1])

    return Follow


def ids(text: str) -> list[str]:
    return [line.rpartition(":")[2] for line in text.splitlines() if line.startswith("id: ")]


def test_new_events_come_as_messages(store: FlakyStore, follow: type[Reader]) -> None:
    store.append(drafts("before"))
    reader = follow()
    store.append(drafts("one"))
    text = reader.read_until(b'"one"')
    generation = store.resume(None).generation
    assert text.startswith(f"id: {generation}:2\nevent: event\ndata: {{")
    assert text.endswith('"}\n\n')
    assert ids(text) == ["2"]


@pytest.mark.slow
def test_a_reader_that_is_behind_gets_everything_in_order(
    store: FlakyStore, follow: type[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PAGE_EVENTS", 7)
    store.append(drafts(*map(str, range(100))))
    reader = follow(reader=Head(store.resume(None).generation, 0))
    store.append(drafts("end"))
    assert ids(reader.read_until(b'"end"')) == [str(number) for number in range(1, 102)]


def test_a_filter_holds_near_the_end_and_far_behind(
    store: FlakyStore, follow: type[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PAGE_EVENTS", 3)
    for number in range(20):
        store.append(drafts(f"old-{number}", type="a" if number % 5 == 0 else "b"))
    reader = follow(ScanQuery(type="a"), Head(store.resume(None).generation, 0))
    reader.read_until(b'"old-15"')
    store.append(drafts("new-b", type="b"))
    store.append(drafts("new-a", type="a"))
    text = reader.read_until(b'"new-a"')
    assert ids(text) == ["1", "6", "11", "16", "22"]


def test_a_comment_moves_the_position_on_that_a_filter_has_passed(store: FlakyStore, follow: type[Reader]) -> None:
    reader = follow(ScanQuery(type="none"))
    assert reader.source.comment() == b": still here\n\n"
    store.append(drafts("a"))
    wait_until(lambda: not reader.source.take() and reader.source.position.sequence == 1, "it does not move on")
    assert reader.source.comment() == b": still here\nid: %s:1\n\n" % store.resume(None).generation.encode()
    assert reader.source.comment() == b": still here\n\n"


def test_a_restore_is_told_once_and_what_follows_comes(store: FlakyStore, follow: type[Reader]) -> None:
    store.append(drafts("a", "b"))
    name = store.create_backup().backup.name
    reader = follow()
    store.append(drafts("c"))
    reader.read_until(b'"c"')
    store.restore(name)
    generation = store.resume(None).generation
    store.append(drafts("d"))
    text = reader.read_until(b'"d"')
    data = f'{{"generation":"{generation}","forkSequence":2,"kind":"backup"}}'
    assert text.count(f"id: {generation}:2\nevent: restore\ndata: {data}\n\n") == 1
    assert text.count("event: restore") == 1
    assert ids(text) == ["3", "2", "3"]


def test_nothing_is_lost_while_the_store_is_away(store: FlakyStore, follow: type[Reader]) -> None:
    reader = follow()
    for number in range(1, 6):
        store.away = 3
        store.append(drafts(str(number)))
    assert ids(reader.read_until(b'"id":"5"')) == ["1", "2", "3", "4", "5"]


def test_many_streams_cost_the_store_one_reader(store: FlakyStore, follow: type[Reader]) -> None:
    readers = [follow() for _ in range(40)]
    wait_until(lambda: readers[0].source._feed.tail is not None, "there is no tail")
    store.append(drafts("a"))
    for reader in readers:
        reader.read_until(b'"a"')
    assert store.scans == 1


def test_a_piece_ends_at_its_size(store: FlakyStore, follow: type[Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PIECE_BYTES", 1)
    store.append(drafts(*map(str, range(20))))
    reader = follow(reader=Head(store.resume(None).generation, 0))
    wait_until(reader.source.take, "nothing comes")
    assert reader.source.position.sequence == 1
    assert ids(reader.read_until(b'"id":"19"')) == [str(number) for number in range(2, 21)]


@pytest.mark.slow
def test_threads_end_with_the_last_stream(store: FlakyStore, event_feed: EventFeed) -> None:
    before = set(threading.enumerate())
    source = EventSource(event_feed, ScanQuery(), store.resume(None))
    source.start(lambda: None)
    started = set(threading.enumerate()) - before
    assert {thread.name for thread in started} == {"event tail", "event reader"}
    source.close()
    wait_until(lambda: not any(thread.is_alive() for thread in started), "a thread is still there")


def test_the_tail_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "TAIL_EVENTS", 3)
    monkeypatch.setattr(feed, "TAIL_BYTES", 10)
    tail = Tail("g", 5).extend([b"a", b"b", b"c", b"d"])
    assert tail == Tail("g", 6, (b"b", b"c", b"d"))
    assert tail.last == 9
    assert tail.extend([b"x" * 9]) == Tail("g", 8, (b"d", b"x" * 9))
    assert tail.extend([b"x" * 20]) == Tail("g", 10)
