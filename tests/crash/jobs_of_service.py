"""The jobs of a service under test: its processes by their parts, what its handlers wrote down, and its database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sortedcontainers import SortedDict

from eventvault import data_folders
from eventvault.errors import EventVaultError, JobNotFound, JobsUnavailable, OutcomeUnknown
from eventvault.jobs import keys
from eventvault.jobs.client import JobsClient
from eventvault.jobs.job import Job, JobRequest
from eventvault.jobs.port import KnownType, QueueStatus
from tests.eventvault.jobs.rig import MemoryDatabase
from tests.processes import MARK, parent, states, wait_until
from tests.restoring import opened
from tests.service import PROJECT, Service

HANDLERS = "tests.crash.job_handlers"
PATIENCE_SECONDS = 90.0
CLIENT_SECONDS = 60.0
"""How long a request waits for a dispatcher: a busy machine takes its time to start the one that takes over."""


class Run(NamedTuple):
    """A run of a handler. end: None if its process was killed."""

    job: str
    attempt: int
    begin: float
    end: float | None


@dataclass
class Jobs:
    """The service under test, and what its handlers wrote down.

    environment: of the workers that the test starts beside it, which are `more_workers`.
    """

    service: Service
    ledger: Path
    client: JobsClient
    environment: dict[str, str]
    more_workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _copies: int = 0

    def parts(self) -> dict[str, list[int]]:
        """Part → its processes: store, dispatcher, supervisor, nursery, executor."""
        found = self.service.processes()
        parts: dict[str, list[int]] = defaultdict(list)
        for pid, line in found.items():
            part = _part_of(pid, line, found)
            if part:
                parts[part].append(pid)
        return parts

    def pids(self, part: str) -> list[int]:
        return self.parts()[part]

    def pid(self, part: str) -> int:
        wait_until(lambda: len(self.pids(part)) == 1, f"there is not one {part}")
        return self.pids(part)[0]

    def submit(self, *ids: str, seconds: float = 0.0, key: str | None = None, delay: float | None = None) -> None:
        """Submit jobs until they are accepted, as a client does that is told to try again."""
        payload = msgspec.Raw(msgspec.json.encode(seconds))
        self.accept([JobRequest(id=one, type="note", payload=payload, key=key, delay=delay) for one in ids])

    def accept(self, asked: list[JobRequest]) -> None:
        while True:
            try:
                self.client.submit(asked, "open", ["write"])
            except (JobsUnavailable, OutcomeUnknown):
                continue
            return

    def job(self, job_id: str) -> Job:
        return self.client.job(job_id).job

    def wait_for(self, job_id: str, *states: str) -> Job:
        """A job that is still on its way through a topic is waited for."""
        found: list[Job] = []

        def is_there() -> bool:
            with suppress(JobNotFound):
                found.append(self.job(job_id))
            return bool(found) and found[-1].state in states

        wait_until(is_there, f"{job_id} does not become {states}", PATIENCE_SECONDS)
        return found[-1]

    def types(self) -> list[KnownType]:
        """Those that workers have named; none while no dispatcher answers."""
        try:
            return self.client.types()
        except EventVaultError:
            return []

    def status(self) -> QueueStatus | None:
        try:
            return self.client.status()
        except EventVaultError:
            return None

    def wait_for_workers(self, count: int = 1) -> None:
        def are_there() -> bool:
            status = self.status()
            names = [one.type.name for one in self.types()]
            return status is not None and status.workers == count and "note" in names

        wait_until(are_there, f"there are not {count} workers", PATIENCE_SECONDS)

    def wait_for_quiet(self, count: int) -> None:
        """Wait until at least so many jobs are there and none is unfinished, however long, while some of them end."""
        seen: list[int] = []

        def ends_or_goes_on() -> bool:
            status = self.status()
            if status is None:
                return False
            missing = max(count - sum(status.states.values()), 0)
            seen.append(missing + status.waiting + status.running + status.held)
            return seen[-1] == 0 or seen[-1] < seen[0]

        while not seen or seen[-1]:
            seen.clear()
            wait_until(ends_or_goes_on, "jobs are unfinished, and none ends", PATIENCE_SECONDS)

    def runs(self) -> list[Run]:
        begun: dict[tuple[str, int], float] = {}
        ended: dict[tuple[str, int], float] = {}
        for line in self.ledger.read_text().splitlines():
            word, job_id, attempt, at, _ = line.split()
            times = begun if word == "begin" else ended
            assert (job_id, int(attempt)) not in times, f"an attempt ran twice: {line}"
            times[job_id, int(attempt)] = float(at)
        return [Run(*key, at, ended.get(key)) for key, at in begun.items()]

    def run_to_the_end(self) -> int:
        """How many runs of handlers came to their end."""
        return self.ledger.read_bytes().count(b"end ")

    def start_worker(self, words: Path) -> subprocess.Popen[bytes]:
        """Start one more worker, which counts as a process of the service."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        own = {**kept, **self.environment, "PYTHONPATH": str(PROJECT), MARK: self.service.mark}
        with words.open("ab") as output:
            command = [sys.executable, "-m", "worker", HANDLERS]
            self.more_workers.append(subprocess.Popen(command, stderr=output, cwd=PROJECT, env=own))
        return self.more_workers[-1]

    def living_workers(self) -> list[subprocess.Popen[bytes]]:
        """Those that the test started."""
        return [process for process in self.more_workers if process.poll() is None]

    def close(self) -> None:
        for process in self.more_workers:
            process.kill()
            process.wait()
        self.client.close()

    # The database

    def image(self) -> MemoryDatabase:
        """Return what `jobs_db` has, copied while the dispatcher stands still."""
        with stopped(self.pid("dispatcher")):
            copy = self.copy_database()
        return image_of(copy)

    def image_without_letters(self) -> MemoryDatabase:
        """Return what `jobs_db` has once the brokers have all outcomes."""
        images: list[MemoryDatabase] = []

        def is_empty() -> bool:
            images.append(self.image())
            return not images[-1].keys_of(keys.OUTBOX)

        wait_until(is_empty, "outcomes wait for the brokers", PATIENCE_SECONDS)
        return images[-1]

    def copy_database(self) -> Path:
        """The dispatcher stands still. Returns the folder of the copy."""
        self._copies += 1
        copy = self.ledger.with_name(f"jobs_db-{self._copies}")
        return Path(shutil.copytree(self.service.folder("STORAGE_DIR") / data_folders.JOBS_DATABASE, copy))


def _part_of(pid: int, line: str, lines: dict[int, str]) -> str:
    """Executors are forks of the nursery, and have its command line."""
    with suppress(OSError):
        if "worker.nursery" in line:
            return "executor" if "worker.nursery" in lines.get(parent(pid), "") else "nursery"
        for part, module in (("store", "app.store"), ("dispatcher", "app.dispatcher"), ("supervisor", "-m worker")):
            if module in line:
                return part
    return ""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process while the block runs."""
    stop(pid)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def stop(pid: int) -> None:
    """Returns once each thread of the process stands still, or it has ended."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state in "TtZX" for state in states(pid)), f"process {pid} does not stop")


def image_of(folder: Path) -> MemoryDatabase:
    """Return what a copy of `jobs_db` has, as the checks of a database in memory take it."""
    image = MemoryDatabase()
    with opened(folder) as database:
        image.entries = SortedDict(iter(database))
    return image


def lasting(image: MemoryDatabase, passing: tuple[bytes, ...] = ()) -> dict[bytes, bytes]:
    """Return all keys but those of ticks and sessions, and how far what they say was read. passing: further ones."""
    reports = tuple(key for key in image.keys_of(keys.POSITION) if keys.read_position(key)[0].endswith(".reports"))
    without = (keys.TICKS, keys.SESSION, *reports, *passing)
    return {key: value for key, value in image.entries.items() if not key.startswith(without)}


def differences(before: dict[bytes, bytes], after: dict[bytes, bytes]) -> dict[bytes, Any]:
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return {key: (before.get(key), after.get(key)) for key in changed}
