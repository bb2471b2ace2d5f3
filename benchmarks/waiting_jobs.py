"""What a million waiting jobs cost a dispatcher: memory, its start, and its stop, which writes them to a file."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from benchmarks import report
from benchmarks.job_sides import running
from eventvault import data_folders
from eventvault.errors import EventVaultError
from eventvault.jobs import submitting, unfinished, wire
from eventvault.jobs.client import JobsClient
from eventvault.jobs.job import JobRequest
from eventvault.rpc import frames, sockets
from tests import processes
from tests.service import service_environment

MOST_MEMORY, MOST_START, MOST_STOP = 150 * 10**6, 5.0, 20.0
PATIENCE = 300.0
PAGE = 1_000


def measure_waiting(folder: Path, count: int, results: report.Report) -> None:
    """Start and stop a dispatcher with many waiting jobs, and see its memory."""
    folder.mkdir()
    with _dispatcher(folder) as alone:
        alone.name_types()
        alone.submit(count)
        fresh, stopped = alone.most_memory(), alone.stop()
    jobs = f"{count:,} waiting jobs"
    results.add(_row(f"{jobs}: memory of the dispatcher that took them", fresh, MOST_MEMORY))
    results.add(_seconds(f"{jobs}: its stop, `unfinished.jsonl.gz` included", stopped, MOST_STOP))
    with _dispatcher(folder) as alone:
        started = alone.seconds_to_start
        stopped, lines = alone.stop(), alone.unfinished()
        memory = alone.most_memory()
    results.add(_seconds(f"{jobs}: start", started, MOST_START))
    results.add(_row(f"{jobs}: memory of the dispatcher that starts with them", memory, MOST_MEMORY))
    results.add(_seconds(f"{jobs}: stop of one that changed nothing", stopped, MOST_STOP))
    whole = lines == count
    results.add(report.Row(f"{jobs}: in `unfinished.jsonl.gz`", f"{lines:,}", f"{count:,}", whole))


def _row(what: str, measured: float, most: float) -> report.Row:
    return report.Row(what, f"{measured / 1e6:.0f} MB", f"{most / 1e6:.0f} MB", measured < most)


def _seconds(what: str, measured: float, most: float) -> report.Row:
    return report.Row(what, f"{measured:.2f} s", f"{most:.0f} s", measured < most)


class _Alone:
    """A dispatcher without a service."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folders = {name: str(folder / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
        for path in folders.values():
            Path(path).mkdir(exist_ok=True)
        settings = {**folders, "JOBS_LOCAL_CONCURRENCY": "0", "WORKER_JOBS": "benchmarks.job_handlers"}
        self._environment = service_environment({**settings, "LOG_LEVEL": "warning"}, 0, "alone")
        del self._environment["PORT"]
        self.client = JobsClient.over(folder / "STORAGE_DIR", patience=PATIENCE)
        began = time.perf_counter()
        with (folder / "dispatcher.log").open("ab") as log:
            command = [sys.executable, "-m", "app.dispatcher"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        processes.wait_until(self._answers, "the dispatcher does not answer", 120)
        self.seconds_to_start = time.perf_counter() - began
        self._keeper = self._keep()
        self._most = 0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _answers(self) -> bool:
        with suppress(EventVaultError):
            return self.client.status().states is not None
        return False

    def _keep(self) -> socket.socket:
        """Say hello as a store does, or it ends."""
        keeper = sockets.connect(self._folder / "STORAGE_DIR", PATIENCE, data_folders.JOBS_SOCKET)
        frames.send(keeper, wire.request("hello"))
        frames.receive(keeper)
        return keeper

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            with suppress(OSError):
                self._most = max(self._most, processes.own_memory(self._process.pid))

    def most_memory(self) -> int:
        return self._most

    def name_types(self) -> None:
        """Let a worker come and go: what it names is accepted from then on."""
        with running([sys.executable, "-m", "worker"], self._environment, self._folder / "worker.log"):
            processes.wait_until(lambda: any(each.type.name == "noop" for each in self.client.types()), "no worker")

    def submit(self, count: int) -> None:
        payload = msgspec.Raw(b'{"number":1}')
        for begin in range(0, count, PAGE):
            asked = [JobRequest(type="noop", payload=payload) for _ in range(min(PAGE, count - begin))]
            submitting.submit(self.client, asked, "open", ["write"])

    def stop(self) -> float:
        """End it, and return how long that took."""
        began = time.perf_counter()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)
        return time.perf_counter() - began

    def unfinished(self) -> int:
        """Return how many jobs the file of them has."""
        path = self._folder / "BACKUP_DIR" / data_folders.JOBS / data_folders.UNFINISHED_JOBS
        return sum(isinstance(line, unfinished.JobLine) for line in unfinished.read(path))

    def close(self) -> None:
        self._ended.set()
        self._watcher.join()
        self._keeper.close()
        self.client.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def _dispatcher(folder: Path) -> Iterator[_Alone]:
    alone = _Alone(folder)
    try:
        yield alone
    finally:
        alone.close()
