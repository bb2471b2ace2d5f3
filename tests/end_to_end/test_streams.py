"""Streams of the real service: what follows a post, a restore and a `kill -9`; behind nginx, and under `flask run`."""

from __future__ import annotations

import http.client
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests import processes
from tests.ports import free_port
from tests.schedule import series_seed
from tests.service import STOPPED_WITHIN, Service
from tests.sse import Following


@pytest.fixture(scope="module")
def shared(module_service: Callable[..., Service]) -> Service:
    return module_service(workers=2)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def post(service: Service, *ids: str, kind: str = "a") -> list[int]:
    answer = service.post("/api/events", [{"type": kind, "id": name, "source": "streams"} for name in ids])
    assert answer.status in (200, 201), answer.body
    return [result["sequence"] for result in answer.json()["results"]]


def test_each_worker_sends_what_was_posted_to_any(shared: Service, opened: ExitStack) -> None:
    streams = [opened.enter_context(Following(shared.port)) for _ in range(12)]
    (sequence,) = post(shared, "each-worker")
    for stream in streams:
        (message,) = stream.next(1)
        assert (message.kind, message.json()["sequence"], message.json()["id"]) == ("event", sequence, "each-worker")
        assert message.id.endswith(f":{sequence}")


def test_behind_nginx_an_event_arrives_while_the_stream_is_open(
    shared: Service, nginx: Callable[..., int], opened: ExitStack
) -> None:
    stream = opened.enter_context(Following(nginx(shared.port)))
    assert stream.status == 200
    for name in ("nginx-1", "nginx-2"):
        (sequence,) = post(shared, name)
        assert stream.next(1)[0].json()["sequence"] == sequence


def test_a_restore_is_announced_and_ids_of_the_superseded_future_go_on_from_the_fork(
    shared: Service, opened: ExitStack
) -> None:
    (fork,) = post(shared, "kept-1")
    name = shared.post("/api/backup/create").json()["name"]
    stream = opened.enter_context(Following(shared.port))
    post(shared, "superseded-1", "superseded-2")
    assert [message.json()["id"] for message in stream.next(2)] == ["superseded-1", "superseded-2"]
    superseded = stream.last_id

    assert shared.post("/api/backup/restore", {"backupName": name}).status == 200
    (restore,) = stream.next(1)
    present = shared.get("/api/health").json()["store"]["generation"]
    assert (restore.kind, restore.id) == ("restore", f"{present}:{fork}")
    assert restore.json() == {"generation": present, "forkSequence": fork, "kind": "backup"}
    post(shared, "after-1")
    assert stream.next(1)[0].json()["id"] == "after-1"

    back = opened.enter_context(Following(shared.port, last_id=superseded))
    again, event = back.next(2)
    assert (again.kind, again.json()) == ("restore", restore.json())
    assert (event.json()["id"], event.json()["sequence"]) == ("after-1", fork + 1)

    shared.post("/api/backup/undo")
    assert [message.json()["kind"] for message in (*stream.next(1), *back.next(1))] == ["undo", "undo"]
    assert back.next(2)[1].json()["id"] == "superseded-2", "an undo brings the future back"


class Collector(threading.Thread):
    """Follows as a browser does, which comes back whenever its stream ends, until the event `last` has come."""

    def __init__(self, port: int, query: str, last: str) -> None:
        super().__init__(daemon=True)
        self.sequences: list[int] = []
        self.kinds: set[str] = set()
        self._last = last
        self._stream = Following(port, f"/api/events/stream?{query}", timeout=60)

    def run(self) -> None:
        while not self._follow():
            with suppress(OSError, http.client.HTTPException):
                self._stream.connect()
        self._stream.close()

    def _follow(self) -> bool:
        """Read to the end of the stream; return whether the last event has come."""
        with suppress(OSError, http.client.HTTPException):
            for message in self._stream.messages():
                self.kinds.add(message.kind)
                self.sequences.append(message.json()["sequence"])
                if message.json()["id"] == self._last:
                    return True
        return False


def send(service: Service, name: str, kind: str) -> int:
    """Post until it is answered, as a client does that repeats a request with the same id."""
    found: list[int] = []

    def posted() -> bool:
        with suppress(OSError, http.client.HTTPException, AssertionError):
            found.extend(post(service, name, kind=kind))
        return bool(found)

    processes.wait_until(posted, "the post is not answered", 60)
    return found[0]


@pytest.mark.parametrize("victims", ["store", "store and worker"])
@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.soak)])
def test_nothing_is_lost_or_sent_twice_across_kills(service: Callable[..., Service], rounds: int, victims: str) -> None:
    numbers, running = random.Random(series_seed()), service(workers=2)
    begin = send(running, "begin", "a")
    queries = [(f"after={begin}", "end-b"), (f"type=a&after={begin}", "end-a"), (f"type=b&after={begin}", "end-b")]
    collectors = [Collector(running.port, query, last) for query, last in queries for _ in range(3)]
    for collector in collectors:
        collector.start()
    sent = {"a": [], "b": []}  # type: dict[str, list[int]]
    for number in range(rounds):
        for each in range(numbers.randrange(1, 8)):
            kind = numbers.choice("ab")
            sent[kind].append(send(running, f"{number}-{each}", kind))
        for pid in [*running.stores(), *(running.workers()[:1] if victims != "store" else [])]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for kind in "ab":
        sent[kind].append(send(running, f"end-{kind}", kind))
    for collector in collectors:
        collector.join(60)
        assert not collector.is_alive(), collector.sequences[-5:]

    wanted = {"end-b": sorted(sent["a"] + sent["b"]), "end-a": sent["a"]}
    by_query = [wanted["end-b"], wanted["end-a"], sent["b"]]
    for number, collector in enumerate(collectors):
        assert collector.sequences == by_query[number // 3]
        assert collector.kinds == {"event"}


def test_under_flask_run_a_stream_is_sent_too(service: Callable[..., Service], opened: ExitStack) -> None:
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "run", "--port", str(port)]
    running = service(command=command, port=port)
    stream = opened.enter_context(Following(running.port))
    assert stream.status == 200
    (sequence,) = post(running, "flask")
    assert stream.next(1)[0].json()["sequence"] == sequence
    running.process.terminate()
    running.process.wait(90)
    processes.kill(running.stores(), signal.SIGTERM)  # it would end by itself once its wait for a new event is over


def test_a_stop_of_the_service_ends_streams_at_once(service: Callable[..., Service], opened: ExitStack) -> None:
    running = service(workers=2)
    streams = [opened.enter_context(Following(running.port)) for _ in range(10)]
    post(running, "before")
    assert [stream.next(1)[0].json()["id"] for stream in streams] == ["before"] * 10
    began = time.monotonic()
    running.stop()
    assert [list(stream.messages()) for stream in streams] == [[]] * 10
    assert time.monotonic() - began < STOPPED_WITHIN
