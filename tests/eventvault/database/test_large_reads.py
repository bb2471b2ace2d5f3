"""Readers of large events take turns, and nobody waits while there is no such event."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from eventvault.database import large_reads, paging, registry
from eventvault.database.large_reads import LARGE_BYTES, LargeReads
from eventvault.database.paging import scan
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.database.values import ScanQuery
from eventvault.past import views
from eventvault.past.values import DiffQuery
from eventvault.restore.values import Moment
from eventvault.rpc import frames
from eventvault.settings import Settings
from eventvault.store.owners import event_log
from eventvault.store.rpc import server, wire
from eventvault.store.service import StoreService
from tests.restoring import drafts, make_database
from tests.stores import running_service

pytestmark = pytest.mark.slow

SECONDS = 30
WHILE = 0.2


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> LargeReads:
    """Stands in for those of this process, which may have met a large event before."""
    fresh = LargeReads()
    for module in (large_reads, paging, registry, event_log, views, server):
        monkeypatch.setattr(module, "LARGE_READS", fresh)
    return fresh


def take_turn(reads: LargeReads) -> None:
    with reads.turn():
        pass


def check(reads: LargeReads, *, in_turns: bool) -> None:
    """Check whether another thread waits while this one has the turn."""
    entered = threading.Event()

    def enter() -> None:
        with reads.turn():
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with reads.turn():
            other = pool.submit(enter)
            assert entered.wait(WHILE if in_turns else SECONDS) is not in_turns
        other.result(SECONDS)


def test_nobody_waits_before_a_large_event_was_met(reads: LargeReads) -> None:
    reads.note(LARGE_BYTES - 1)
    check(reads, in_turns=False)
    reads.note(LARGE_BYTES)
    reads.note(1)
    check(reads, in_turns=True)


def test_the_turn_of_an_answer_ends_with_it(reads: LargeReads) -> None:
    reads.note(LARGE_BYTES)
    with ThreadPoolExecutor(1) as pool:
        with reads.answering():
            with reads.turn():
                pass
            other = pool.submit(take_turn, reads)
            with pytest.raises(TimeoutError):
                other.result(WHILE)
        other.result(SECONDS)
    check(reads, in_turns=True)


def open_it(_events: EventRegistry) -> None:
    """The opening has read the newest event."""


@pytest.mark.parametrize("size", [1, LARGE_BYTES])
@pytest.mark.parametrize(
    "read",
    [
        open_it,
        lambda events: events.at(1),
        lambda events: events.get("restored-0"),
        lambda events: scan(events, ScanQuery()),
        lambda events: scan(events, ScanQuery(type="t", newest_first=True)),
    ],
    ids=["opening", "at", "get", "page", "filtered"],
)
def test_every_read_of_a_large_event_is_noted(
    read: Callable[[EventRegistry], object],
    size: int,
    reads: LargeReads,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    make_database(tmp_path / "db", events=1, data="x" * size)
    with closing(open_leveldb(tmp_path / "db")) as db:
        events = EventRegistry(db, tmp_path / "db")
        if read is not open_it:
            monkeypatch.setattr(reads, "_were_read", False)
        read(events)
    check(reads, in_turns=size == LARGE_BYTES)


@pytest.fixture
def store(reads: LargeReads, settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        service.append(drafts(1))
        yield service


def difference(store: StoreService) -> object:
    view = store.resolve_moment(Moment(sequence=1))
    return store.diff(DiffQuery(view, view))


@pytest.mark.parametrize(
    "read",
    [lambda store: store.scan(ScanQuery()), lambda store: store.get("live-0"), difference],
    ids=["page", "event", "difference"],
)
def test_a_store_with_large_events_reads_for_one_at_a_time(
    read: Callable[[StoreService], object], store: StoreService, reads: LargeReads
) -> None:
    reads.note(LARGE_BYTES)
    with ThreadPoolExecutor(1) as pool:
        with reads.turn():
            answer = pool.submit(read, store)
            with pytest.raises(TimeoutError):
                answer.result(WHILE)
        assert answer.result(SECONDS)


def test_an_answer_is_encoded_in_the_turn_of_its_events(
    store: StoreService, reads: LargeReads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reads.note(LARGE_BYTES)
    reply = wire.reply

    def encode(result: object) -> bytes:
        waiting.append(pool.submit(take_turn, reads))
        with pytest.raises(TimeoutError):
            waiting[0].result(WHILE)
        return reply(result)

    waiting: list[Future[None]] = []
    monkeypatch.setattr(wire, "reply", encode)
    serving = server.StoreServer(store, wire.StoreHello(wire.PROTOCOL, "", 1, "s", "service"), tmp_path)
    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor(1) as pool:
        serving._answer(there, wire.request("scan", ScanQuery()), object())
        assert wire.read_reply("scan", frames.receive(here)).last_sequence == 1
        waiting[0].result(SECONDS)
