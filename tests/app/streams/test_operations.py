"""The stream of an operation: as it is, each change, its end, and a store that takes over in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from flask.testing import FlaskClient

from app.shared_answers import Question, SharedAnswers
from app.streams import operations, shared_threads
from app.streams.operations import OperationFeed, OperationSource
from eventvault.errors import OperationNotFound
from eventvault.operations.entry import ENDED_VERSION, OperationEntry
from eventvault.operations.operation import Progress
from eventvault.store.memory.store import MemoryStore
from tests.processes import wait_until

RUNNING = OperationEntry(
    id="a" * 16, kind="create", method="create_backup", state="running", started_by="open", started_at=0,
    progress=Progress(0.0, None, 0, None), version=1,
)  # fmt: skip


class ScriptedStore(MemoryStore):
    """entry: what the store knows of the operation; None: nothing any more."""

    entry: OperationEntry | None = RUNNING

    def get_operation(self, operation_id: str) -> OperationEntry:
        if self.entry is None or operation_id != self.entry.id:
            raise OperationNotFound("there is no operation of this id")
        return self.entry

    def watch_operations(self, versions: dict[str, int], seconds: float) -> dict[str, OperationEntry]:
        return {name: self.get_operation(name) for name, version in versions.items()
                if self.get_operation(name).version != version}  # fmt: skip

    def change(self, **members: Any) -> None:
        assert self.entry is not None
        self.entry = msgspec.structs.replace(self.entry, version=self.entry.version + 1, **members)

    def end(self, state: str) -> None:
        assert self.entry is not None
        self.entry = msgspec.structs.replace(self.entry, version=ENDED_VERSION, state=state, ended_at=1)


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedStore:
    monkeypatch.setattr(operations, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(operations, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(shared_threads, "AGAIN_SECONDS", 0.01)
    return ScriptedStore(tmp_path)


@pytest.fixture
def answers() -> SharedAnswers:
    return SharedAnswers(60.0)


@pytest.fixture
def source(scripted: ScriptedStore, answers: SharedAnswers) -> Any:
    feed = OperationFeed(scripted, answers)
    made = OperationSource(feed, RUNNING, lambda entry: {"state": entry.state, "n": entry.version})
    made.start(lambda: None)
    yield made
    made.close()


def states(text: bytes) -> list[str]:
    return [orjson.loads(line[6:])["state"] for line in text.splitlines() if line.startswith(b"data: ")]


def read_until(source: OperationSource, condition: Callable[[bytes], object]) -> bytes:
    text = bytearray()

    def met() -> object:
        text.extend(source.take())
        return condition(bytes(text))

    wait_until(met, "it does not come")
    return bytes(text)


def test_an_operation_is_sent_as_it_is_and_with_each_change(scripted: ScriptedStore, source: OperationSource) -> None:
    assert source.take() == b'id: running\nevent: operation\ndata: {"state":"running","n":1}\n\n'
    assert source.take() == b""
    scripted.change(progress=Progress(0.5, "write", 1, 2))
    assert b'"n":2' in read_until(source, lambda text: b'"n":2' in text)
    assert not source.ended
    scripted.end("succeeded")
    assert states(read_until(source, lambda _: source.ended)) == ["succeeded"]


def test_who_hears_of_an_end_finds_what_it_changed(
    scripted: ScriptedStore, source: OperationSource, answers: SharedAnswers
) -> None:
    events = [553]
    health = Question("health", lambda: events[0], lambda count: b"%d" % count, int)
    read_until(source, lambda text: b"running" in text)
    assert answers.get(health) == 553
    events[0] = 558
    scripted.end("interrupted")
    read_until(source, lambda text: b"interrupted" in text)
    assert answers.get(health) == 558
    events[0] = 560
    scripted.change(state="running", ended_at=None)
    read_until(source, lambda text: b"running" in text)
    scripted.end("succeeded")
    read_until(source, lambda text: b"succeeded" in text)
    assert answers.get(health) == 560


@pytest.mark.slow
def test_a_store_that_takes_over_may_carry_an_interrupted_operation_on(
    scripted: ScriptedStore, source: OperationSource
) -> None:
    scripted.end("interrupted")
    read_until(source, lambda text: "interrupted" in states(text))
    assert not source.ended
    scripted.change(state="running", ended_at=None)
    read_until(source, lambda text: "running" in states(text))
    scripted.end("interrupted")
    assert states(read_until(source, lambda _: source.ended)) == ["interrupted"]


def test_a_stream_ends_with_the_record_of_its_operation(scripted: ScriptedStore, source: OperationSource) -> None:
    source.take()
    scripted.entry = None
    read_until(source, lambda _: source.ended)


def test_the_thread_ends_with_the_last_stream(scripted: ScriptedStore) -> None:
    before, feed = set(threading.enumerate()), OperationFeed(scripted, SharedAnswers())
    sources = [OperationSource(feed, RUNNING, lambda _: {}) for _ in range(2)]
    for source in sources:
        source.start(lambda: None)
    (thread,) = set(threading.enumerate()) - before
    sources[0].close()
    assert feed.entry(RUNNING.id) is not None
    sources[1].close()
    assert feed.entry(RUNNING.id) is None
    wait_until(lambda: not thread.is_alive(), "the thread is still there")


def test_a_stream_of_a_backup_ends_with_what_came_of_it(web: FlaskClient) -> None:
    begun = web.post("/api/backup/create?async=true")
    assert begun.status_code == 202, begun.json
    operation = begun.json["operation"]
    address = f"/api/operations/{operation['id']}/stream"
    text = web.get(address).get_data()
    last = orjson.loads(text.strip().splitlines()[-1][6:])
    assert (last["id"], last["state"], last["result"]["success"]) == (operation["id"], "succeeded", True)
    assert web.get(address, headers={"Last-Event-ID": "succeeded"}).status_code == 204
    assert web.get(address, headers={"Last-Event-ID": "running"}).get_data().endswith(b"\n\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["f" * 16, "x", "..%2Fclock", "a" * 70_000])
def test_a_stream_of_an_unknown_operation_is_not_found(web: FlaskClient, name: str) -> None:
    answer = web.get(f"/api/operations/{name}/stream")
    assert answer.status_code == 404
