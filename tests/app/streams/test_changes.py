"""The stream of changes: where the registry ends and the operations that run, then each change, joined and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from flask.testing import FlaskClient

from app.shared_answers import Question, SharedAnswers
from app.streams import changes, shared_threads
from app.streams.changes import ChangeFeed, ChangeSource
from eventvault.database.values import Head, ScanQuery
from eventvault.errors import OperationNotFound, StoreUnavailable
from eventvault.operations.entry import ENDED_VERSION, OperationEntry, OperationQuery
from eventvault.operations.operation import Progress
from eventvault.store.memory.store import MemoryStore
from tests.contract.events import drafts
from tests.processes import wait_until

RUNNING = OperationEntry(
    id="a" * 16, kind="create", method="create_backup", state="running", started_by="cron", started_at=0,
    progress=Progress(0.0, None, 0, None), version=1,
)  # fmt: skip


class ScriptedStore(MemoryStore):
    """entries: the operations. away: how many lists still fail."""

    entries: dict[str, OperationEntry]
    away = 0

    def list_operations(self, query: OperationQuery) -> list[OperationEntry]:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("no store process answers")
        found = [each for each in self.entries.values() if not query.states or each.state in query.states]
        return found[-query.limit :]

    def get_operation(self, operation_id: str) -> OperationEntry:
        if operation_id not in self.entries:
            raise OperationNotFound("there is no operation of this id")
        return self.entries[operation_id]

    def wait_for_events(self, seen: Head | None, seconds: float) -> Head:
        return super().wait_for_events(seen, min(seconds, 0.1))

    def put(self, name: str, **members: Any) -> None:
        before = self.entries.get(name, msgspec.structs.replace(RUNNING, id=name))
        self.entries[name] = msgspec.structs.replace(before, version=before.version + 1, **members)

    def end(self, name: str) -> None:
        self.entries[name] = msgspec.structs.replace(
            self.entries[name], version=ENDED_VERSION, state="succeeded", ended_at=1
        )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedStore:
    monkeypatch.setattr(changes, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(shared_threads, "AGAIN_SECONDS", 0.01)
    scripted = ScriptedStore(tmp_path)
    scripted.entries = {}
    return scripted


@pytest.fixture
def answers() -> SharedAnswers:
    return SharedAnswers(60.0)


@pytest.fixture
def begin(store: ScriptedStore, answers: SharedAnswers) -> Iterator[Callable[..., ChangeSource]]:
    started: list[ChangeSource] = []
    feed = ChangeFeed(store, answers)

    def start(*, may_read: bool = True, started_by: str | None = None) -> ChangeSource:
        source = ChangeSource(feed, described, started_by, has_events=may_read)
        started.append(source)
        source.start(lambda: None)
        return source

    yield start
    for source in started:
        source.close()


def described(entry: OperationEntry) -> dict[str, Any]:
    return {"id": entry.id, "state": entry.state, "by": entry.started_by}


def messages(text: bytes) -> list[tuple[str, Any]]:
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.decode().split("\n\n") if block]
    return [(block["event"], orjson.loads(block["data"])) for block in blocks]


def read_until(source: ChangeSource, condition: Callable[[list[tuple[str, Any]]], object]) -> list[tuple[str, Any]]:
    text = bytearray()

    def met() -> object:
        text.extend(source.take())
        return condition(messages(bytes(text)))

    wait_until(met, "it does not come")
    return messages(bytes(text))


def test_it_begins_with_where_the_registry_ends_and_what_runs(begin: Callable[..., ChangeSource]) -> None:
    first = begin().beginning(Head("86ad05ce70457cf8", 42), [RUNNING])
    assert messages(first) == [
        ("events", {"generation": "86ad05ce70457cf8", "lastSequence": 42}),
        ("operation", {"id": RUNNING.id, "state": "running", "by": "cron"}),
    ]


def test_who_hears_of_a_change_finds_it(
    store: ScriptedStore, begin: Callable[..., ChangeSource], answers: SharedAnswers
) -> None:
    state = ["running"]
    health = Question("health", lambda: state[0], str.encode, bytes.decode)
    source = begin()
    store.put("one")
    read_until(source, lambda found: [each for name, each in found if name == "operation"])
    assert answers.get(health) == "running"
    state[0] = "ended"
    store.end("one")
    read_until(source, lambda found: "succeeded" in [each.get("state") for _, each in found])
    assert answers.get(health) == "ended"
    state[0] = "an event from Kafka"
    assert answers.get(health) == "ended"
    store.append(drafts("a"))
    read_until(source, lambda found: [each for name, each in found if name == "events"])
    assert answers.get(health) == "an event from Kafka"


def test_each_operation_is_sent_while_it_runs_and_once_it_has_ended(
    store: ScriptedStore, begin: Callable[..., ChangeSource]
) -> None:
    source = begin()
    wait_until(lambda: source._feed._last_entries is not None, "nothing looks")
    store.put("one")
    read_until(source, lambda found: ("operation", {"id": "one", "state": "running", "by": "cron"}) in found)
    store.put("one", progress=Progress(0.5, "copy", 1, 2))
    read_until(source, len)
    for number in range(changes.NEWEST_OPERATIONS.limit + 5):  # so that the first one is among the newest no more
        store.put(f"later-{number}", state="succeeded", ended_at=1)
    store.end("one")
    found = read_until(
        source, lambda found: [each["state"] for _, each in found if each["id"] == "one"] == ["succeeded"]
    )
    assert any(each["id"].startswith("later-") for _, each in found), "one that ended between two looks is sent too"


def test_events_are_told_by_their_last_sequence_however_many_there_are(
    store: ScriptedStore, begin: Callable[..., ChangeSource]
) -> None:
    source = begin()
    store.append(drafts(*map(str, range(300))))
    found = read_until(source, lambda found: any(each.get("lastSequence") == 300 for _, each in found))
    assert len(found) < 10
    assert all(set(each) == {"generation", "lastSequence"} for kind, each in found if kind == "events")


def test_no_event_is_read_to_say_where_the_registry_ends(
    store: ScriptedStore, begin: Callable[..., ChangeSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[ScanQuery] = []
    scan = store.scan
    monkeypatch.setattr(store, "scan", lambda query: read.append(query) or scan(query))
    source = begin()
    for count in (1, 2):
        store.append(drafts(str(count)))
        read_until(source, lambda found, count=count: [each for _, each in found if each["lastSequence"] == count])
    assert not read


def test_a_stream_hears_of_no_generation_of_before_it_began(
    store: ScriptedStore, begin: Callable[..., ChangeSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "wait_for_events", lambda seen, seconds: Head("before", 5))
    first = begin()
    read_until(first, len)
    first.close()
    wait_until(lambda: not first._feed._threads._running, "the threads do not end")

    def refuse(seen: Head | None, seconds: float) -> Head:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "wait_for_events", refuse)
    second = begin()
    second.beginning(Head("after", 3), [])
    assert second.take() == b""


def test_a_token_that_may_not_read_gets_its_own_operations_and_no_events(
    store: ScriptedStore, begin: Callable[..., ChangeSource]
) -> None:
    source = begin(may_read=False, started_by="cron")
    wait_until(lambda: source._feed._last_entries is not None, "nothing looks")
    store.append(drafts("a", "b", "c"))
    store.put("other", started_by="somebody else")
    store.put("own")
    assert read_until(source, len) == [("operation", {"id": "own", "state": "running", "by": "cron"})]
    assert messages(source.beginning(Head("86ad05ce70457cf8", 3), [])) == []


def test_it_goes_on_after_a_store_that_was_away(store: ScriptedStore, begin: Callable[..., ChangeSource]) -> None:
    source = begin()
    wait_until(lambda: source._feed._last_entries is not None, "nothing looks")
    store.away = 5
    store.put("one")
    read_until(source, len)


def test_the_route_answers_with_the_stream(web: FlaskClient) -> None:
    web.post("/api/events", json={"type": "a"})
    answer = web.get("/api/changes/stream", buffered=False)
    pieces = answer.iter_encoded()
    assert b'"lastSequence":1' in next(pieces)
    assert (answer.content_type, answer.headers["X-Accel-Buffering"]) == ("text/event-stream", "no")
    answer.close()
    assert web.get("/api/changes/stream?after=1").status_code == 422
