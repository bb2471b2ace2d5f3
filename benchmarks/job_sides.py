"""What runs jobs in `make bench-jobs`: EventVault without and with Kafka, Celery and Dramatiq, all with the same slots.

Each is two worker processes, or families of them, of two slots. Each counts its kept results by what stores them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from benchmarks import serving
from benchmarks.load import Client, http_request
from eventvault.errors import EventVaultError
from eventvault.jobs import submitting
from eventvault.jobs.client import JobsClient
from eventvault.jobs.job import JobRequest
from tests import processes
from tests.kafka_process import TARGET
from tests.ports import free_port
from tests.service import PROJECT, Service, service_environment

WORKERS, SLOTS = 2, 2
BATCH = 100
"""Jobs of one POST."""
IDLE_SECONDS = 10.0
PEERS = PROJECT / "benchmarks" / "job-peers.txt"
_TICKS = os.sysconf("SC_CLK_TCK")


class Side(Protocol):
    """name: in the table. hold: no job begins until `release`. done: how many results are kept.

    cpu: seconds of user and system time of the dispatcher, if there is one, and of the workers, so far.
    """

    name: str

    def submit(self, count: int) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...
    def done(self) -> int: ...
    def cpu(self) -> float: ...


class EventVault:
    """The service without a worker of its own, and two that join it, over its socket or over Kafka."""

    def __init__(self, name: str, service: Service, storage: Path) -> None:
        self.name = name
        self.service = service
        self.client = JobsClient.over(storage)
        self._http = Client(service.port)
        self._used_at = time.monotonic()
        self._job = json.dumps({"type": "noop", "payload": {"number": 1}})

    def submit(self, count: int) -> None:
        for begin in range(0, count, BATCH):
            self.post("\n".join([self._job] * min(BATCH, count - begin)))

    def submit_directly(self, count: int) -> None:
        """Submit to the dispatcher, without HTTP."""
        asked = [JobRequest(type="noop", payload=msgspec.Raw(b'{"number":1}')) for _ in range(count)]
        submitting.submit(self.client, asked, "open", ["write"])

    def post(self, body: str) -> bytes:
        """Submit jobs, one a line, over a connection that stays open while it is used."""
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self._http.connection.close()  # gunicorn closes an idle one
            self._http.connect()
        self._used_at = time.monotonic()
        self._http.send(http_request("POST", "/api/jobs", body.encode(), "application/x-ndjson"), self._used_at)
        while (status := self._http.receive()) is None:
            pass
        text = bytes(self._http.received).partition(b"\r\n\r\n")[2]
        if status not in ("200", "201"):
            raise SystemExit(f"POST /api/jobs answered {status}: {text[:500]!r}")
        return text

    def hold(self) -> None:
        self.client.pause("noop")

    def release(self) -> None:
        self.client.resume("noop")

    def done(self) -> int:
        return self.client.status().states.get("done", 0)

    def cpu(self) -> float:
        return sum(self.cpu_of_parts().values())

    def cpu_of_parts(self) -> dict[str, float]:
        """Return the seconds of dispatcher, supervisors and executors with what forks them."""
        found = dict.fromkeys(("dispatcher", "supervisors", "executors"), 0.0)
        for pid, command in self.service.processes().items():
            part = _part(command)
            if part:
                found[part] += cpu_of(pid, with_ended=part == "executors")
        return found

    def is_ready(self) -> bool:
        with suppress(EventVaultError):
            types = {known.type.name: known.workers for known in self.client.types()}
            return types.get("noop") == WORKERS and self.client.status().slots == WORKERS * SLOTS
        return False

    def close(self) -> None:
        self._http.connection.close()
        self.client.close()


def _part(command: str) -> str:
    if "app.dispatcher" in command:
        return "dispatcher"
    if "worker.nursery" in command:
        return "executors"
    return "supervisors" if "-m worker" in command else ""


@contextmanager
def eventvault(name: str, folder: Path, more: Mapping[str, str]) -> Iterator[EventVault]:
    """Yield the service with its two workers. more: settings of both, such as the address of a broker."""
    settings = {
        "JOBS_ENABLED": "true", "JOBS_LOCAL_CONCURRENCY": "0", "WORKER_CONCURRENCY": str(SLOTS),
        "WORKER_JOBS": "benchmarks.job_handlers", "WORKER_ENV": processes.MARK, "PYTHONPATH": str(PROJECT), **more,
    }  # fmt: skip
    folder.mkdir()
    with ExitStack() as stack:
        service = stack.enter_context(serving.eventvault(folder, 2, settings))
        side = EventVault(name, service, folder / "STORAGE_DIR")
        stack.callback(side.close)
        folders = {setting: str(folder / setting) for setting in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
        environment = service_environment({**folders, **settings}, service.port, service.mark)
        for _ in range(WORKERS):
            stack.enter_context(running([sys.executable, "-m", "worker"], environment, folder / "workers.log"))
        processes.wait_until(side.is_ready, "the workers do not come", 60)
        yield side


class Peer:
    """Celery or Dramatiq: its workers, and a client of it that submits. mark: of all its processes."""

    def __init__(self, name: str, folder: Path, module: str, workers: Sequence[Sequence[str]], port: int) -> None:
        self.name = name
        self._workers = workers
        self._port = port
        self._log = folder / f"{module}.log"
        self._mark = secrets.token_hex(8)
        self._environment = {**os.environ, "REDIS_PORT": str(port), processes.MARK: self._mark}
        self._stack = ExitStack()
        self._redis = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._redis.sendall(b"SELECT 1\r\n")
        self._redis.recv(100)
        client = [str(_peers_python()), "-m", module]
        self._client = subprocess.Popen(
            client, env=self._environment, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()
        self.release()

    def submit(self, count: int) -> None:
        assert self._client.stdin is not None
        self._client.stdin.write(f"{count}\n")
        self._client.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._client.stdout is not None
        if not self._client.stdout.readline():
            raise SystemExit(f"the client of {self.name} ended")

    def hold(self) -> None:
        self._stack.close()

    def release(self) -> None:
        for command in self._workers:
            self._stack.enter_context(running(command, self._environment, self._log))

    def done(self) -> int:
        self._redis.sendall(b"DBSIZE\r\n")
        return int(self._redis.recv(100).strip(b":\r\n"))

    def cpu(self) -> float:
        """Without the client that submits, and without Redis."""
        of_workers = (pid for pid in processes.marked(self._mark) if pid != self._client.pid)
        return sum(cpu_of(pid, with_ended=True) for pid in of_workers)

    def close(self) -> None:
        self.hold()
        self._client.terminate()
        self._client.wait(30)
        self._redis.close()


@contextmanager
def celery(folder: Path, port: int) -> Iterator[Peer]:
    program = str(_peers_python().with_name("celery"))
    options = ["--app", "benchmarks.celery_jobs", "worker", "--concurrency", str(SLOTS), "--loglevel", "ERROR"]
    workers = [[program, *options, "--hostname", f"worker{number}@%h"] for number in range(WORKERS)]
    yield from _peer("Celery", folder, "benchmarks.celery_jobs", workers, port)


@contextmanager
def dramatiq(folder: Path, port: int) -> Iterator[Peer]:
    program = str(_peers_python().with_name("dramatiq"))
    worker = [program, "benchmarks.dramatiq_jobs", "--processes", str(SLOTS), "--threads", "1"]
    yield from _peer("Dramatiq", folder, "benchmarks.dramatiq_jobs", [worker] * WORKERS, port)


def _peer(name: str, folder: Path, module: str, workers: Sequence[Sequence[str]], port: int) -> Iterator[Peer]:
    peer = Peer(name, folder, module, workers, port)
    try:
        yield peer
    finally:
        peer.close()


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Yield the port of a Redis that has each change on disk before it answers, as EventVault does."""
    folder.mkdir()
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    durable = ["--appendonly", "yes", "--appendfsync", "always"]
    with running([*command, *durable], os.environ, folder / "redis.log"):
        processes.wait_until(lambda: _listens(port), "Redis does not answer")
        yield port


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def have_peers() -> bool:
    """Install Celery and Dramatiq in an environment of their own, once; return whether there is Redis for them."""
    if shutil.which("redis-server") is None:
        return False
    python = _peers_python()
    if not python.exists():
        folder = python.parents[1]
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        try:
            subprocess.run([*pip, "--requirement", str(PEERS)], check=True, timeout=600)
        except (subprocess.SubprocessError, OSError):
            shutil.rmtree(folder)
            raise
    return True


def _peers_python() -> Path:
    return TARGET / f"job-peers-{hashlib.sha256(PEERS.read_bytes()).hexdigest()[:12]}" / "bin" / "python"


def cpu_of(pid: int, *, with_ended: bool = False) -> float:
    """Return the seconds of user and system time of a process. with_ended: and of the children that it waited for."""
    try:
        times = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:15]
    except OSError:  # it has ended
        return 0.0
    return sum(map(int, times if with_ended else times[:2])) / _TICKS


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
