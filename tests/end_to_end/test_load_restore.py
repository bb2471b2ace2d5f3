"""A restore while the service is busy: nobody is refused for long, nobody sees a mixture."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.crash.load import AWAY, check_history, exported, loading
from tests.held_chores import HeldChores
from tests.service import Service


def fill(running: Service, name: str, count: int, size: int = 200) -> None:
    for begin in range(0, count, 500):
        batch = [
            {"type": "filling", "id": f"{name}-{number}", "data": "x" * size}
            for number in range(begin, min(begin + 500, count))
        ]
        assert running.post("/api/events", batch).status == 201


def backup(running: Service) -> dict[str, Any]:
    reply = running.post("/api/backup/create", {})
    assert reply.status == 200, reply.body
    return reply.json()


def restore(running: Service, name: str) -> None:
    reply = running.post("/api/backup/restore", {"backupName": name})
    assert reply.status == 200, reply.body


@pytest.mark.parametrize("rounds", [pytest.param(2, id="short"), pytest.param(15, id="long", marks=pytest.mark.soak)])
def test_a_restore_under_load_is_seen_by_every_worker_and_refuses_nobody_for_good(
    service: Callable[..., Service], rounds: int
) -> None:
    running = service(workers=3)
    fill(running, "before", 500)
    made = backup(running)
    fill(running, "left-behind", 500)
    with loading(running.port, writers=6, name="load") as load:
        for _ in range(rounds):
            restore(running, made["name"])
            load.advance(1)  # what was under way at the swap is over
            there = dict(load.acknowledged)
            load.advance()
    assert all(trouble.startswith(AWAY) for trouble in load.troubles)
    since = {event_id: sequence for event_id, sequence in load.acknowledged.items() if event_id not in there}
    assert since
    events = exported(running.port)
    check_history(events, since)
    assert [event["id"] for event in events[:500]] == [f"before-{number}" for number in range(500)]
    generation = running.get("/api/health").json()["store"]["generation"]
    for worker in running.workers():
        other = [pid for pid in running.workers() if pid != worker]
        with stopped(other):
            assert running.get("/api/events/left-behind-1").status == 404
            assert running.get("/api/health").json()["store"]["generation"] == generation
            assert len(exported(running.port)) == len(events)


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


MORE_THAN_SOCKETS_HOLD = 8 * 2**20


class SlowExport:
    """An export of which little is read: the service waits for its reader, unless that takes nothing for 30 s."""

    def __init__(self, running: Service) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=120)
        self._connection.sock = socket.socket()
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._connection.sock.settimeout(120)
        self._connection.sock.connect(("127.0.0.1", running.port))
        self._connection.request("GET", "/api/events/export")
        self._answer = self._connection.getresponse()
        self._taken = b""

    def take_some(self) -> None:
        self._taken += self._answer.read(10_000)

    def rest(self) -> list[dict[str, Any]]:
        with self._connection.sock:
            rest = self._answer.read()
            assert len(rest) > MORE_THAN_SOCKETS_HOLD, "it was under way"
            return [json.loads(line) for line in (self._taken + rest).splitlines()]


def test_exports_under_way_end_whole_with_the_state_they_began_with(service: Callable[..., Service]) -> None:
    running = service()
    fill(running, "common", 500, size=6000)
    made = backup(running)
    fill(running, "old", 2000, size=6000)
    before = exported(running.port)
    slow = [SlowExport(running) for _ in range(3)]
    with processes.repeated(lambda: [export.take_some() for export in slow], 1.0):
        restore(running, made["name"])
        fill(running, "new", 1000, size=6000)
        backup(running)  # what was left behind goes with the next backup, but for those who still read it
        os.kill(running.stores()[0], signal.SIGKILL)
        running.wait_until_ready()
        backup(running)
    with ThreadPoolExecutor(3) as pool:
        for events in pool.map(SlowExport.rest, slow):
            assert events == before
    now = exported(running.port)
    assert [event["id"] for event in now[500:]] == [f"new-{number}" for number in range(1000)]


def test_a_cursor_goes_on_in_what_both_states_share_and_is_refused_beyond(service: Callable[..., Service]) -> None:
    running = service(workers=1)
    fill(running, "common", 300)
    made = backup(running)
    fill(running, "old", 300)
    shared = running.get("/api/events?limit=200").json()
    beyond = running.get("/api/events?limit=400").json()
    restore(running, made["name"])
    fill(running, "new", 300)
    going_on = running.get(f"/api/events?limit=1000&after={shared['next']}").json()
    assert [event["sequence"] for event in going_on["events"]] == list(range(201, 601))
    assert not [event for event in going_on["events"] if event["id"].startswith("old")]
    refused = running.get(f"/api/events?limit=10&after={beyond['next']}")
    assert refused.status == 409
    assert refused.json()["code"] == "generation_left_behind"


TIMEOUT = 10
"""Seconds; with less, gunicorn kills workers that a busy machine does not let start in time."""
PATIENT = ["--timeout", str(TIMEOUT)]


def outlast_the_timeout() -> None:
    """gunicorn looks at its workers each second, and kills those that were silent for TIMEOUT seconds."""
    until = time.monotonic() + TIMEOUT + 2
    processes.wait_until(lambda: time.monotonic() > until, "time stands still")


def test_a_restore_that_takes_longer_than_gunicorns_timeout_works(
    service: Callable[..., Service], tmp_path: Path
) -> None:
    chores = HeldChores(tmp_path)
    running = service(arguments=PATIENT, environment=chores.environment, command=chores.command)
    fill(running, "before", 2000)
    made = backup(running)
    fill(running, "after", 10)
    workers = set(running.workers())
    statuses: list[int] = []
    request = threading.Thread(target=lambda: statuses.append(
        running.post("/api/backup/restore", {"backupName": made["name"]}).status
    ))  # fmt: skip
    chores.hold("prepare_restore")
    request.start()
    chores.wait_for_one(running)
    outlast_the_timeout()
    assert running.post("/api/events", {"type": "meanwhile"}).status == 201
    health = running.get("/api/health").json()
    assert health["store"]["state"] == "serving"
    assert {problem["code"] for problem in health["problems"]} <= {"stuck"}  # the chore has made no step for so long
    chores.go_on(running)
    request.join()
    assert statuses == [200]
    assert set(running.workers()) == workers
    assert len(exported(running.port)) == 2000


def test_a_start_whose_restore_takes_longer_than_gunicorns_timeout_works(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path
) -> None:
    running = service(workers=1)
    fill(running, "before", 2000)
    made = backup(running)
    fill(running, "after", 10)
    running.stop()
    shutil.copy(made["backupPath"], settings_environment["RESTORE_DIR"])
    chores = HeldChores(tmp_path)
    chores.hold("prepare_restore")
    again = service(arguments=PATIENT, environment=chores.environment, command=chores.command, wait=False)
    chores.wait_for_one(again)
    processes.wait_until(lambda: len(again.workers()) == 2 and answers(again), "no worker answers")
    workers = set(again.workers())
    outlast_the_timeout()
    refused = again.post("/api/events", {"type": "meanwhile"})
    assert refused.status == 503
    assert refused.headers["retry-after"]
    assert again.get("/api/health").json()["status"] == "restoring"
    assert again.get("/api/health/live").status == 200
    chores.go_on(again)
    again.wait_until_ready()
    assert set(again.workers()) == workers
    assert len(exported(again.port)) == 2000


def answers(running: Service) -> bool:
    try:
        return running.get("/api/health").status == 200
    except OSError:
        return False
