"""Stopping and reloading: requests in flight are answered, and nothing is left running or locked."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import plyvel
import pytest

from tests import processes
from tests.crash.load import LOST, check_history, exported, loading
from tests.ports import free_port
from tests.service import PROJECT, STOPPED_WITHIN, Service


def begin_post(running: Service, event_id: str) -> tuple[socket.socket, bytes]:
    """A request of which half is sent: (the connection, the rest)."""
    body = json.dumps({"type": "slow", "id": event_id}).encode()
    head = (
        f"POST /api/events HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=60)
    connection.sendall(head.encode() + body[:5])
    return connection, body[5:]


def finish(connection: socket.socket, rest: bytes) -> int:
    """The status of the answer."""
    with connection:
        connection.sendall(rest)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answer.read()
        return answer.status


def events_in(database: Path) -> int:
    """Opened by plyvel alone: nobody holds it any more.

    A process that ends is out of sight a moment before the kernel gives its locks back.
    """
    opened: list[plyvel.DB] = []

    def free() -> bool:
        with suppress(plyvel.IOError):
            opened.append(plyvel.DB(str(database)))
        return bool(opened)

    processes.wait_until(free, f"{database} is locked")
    with opened[0] as db, db.iterator(prefix=b"e", include_value=False) as keys:
        return sum(1 for _ in keys)


@pytest.mark.parametrize(
    ("workers", "arguments"),
    [
        pytest.param(1, [], id="1 worker"),
        pytest.param(2, ["--preload"], id="preload"),
        pytest.param(8, [], id="8 workers", marks=pytest.mark.soak),
        pytest.param(8, ["--preload"], id="8 workers, preload", marks=pytest.mark.soak),
    ],
)
def test_what_is_under_way_is_answered_and_nothing_is_left(
    service: Callable[..., Service], settings_environment: dict[str, str], workers: int, arguments: list[str]
) -> None:
    running = service(workers=workers, arguments=arguments)
    begun = [begin_post(running, f"slow-{index}") for index in range(4)]
    processes.wait_until(lambda: _being_read(begun, running), "the requests are not being read")
    running.process.terminate()
    processes.wait_until(lambda: "Handling signal: term" in running.log(), "gunicorn takes no notice")
    assert [finish(*one) for one in begun] == [201] * 4
    assert running.stop() == 0
    assert events_in(Path(settings_environment["STORAGE_DIR"]) / "event_registry_db") == 4


def test_an_interrupt_lets_short_requests_end_and_cuts_long_ones(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service(workers=1)
    short, long = begin_post(running, "short"), begin_post(running, "long")
    processes.wait_until(lambda: _being_read([short, long], running), "the requests are not being read")
    running.process.send_signal(signal.SIGINT)
    processes.wait_until(lambda: "Handling signal: int" in running.log(), "gunicorn takes no notice")
    assert finish(*short) == 201
    with long[0]:
        assert running.stop(signal.SIGINT) == 0
    assert events_in(Path(settings_environment["STORAGE_DIR"]) / "event_registry_db") == 1


@pytest.mark.parametrize("rounds", [pytest.param(2, id="short"), pytest.param(30, id="long", marks=pytest.mark.soak)])
def test_an_interrupt_at_the_first_request_hangs_nothing(service: Callable[..., Service], rounds: int) -> None:
    for _ in range(rounds):
        running = service(workers=1)
        assert running.post("/api/events", {"type": "a"}).status == 201
        assert running.stop(signal.SIGINT) == 0


def _being_read(begun: list[tuple[socket.socket, bytes]], running: Service) -> bool:
    """Whether the workers took every connection and what was sent on it; the kernel's table says so."""
    ours = {connection.getsockname()[1] for connection, _ in begun}
    waiting = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *rest = line.split()
        if int(local.split(":")[1], 16) == running.port and int(remote.split(":")[1], 16) in ours:
            inode = rest[4]
            if state == "01" and queues.endswith(":00000000") and inode != "0":
                waiting.add(int(remote.split(":")[1], 16))
    return waiting == ours


def test_a_reload_is_noticed_by_no_client(service: Callable[..., Service]) -> None:
    running = service()
    with loading(running.port, writers=3) as load:
        for _ in range(2):
            before = set(running.workers())
            running.process.send_signal(signal.SIGHUP)
            processes.wait_until(lambda: not before & set(running.workers()), "the workers stay", 60)  # noqa: B023
            load.advance(10)
    # A connection that is kept alive ends with its worker, which a client must expect. Whoever loses the connection to
    # one of the two may get the next one from the other, which is about to end too.
    assert set(load.troubles) <= {LOST}
    assert load.troubles[LOST] <= 2 * 3 * 2
    check_history(exported(running.port), load.acknowledged)


@pytest.mark.parametrize("module", [["gunicorn", "wsgi:app"], ["app"]])
def test_a_second_master_replaces_the_first(service: Callable[..., Service], module: list[str]) -> None:
    running = service(command=[sys.executable, "-m", *module], workers=1)
    assert running.post("/api/events", {"type": "a"}).status == 201
    running.process.send_signal(signal.SIGUSR2)
    try:
        processes.wait_until(lambda: running.log().count(" serves ") == 2, "the second master has no store")
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(60)
        assert running.post("/api/events", {"type": "b"}).json()["lastSequence"] == 2
        assert "Traceback" not in running.log()
    finally:
        processes.kill({pid: name for pid, name in running.processes().items() if "gunicorn" in name}, signal.SIGTERM)


def test_flask_run_serves_and_leaves_nothing(service: Callable[..., Service]) -> None:
    port = free_port()
    running = service(
        command=[sys.executable, "-m", "flask", "--app", "wsgi", "run"],
        environment={"FLASK_RUN_PORT": str(port)},
        port=port,
    )
    assert running.post("/api/events", {"type": "a"}).status == 201
    running.process.send_signal(signal.SIGINT)
    running.process.wait(90)
    processes.wait_until(lambda: not running.processes(), "the store lives on", STOPPED_WITHIN)


def test_a_client_within_a_test_leaves_nothing_when_the_test_ends(service: Callable[..., Service]) -> None:
    program = """
        from app import create_app
        from eventvault.settings import load

        app = create_app(load())
        app.config["TESTING"] = True
        assert app.test_client().post("/api/events", json={"type": "tested"}).status_code == 201
        print("done", flush=True)
    """
    ran = service(command=[sys.executable, "-c", textwrap.dedent(program)], wait=False)
    assert ran.process.wait(60) == 0, ran.log()
    assert "done" in ran.log()
    processes.wait_until(lambda: not ran.processes(), "the store lives on", STOPPED_WITHIN)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.skipif(not (PROJECT / ".venv" / "runtime.installed").exists(), reason="make did not make .venv")
def test_make_that_is_stopped_under_load_loses_nothing(service: Callable[..., Service]) -> None:
    running = service(command=["make", "--no-print-directory", "--assume-old=requirements.txt", "run"])
    with loading(running.port) as load:
        os.kill(running.process.pid, signal.SIGTERM)
        running.process.wait(60)
        processes.wait_until(lambda: not running.processes(), "something lives on", STOPPED_WITHIN)
    check_history(exported(service(workers=1).port), load.acknowledged)
