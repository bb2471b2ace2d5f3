"""The real service for a test: gunicorn with `wsgi:app`, its workers and the store process that they start."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eventvault.store.owners.health import WAIT_SECONDS
from tests import processes
from tests.leaks import secrets_in
from tests.ports import free_port
from tests.stores import folders_beneath

PROJECT = Path(__file__).resolve().parent.parent
GUNICORN = (sys.executable, "-m", "gunicorn", "wsgi:app")
STOPPED_WITHIN = 25
"""Seconds in which everything must be gone after a stop: less than the deadlines of clients, which no stop waits for.

The promise is 5 on a machine that is not busy.
"""
BUSY_SECONDS = 10
"""How long health is asked again on a busy machine.

Health gives the store a second to answer. The store gives the disks a little less, and then shows what it knew before.
"""
TAKE_OVER_SECONDS = 60
"""How long health is asked again while it says that no store answers: a busy machine takes its time to start one."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Service:
    """A running `gunicorn wsgi:app`, or whatever command brings it about, in a session of its own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], port: int, log: Path, mark: str) -> None:
        self.port = port
        self.base = f"http://127.0.0.1:{port}"
        self.log_file = log
        self._environment = dict(environment)
        self.mark = mark
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def folder(self, setting: str) -> Path:
        """The folder that a setting names, such as BACKUP_DIR."""
        return Path(self._environment[setting])

    def wait_until_ready(self, seconds: float = 120) -> None:
        """Wait until the store answers. Raises AssertionError with the log where gunicorn ends instead."""

        def ready() -> bool:
            assert self.process.poll() is None, f"gunicorn ended with {self.process.returncode}:\n{self.log()}"
            with suppress(OSError, http.client.HTTPException):
                return self.request("GET", "/api/health/ready", timeout=5).status == 200
            return False

        processes.wait_until(ready, "the service is not ready", seconds)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 120,
        port: int | None = None,
        again: bool = True,
    ) -> Reply:
        """Send a request over a connection of its own.

        body: bytes as they are, all else as JSON. port: of a proxy in front of the service. again: ask health again
        while the store does not answer, or may show what it knew before.
        """
        first = time.monotonic()
        while True:
            began = time.monotonic()
            reply = self._request(method, path, body, headers, timeout, port)
            now = time.monotonic()
            is_away, is_late = b'"unreachable"' in reply.body, now - began >= WAIT_SECONDS
            longest = TAKE_OVER_SECONDS if is_away else BUSY_SECONDS if is_late else 0
            if not again or path != "/api/health" or now - first >= longest:
                return reply
            time.sleep(0.1)

    def _request(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None, timeout: float, port: int | None
    ) -> Reply:
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers)
            with connection.getresponse() as answer:  # closed also if it is cut off
                return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Reply:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Reply:
        return self.request("POST", path, body, **options)

    def processes(self) -> dict[int, str]:
        """Process id → command line of all that belong to this service."""
        return processes.marked(self.mark)

    def workers(self) -> list[int]:
        """gunicorn's worker processes."""
        found = []
        for pid, command in self.processes().items():
            with suppress(OSError):
                if "gunicorn" in command and processes.parent(pid) == self.process.pid:
                    found.append(pid)
        return found

    def stores(self) -> list[int]:
        """The store processes: one, or none while the next is being started.

        A child that a store has begun has its command line until it runs its own program.
        """
        found = {pid for pid, command in self.processes().items() if "app.store" in command}
        return [pid for pid in found if not _is_child_of(pid, found)]

    def wait_for_other_store(self, before: Collection[int]) -> None:
        """Wait until a store serves that is none of those `before`; `ready` may be half a second old."""

        def serves() -> bool:
            store = self.get("/api/health").json()["store"] or {}
            return store.get("pid") not in before and store.get("state") in ("serving", "read_only")

        processes.wait_until(serves, "no other store serves")

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal gunicorn, wait until every process is gone, and return gunicorn's exit status."""
        self.processes()  # those that are ending count as there only if they were seen before
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(60)
            processes.wait_until(lambda: not self.processes(), f"left over: {self.processes()}", STOPPED_WITHIN)
        finally:
            processes.kill(self.processes())
            self.process.wait(60)
        return status


def _is_child_of(pid: int, parents: Collection[int]) -> bool:
    with suppress(OSError):  # it has ended
        return processes.parent(pid) in parents
    return False


def service_environment(settings: Mapping[str, str], port: int, mark: str) -> dict[str, str]:
    """This process's environment without any setting of EventVault but `settings`."""
    from eventvault.settings import DECLARATIONS

    kept = {name: value for name, value in os.environ.items() if name not in {each.name for each in DECLARATIONS}}
    return {**kept, "PYTHONUNBUFFERED": "1", **settings, "PORT": str(port), processes.MARK: mark}


@pytest.fixture
def service(settings_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Call it to start the service, as often as is needed; see `services`."""
    with services(settings_environment, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def module_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """As `service`, for fixtures that start a service once for all tests of a module."""
    folder = tmp_path_factory.mktemp("module")
    with services(folders_beneath(folder), folder) as start:
        yield start


@contextmanager
def services(folders: Mapping[str, str], log_folder: Path) -> Iterator[Callable[..., Service]]:
    """Gives a function that starts a service; all services that it starts share the data folders.

    workers: how many. environment: further settings. command: what to run, and arguments: what to put behind it. port:
    where to listen (default: a free one). wait: until the store answers. At the end every service is stopped, and it is
    an error when a process of it, or its port, is still there, or when a token or a cookie is in its log.
    """
    started: list[Service] = []

    def start(
        *,
        workers: int = 2,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        command: Sequence[str] = GUNICORN,
        port: int | None = None,
        wait: bool = True,
    ) -> Service:
        port = port or free_port()
        mark = secrets.token_hex(8)
        settings = {**folders, "WEB_CONCURRENCY": str(workers), **(environment or {})}
        one = Service(
            [*command, *arguments],
            service_environment(settings, port, mark),
            port,
            log_folder / f"service-{len(started)}.log",
            mark,
        )
        started.append(one)
        if wait:
            one.wait_until_ready()
        return one

    try:
        yield start
    finally:  # of a test that fails within too
        problems = [problem for one in started for problem in _stop(one)]
        for one in started:
            print(f"--- {one.log_file.name}\n{one.log()[-20_000:]}")
    assert not problems, problems


def _stop(one: Service) -> list[str]:
    try:
        one.stop()
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        return [str(error)]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", one.port))
        except OSError as error:
            return [f"port {one.port} is not free: {error}"]
    leaked = secrets_in(one.log_file.read_bytes())
    return [f"the log has secrets: {leaked}"] if leaked else []
